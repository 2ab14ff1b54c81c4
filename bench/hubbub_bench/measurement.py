"""What one run of a scenario comes to."""

from dataclasses import dataclass, field
from enum import StrEnum

from .drivers.load import Verdict
from .usage import Usage

BUSY = 0.9
"""Cores from which on a single-threaded process counts as having had no time to spare."""


@dataclass(frozen=True)
class LogUse:
    """What a broker's log took over a run, warm-up and all."""

    bytes: float
    records: float
    syncs: float
    batch_mean: float
    """Records in a group commit."""


@dataclass(frozen=True)
class Conversation:
    """What a run came to in one conversation, over all of its members."""

    topic: str
    published: int
    delivered: int
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unanswered: int = 0
    missed: int = 0
    """Ephemeral messages that a member missed because it was away or slow: nobody promised them."""


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
    """Whether the load was fixed beforehand, so that nothing was pushed to its limit but perhaps the driver."""
    log: LogUse | None = None
    """What the broker's log took, from its metrics."""
    distributions: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """For pictures: percentages, and milliseconds that so many did not exceed."""
    timeline: list[tuple[float, float]] = field(default_factory=list)
    """Seconds from the start of the load, and deliveries (without subscribers: answers) a second just before."""
    conversations: list[Conversation] = field(default_factory=list)
    """What it came to in each, of a team."""

    @property
    def limit(self) -> Limit | None:
        """What held the run back, as far as processor time tells."""
        if self.usage is None:
            return None
        limit = limit_of(self.usage)
        if self.paced:
            return limit if limit in (Limit.DRIVER, Limit.BOTH) else None
        return limit


def limit_of(usage: Usage) -> Limit:
    """Who was busy. `NEITHER` is waiting for each other or for the disk, while a core had time to spare."""
    driver = (usage.busiest_cores or usage.driver_cores) >= BUSY
    if usage.broker_cores is None:
        return Limit.DRIVER if driver else Limit.UNKNOWN
    if usage.broker_cores >= BUSY:
        return Limit.BOTH if driver else Limit.BROKER
    if driver:
        return Limit.DRIVER
    used = usage.broker_cores + usage.driver_cores + usage.other_cores
    return Limit.MACHINE if used >= BUSY * usage.cores and usage.other_cores >= 1 - BUSY else Limit.NEITHER
