"""What operators are told: a durable message on `_hubbub/events` when a rule stops somebody.

A storm must not become a storm of events: the same trouble (rule, topic, sender) is told once in `event_interval`, and
all of them together at most `event_rate` times a minute. What was left out is counted, and the next event of the same
trouble says how often.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics

from .bucket import TokenBucket
from .denial import Denial

TOPIC = "_hubbub/events"
SENDER = "hubbub"
"""Who events are from."""
TYPE = "guard"
_TROUBLES_KEPT = 1000
"""Troubles that are remembered as told. One that is forgotten is told again."""

Key = tuple[str, str, str]


class Events:
    """Decides which denials are told.

    Args:
        announce: publishes one event: type and data. Called between two messages, never while one is being taken.
        soon: runs a function when the work at hand is done (`loop.call_soon`).
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        announce: Callable[[str, dict[str, Any]], None],
        soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._metrics = metrics
        self._announce = announce
        self._soon = soon
        self._clock = clock
        self._interval = settings.event_interval
        self._bucket: TokenBucket | None = None
        if settings.event_rate:
            self._bucket = TokenBucket(settings.event_rate / 60, settings.event_rate, clock())
        self._told: OrderedDict[Key, tuple[float, int]] = OrderedDict()
        self._waiting: list[dict[str, Any]] = []

    def report(self, denial: Denial, topic: str | None, sender: str) -> None:
        """A rule has stopped somebody. At most one event comes of it, and often none."""
        now = self._clock()
        key = (denial.rule, topic or "", sender)
        told, left_out = self._told.get(key, (0.0, 0))
        if key in self._told and now - told < self._interval:
            self._leave_out(key, told, left_out)
            return
        if self._bucket is None or self._bucket.take(now):
            self._leave_out(key, told if key in self._told else now - self._interval, left_out)
            return
        self._remember(key, now, 0)
        data: dict[str, Any] = {"rule": denial.rule, "sender": sender, "code": denial.code, "message": denial.message}
        if topic is not None:
            data["topic"] = topic
        if denial.retry_after is not None:
            data["retry_after"] = round(denial.retry_after, 3)
        if left_out:
            data["left_out"] = left_out
        self._waiting.append(data)
        if len(self._waiting) == 1:
            self._soon(self._tell)

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._metrics.guard_events += 1
            self._announce(TYPE, data)

    def _leave_out(self, key: Key, told: float, left_out: int) -> None:
        self._metrics.guard_events_left_out += 1
        self._remember(key, told, left_out + 1)

    def _remember(self, key: Key, told: float, left_out: int) -> None:
        self._told[key] = (told, left_out)
        self._told.move_to_end(key)
        if len(self._told) > _TROUBLES_KEPT:
            self._told.popitem(last=False)
