"""How fast one sender, and one group as a whole, may go: checked before a message reaches its shard.

What is refused uses nothing up. Buckets live in memory only: a restart of the broker begins with full ones.
"""

from collections import OrderedDict
from collections.abc import Callable

from hubbub_broker.config import Settings
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import group_of, is_reserved, is_to_inbox

from .bucket import SlidingWindow, TokenBucket
from .denial import Denial, Rule

MINUTE = 60.0


class Buckets:
    """One token bucket for each name, the most recently used `kept` of them. One that is forgotten is a full one."""

    def __init__(self, rate: float, burst: float, kept: int) -> None:
        self.rate = rate
        self._burst = burst
        self._kept = kept
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, name: str, now: float) -> TokenBucket:
        """The bucket of that name."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(self.rate, self._burst, now)
            if len(self._buckets) > self._kept:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket


_Limit = tuple[Rule, Buckets | None, bool]
"""A rule, its buckets if there is such a limit, and whether they hold bytes."""


class Rates:
    """The rate limits of a broker.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept = settings.rate_entries
        self._seconds = settings.burst_seconds
        self._broadcast_rate = settings.broadcast_rate
        self._broadcasts: OrderedDict[str, SlidingWindow] = OrderedDict()
        publishes = Buckets(settings.publish_rate, settings.publish_burst, self._kept)
        self._of_sender: list[_Limit] = [
            (Rule.PUBLISH_RATE, publishes if settings.publish_rate else None, False),
            (Rule.PUBLISH_BYTES_RATE, self._buckets(settings.publish_bytes_rate), True),
        ]
        self._of_sends: list[_Limit] = [(Rule.SEND_RATE, self._buckets(settings.send_rate), False)]
        self._of_group: list[_Limit] = [
            (Rule.GROUP_PUBLISH_RATE, self._buckets(settings.group_publish_rate), False),
            (Rule.GROUP_BYTES_RATE, self._buckets(settings.group_bytes_rate), True),
        ]
        limits = (*self._of_sender, *self._of_sends, *self._of_group)
        self.limits_publishes = any(buckets is not None for _, buckets, _ in limits)
        """Whether `admit_publish` has anything to look at: most brokers need not ask for each message."""

    def _buckets(self, rate: float) -> Buckets | None:
        return Buckets(rate, max(1.0, rate * self._seconds), self._kept) if rate else None

    def admit_broadcast(self, sender: str) -> Denial | None:
        """Count one message to all: at most `broadcast_rate` in any minute."""
        if not self._broadcast_rate:
            return None
        windows = self._broadcasts
        window = windows.get(sender)
        if window is None:
            window = windows[sender] = SlidingWindow(self._broadcast_rate, MINUTE)
            if len(windows) > self._kept:
                windows.popitem(last=False)
        else:
            windows.move_to_end(sender)
        wait = window.take(self._clock())
        if not wait:
            return None
        what = f"{sender} has sent {self._broadcast_rate} broadcasts within a minute, the limit (broadcast_rate)"
        return _too_fast(Rule.BROADCAST_RATE, f"{what}: publish to a topic that those who care subscribe to", wait)

    def admit_publish(self, sender: str, topic: str, size: int) -> Denial | None:
        """Count one message of `size` bytes. A refused one counts nowhere.

        What goes into an inbox is a send, by whichever door. What goes to a topic of the broker's own counts for its
        sender and for no group: a group that is too busy still hears its operators, and they it.
        """
        now = self._clock()
        spending: list[tuple[TokenBucket, int]] = []
        group = group_of(topic)
        for who, name, limits in (
            (sender, sender, self._of_sender),
            (sender, sender, self._of_sends if is_to_inbox(topic) else ()),
            (f"the group {group}", group, () if is_reserved(topic) else self._of_group),
        ):
            for rule, buckets, counts_bytes in limits:
                if buckets is None:
                    continue
                bucket = buckets.of(name, now)
                # A message may be larger than the bucket: it needs one byte's room, and what follows pays the debt.
                wait = bucket.wait(now, 1.0)
                if wait:
                    does = "sends" if rule is Rule.SEND_RATE else "publishes"
                    unit = "bytes" if counts_bytes else "messages"
                    what = f"{who} {does} more than {buckets.rate:g} {unit} a second ({rule})"
                    return _too_fast(rule, what, wait)
                spending.append((bucket, size if counts_bytes else 1))
        for bucket, amount in spending:
            bucket.spend(amount)
        return None

    def count_publish(self, sender: str, size: int) -> None:
        """Count one message that nothing can stop, against its sender's rates: what follows pays for it."""
        now = self._clock()
        for _, buckets, counts_bytes in self._of_sender:
            if buckets is not None:
                bucket = buckets.of(sender, now)
                bucket.wait(now, 1.0)
                bucket.spend(size if counts_bytes else 1)


def _too_fast(rule: Rule, message: str, wait: float) -> Denial:
    return Denial(rule, ErrorCode.RATE_LIMITED, message, wait)
