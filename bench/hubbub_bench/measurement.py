"""What one run of a scenario comes to."""

from dataclasses import dataclass, field
from enum import StrEnum

from .drivers.load import Verdict
from .usage import Usage

BUSY = 0.9
"""Cores from which on a single-threaded process counts as having had no time to spare."""


class Limit(StrEnum):
    """What could not have gone faster."""

    BROKER = "broker"
    DRIVER = "driver"
    BOTH = "broker and driver"
    MACHINE = "other processes"
    NEITHER = "neither"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """One number that was read off."""

    name: str
    value: float
    unit: str
    shown: bool = True
    """Whether it stands in the table; the JSON has all."""


@dataclass(frozen=True)
class Run:
    """One run: its numbers, what was wrong with its messages, what it used."""

    readings: list[Reading]
    verdict: Verdict = field(default_factory=Verdict)
    usage: Usage | None = None
    paced: bool = False
    """Whether the load was fixed beforehand, so that nothing was pushed to its limit."""

    @property
    def limit(self) -> Limit | None:
        """What held the run back, as far as processor time tells."""
        if self.usage is None or self.paced:
            return None
        return limit_of(self.usage)


def limit_of(usage: Usage) -> Limit:
    """Who was busy. `NEITHER` is waiting for each other or for the disk, while a core had time to spare."""
    driver = usage.driver_cores >= BUSY
    if usage.broker_cores is None:
        return Limit.DRIVER if driver else Limit.UNKNOWN
    if usage.broker_cores >= BUSY:
        return Limit.BOTH if driver else Limit.BROKER
    if driver:
        return Limit.DRIVER
    used = usage.broker_cores + usage.driver_cores + usage.other_cores
    return Limit.MACHINE if used >= BUSY * usage.cores and usage.other_cores >= 1 - BUSY else Limit.NEITHER
