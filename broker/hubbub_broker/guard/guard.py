"""The guard of a broker: asked at every door before a message is taken, and the one who tells operators."""

from collections.abc import Callable
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics
from hubbub_protocol.frames import Pub

from .chain import too_many
from .correspondence import ALL, Correspondence
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
        self._broadcast_depth = settings.broadcast_depth
        self.mail = Correspondence(settings)
        """What is remembered of mail, over all shards."""
        self.events = Events(settings, metrics, announce, soon, clock)
        self.limits_publishes = self._rates.limits_publishes
        """Whether `admit_publish` has anything to look at: most brokers need not ask it for each message."""

    def admit_publish(self, sender: str, topic: str, size: int) -> Denial | None:
        """Count one message to `topic`, with `size` bytes of data and headers; None if it is within the limits."""
        return self._told(self._rates.admit_publish(sender, topic, size), sender)

    def count_publish(self, sender: str, size: int) -> None:
        """Count one message that nothing can stop: its sender pays for it later."""
        self._rates.count_publish(sender, size)

    def admit_broadcast(self, sender: str, pub: Pub, now: float) -> Denial | int:
        """Count one message that is sent to all, at a time in seconds since the Unix epoch.

        How many such messages led to it, itself included, if it is within `broadcast_depth` and `broadcast_rate`.
        """
        letter = self.mail.read(sender, ALL, pub, now)
        limit = self._broadcast_depth
        denial = None
        if letter.broadcasts >= limit > 0:
            denial = too_many(limit, letter.broadcasts + 1)
        denial = self._told(denial or self._rates.admit_broadcast(sender), sender)
        if denial is not None:
            return denial
        self.mail.remember(letter, (letter.depth, sender, None, None), now)
        return letter.broadcasts + 1

    def _told(self, denial: Denial | None, sender: str) -> Denial | None:
        if denial is not None:
            self._metrics.count_guard(denial.rule)
            self.events.report(denial, None, sender)
        return denial
