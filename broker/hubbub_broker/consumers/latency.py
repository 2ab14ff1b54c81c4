"""How long messages take to a consumer's members, and how long those take for them: so that a slow agent has a name.

sequenced ---- sent ------------- acked
    `-- wait ---' `---- work -----'
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from hubbub_broker.metrics import Histogram

if TYPE_CHECKING:
    from .lease import Lease

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Seconds: from a handler that only counts to one that works for two hours."""

OTHERS = "(other)"
"""Stands for the agents beyond the bound, so that names don't grow the metrics without end."""

RECENT = 128
"""Newest messages of each agent, and of each consumer, from which their present speed is told."""


class Work(NamedTuple):
    """A consumer's work as one agent does it."""

    consumer: str
    topic: str
    """The consumer's own: what two consumers of one name on different topics do is not to be compared."""
    agent: str


class Pace:
    """How fast one agent works for one consumer."""

    __slots__ = ("recent", "recent_total", "total", "work")

    def __init__(self) -> None:
        self.work = Histogram(BOUNDS)
        """Seconds from sent to acked."""
        self.total = Histogram(BOUNDS)
        """Seconds from sequenced to acked: all that a message took."""
        self.recent: deque[float] = deque(maxlen=RECENT)
        """Of `work`, the newest."""
        self.recent_total: deque[float] = deque(maxlen=RECENT)
        """Of `total`, the newest."""

    def quantile(self, part: float) -> float:
        """Of the newest messages, the time that so many of them took at most. 0.0 when there are none."""
        return quantile(self.recent, part)


class Waits:
    """How long messages wait for a member of a consumer."""

    __slots__ = ("recent", "wait")

    def __init__(self) -> None:
        self.wait = Histogram(BOUNDS)
        """Seconds from sequenced to sent."""
        self.recent: deque[float] = deque(maxlen=RECENT)


def quantile(values: Iterable[float], part: float) -> float:
    """The value that so many of `values` don't exceed. 0.0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class Latency:
    """What a process's consumers measure. `series_max` bounds the number of (consumer, topic, agent) told apart."""

    def __init__(self, series_max: int) -> None:
        self._series_max = series_max
        self._waits: OrderedDict[tuple[str, str], Waits] = OrderedDict()
        self._paces: OrderedDict[Work, Pace] = OrderedDict()

    def sent(self, consumer: str, topic: str, seconds: float) -> None:
        """A message was handed to a member, so long after it was sequenced."""
        key = (consumer, topic)
        found = self._waits.get(key)
        if found is None:
            if len(self._waits) >= self._series_max:
                key = (OTHERS, OTHERS)
            found = self._waits.setdefault(key, Waits())
        seconds = max(0.0, seconds)
        found.wait.observe(seconds)
        found.recent.append(seconds)

    def acked(self, consumer: str, topic: str, agent: str, lease: Lease, now: float) -> None:
        """A message was acked."""
        work = Work(consumer, topic, agent)
        pace = self._paces.get(work)
        if pace is None:
            if len(self._paces) >= self._series_max:
                work = Work(OTHERS, OTHERS, OTHERS)
            pace = self._paces.setdefault(work, Pace())
        seconds = max(0.0, now - lease.sent)
        total = max(0.0, now - lease.ts)
        pace.work.observe(seconds)
        pace.total.observe(total)
        pace.recent.append(seconds)
        pace.recent_total.append(total)

    def pace_of(self, work: Work) -> Pace | None:
        """How fast an agent works for a consumer."""
        return self._paces.get(work)

    def paces(self) -> Iterator[tuple[Work, Pace]]:
        """Every agent that has acked something."""
        yield from self._paces.items()

    def waits_of(self, consumer: str, topic: str) -> Waits | None:
        """How long messages wait for a member of a consumer."""
        return self._waits.get((consumer, topic))

    def waits(self) -> Iterator[tuple[str, str, Histogram]]:
        """Consumer, its topic, and seconds from sequenced to sent."""
        for (consumer, topic), waits in self._waits.items():
            yield consumer, topic, waits.wait
