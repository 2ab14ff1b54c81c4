"""The load: what all agents of one run share, and what has come of it so far."""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field

from .checker import Checker
from .connection import DriverError

DRAIN_PATIENCE = 5.0
"""Seconds without progress after which what has not come by the end of a run counts as lost."""


@dataclass
class Load:
    """Counters of one run, and the samples of its window."""

    published: int = 0
    acked: int = 0
    delivered: int = 0
    strays: int = 0
    """Messages of publishers that are none of this run's."""
    gaps: int = 0
    """How often the broker said that a reader missed something."""
    sending: bool = False
    """Whether publishers fill their windows."""
    record_from: int = sys.maxsize
    """Latencies are recorded of messages that were due at this time or later, in ns of the monotonic clock, …"""
    record_to: int = sys.maxsize
    """… and before this. What was due in time and comes late counts: leaving it out would hide what held it up."""
    time_deliveries: bool = False
    """Whether deliveries are timed: it costs the driver 0.2 µs for each."""
    latencies: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds from when a message was due to be sent until a subscriber had it."""
    ack_latencies: array[int] = field(default_factory=lambda: array("q"))
    """The same, until the publisher had its `ok`."""
    timeline: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the load began, and deliveries (without subscribers: answers) a second just before."""
    goal: int = sys.maxsize
    """How many deliveries `goal_met` waits for."""
    failure: DriverError | None = None
    _failed: asyncio.Event = field(default_factory=asyncio.Event)
    _goal_met: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: DriverError) -> None:
        """The run is void. The first reason counts."""
        if self.failure is None:
            self.failure = error
            self._failed.set()
            self._goal_met.set()

    def reach_goal(self) -> None:
        """As many deliveries as the goal is have come."""
        self._goal_met.set()

    async def goal_met(self) -> None:
        """Return at once when the goal is reached, or when nothing more comes.

        Raises:
            DriverError: as soon as anything fails.
        """
        before = -1
        while self.delivered < self.goal and self.failure is None and self.delivered != before:
            before = self.delivered
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_PATIENCE):
                    await self._goal_met.wait()
        self.check()

    async def last(self, seconds: float) -> None:
        """Let the load go on for so long.

        Raises:
            DriverError: as soon as anything fails.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._failed.wait()
        except TimeoutError:
            return
        self.check()

    async def until(self, delivered: int, acked: int, patience: float = DRAIN_PATIENCE) -> None:
        """Wait until so much has come, or nothing more comes for so many seconds.

        Raises:
            DriverError: as soon as anything fails.
        """
        quiet = 0.0
        before = (-1, -1)
        while (self.delivered < delivered or self.acked < acked) and quiet < patience:
            now = (self.delivered, self.acked)
            quiet = quiet + 0.01 if now == before else 0.0
            before = now
            await self.last(0.01)
        self.check()

    def check(self) -> None:
        """Raise what has failed, if anything has."""
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True)
class Verdict:
    """What was wrong with the messages of a run. All 0 is what a run should come to."""

    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unanswered: int = 0
    """Publishes without an `ok`."""
    strays: int = 0
    gaps: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        """Both together."""
        return Verdict(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return self == Verdict()

    def __str__(self) -> str:
        return (
            f"lost {self.lost}, duplicated {self.duplicated}, out of order {self.out_of_order}, "
            f"unanswered {self.unanswered}, strays {self.strays}, gaps {self.gaps}"
        )


def judge(load: Load, received: Iterator[tuple[Checker, int]], answered: Iterator[tuple[Checker, int]]) -> Verdict:
    """The verdict over checkers, each with how many it should have seen: of readers, and of publishers' answers."""
    lost = duplicated = out_of_order = unanswered = 0
    for checker, sent in received:
        lost += checker.lost(sent)
        duplicated += checker.duplicated
        out_of_order += checker.out_of_order
    for checker, sent in answered:
        unanswered += checker.lost(sent)
        duplicated += checker.duplicated
        out_of_order += checker.out_of_order
    return Verdict(lost, duplicated, out_of_order, unanswered, load.strays, load.gaps)
