"""What a process of a team has counted so far."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import NamedTuple

from hubbub_bench.drivers.connection import DriverError

NEVER = 2**63 - 1


class Sample(NamedTuple):
    """How far everything was at a moment."""

    at: float
    """Seconds on the monotonic clock."""
    published: int
    acked: int
    delivered: int


@dataclass
class Tally:
    """Counters of all members of one process, and the samples of the measured window."""

    published: int = 0
    acked: int = 0
    delivered: int = 0
    redelivered: int = 0
    """Deliveries to consumers that came again with an `attempt`: they are promised, and no duplicates."""
    told: int = 0
    """Ephemeral messages that the broker said it dropped for a slow reader."""
    gaps: int = 0
    """Gaps in what is durable."""
    strays: int = 0
    left: int = 0
    """How often an agent left and came back."""
    hung_up: Counter[int] = field(default_factory=Counter)
    """Connections that the broker ended, by close code; 0 is without one."""
    sending: bool = False
    record_from: int = NEVER
    """Latencies are recorded of messages that were due at this time or later, in ns of the monotonic clock, …"""
    record_to: int = NEVER
    """… and before this, however late they come."""
    latencies: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds from when a message was due until a member who was there all the while had it."""
    ack_latencies: array[int] = field(default_factory=lambda: array("q"))
    lateness: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds between when messages were due and when this process sent them."""
    timeline: list[Sample] = field(default_factory=list)
    """Several a second."""
    window: tuple[Sample, Sample] | None = None
    """At the beginning and at the end of what is measured."""
    abandoned: set[int] = field(default_factory=set)
    """Keys of messages that were under way when their publisher left. They come, and are not timed."""
    failure: DriverError | None = None

    def fail(self, error: DriverError) -> None:
        """The run is void. The first reason counts."""
        if self.failure is None:
            self.failure = error

    def check(self) -> None:
        """Raise what has failed, if anything has."""
        if self.failure is not None:
            raise self.failure

    def sample(self) -> Sample:
        """Note how far everything is."""
        self.timeline.append(Sample(monotonic_ns() / 1e9, self.published, self.acked, self.delivered))
        return self.timeline[-1]
