"""The guard of a broker: asked at every door before a message is taken, and the one who tells operators."""

from collections.abc import Callable
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics

from .denial import Denial
from .events import Events
from .rates import Rates


class Guard:
    """Rates for each sender and each group, and the events of all rules.

    Args:
        clock: seconds that never go back.
        announce: publishes an event for operators: type and data.
        soon: runs a function when the work at hand is done.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float],
        announce: Callable[[str, dict[str, Any]], None],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._metrics = metrics
        self._rates = Rates(settings, clock)
        self.events = Events(settings, metrics, announce, soon, clock)
        self.limits_publishes = self._rates.limits_publishes
        """Whether `admit_publish` has anything to look at: most brokers need not ask it for each message."""

    def admit_publish(self, sender: str, topic: str, size: int) -> Denial | None:
        """Count one message to `topic`, with `size` bytes of data and headers; None if it is within the limits."""
        return self._told(self._rates.admit_publish(sender, topic, size), sender)

    def count_publish(self, sender: str, size: int) -> None:
        """Count one message that nothing can stop: its sender pays for it later."""
        self._rates.count_publish(sender, size)

    def admit_broadcast(self, sender: str) -> Denial | None:
        """Count one message that is sent to all; None if it is within `broadcast_rate`."""
        return self._told(self._rates.admit_broadcast(sender), sender)

    def _told(self, denial: Denial | None, sender: str) -> Denial | None:
        if denial is not None:
            self._metrics.count_guard(denial.rule)
            self.events.report(denial, None, sender)
        return denial
