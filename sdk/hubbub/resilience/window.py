"""Sliding windows: what became of the latest calls. Pure: the time is told.

A time-based window is a row of buckets. The newest is still filling, so it covers between `seconds - seconds / buckets`
and `seconds`. A count-based window is a ring of the last calls. Either one's memory is bounded by its own size,
whatever the number of calls.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls that have ended; how many of them failed, and how many were slow (failed or not)."""

    calls: int = 0
    failures: int = 0
    slow: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.calls + other.calls, self.failures + other.failures, self.slow + other.slow)

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.calls - other.calls, self.failures - other.failures, self.slow - other.slow)


@dataclass(frozen=True, slots=True)
class TimeBased:
    """The calls of the last `seconds`, in `buckets` steps."""

    seconds: float = 30.0
    buckets: int = 10

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.buckets < 1:
            raise ValueError(f"{self}: a window needs some time and at least one bucket")

    @property
    def width(self) -> float:
        """Seconds of one bucket."""
        return self.seconds / self.buckets

    def make(self) -> "TimeWindow":
        """An empty window."""
        return TimeWindow(self)


@dataclass(frozen=True, slots=True)
class CountBased:
    """The last `calls` calls, however old."""

    calls: int = 100

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ValueError(f"{self}: a window holds at least one call")

    def make(self) -> "CountWindow":
        """An empty window."""
        return CountWindow(self)


SlidingWindow = TimeBased | CountBased


class TimeWindow:
    """Counts by time."""

    __slots__ = ("_buckets", "_spec")

    def __init__(self, spec: TimeBased) -> None:
        self._spec = spec
        self._buckets: deque[tuple[int, Counts]] = deque(maxlen=spec.buckets)

    def record(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count a call that has ended."""
        self.add(now, Counts(1, int(failed), int(slow)))

    def add(self, now: float, counts: Counts) -> None:
        """Count several."""
        number = int(now // self._spec.width)
        # Two threads may read the clock in one order and come here in the other: the newest bucket takes both.
        if self._buckets and self._buckets[-1][0] >= number:
            number, there = self._buckets.pop()
            counts = there + counts
        self._buckets.append((number, counts))

    def counts(self, now: float) -> Counts:
        """What is in the window."""
        return sum((counts for _, counts in self.ages(now)), Counts())

    def ages(self, now: float) -> Iterator[tuple[float, Counts]]:
        """Its buckets, oldest first, each with the seconds since it began."""
        for number, counts in self._buckets:
            age = now - number * self._spec.width
            if age < self._spec.seconds:
                yield max(0.0, age), counts

    def reset(self) -> None:
        """Forget everything."""
        self._buckets.clear()


class CountWindow:
    """Counts of the last calls."""

    __slots__ = ("_calls", "_counts")

    def __init__(self, spec: CountBased) -> None:
        self._calls: deque[Counts] = deque(maxlen=spec.calls)
        self._counts = Counts()

    def record(self, now: float, *, failed: bool, slow: bool) -> None:  # noqa: ARG002 - as a time-based one
        """Count a call that has ended."""
        if len(self._calls) == self._calls.maxlen:
            self._counts -= self._calls[0]
        call = Counts(1, int(failed), int(slow))
        self._calls.append(call)
        self._counts += call

    def counts(self, now: float) -> Counts:  # noqa: ARG002 - as a time-based one
        """What is in the window."""
        return self._counts

    def reset(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._counts = Counts()
