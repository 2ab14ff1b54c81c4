"""What becomes due by itself: leases that end, waits that are over, times to live that run out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from time import time
from typing import TYPE_CHECKING

from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.shard import RETRY_SECONDS, Run, Topic, is_durable

from .consumer import TIMED_OUT, Consumer
from .lease import Wait
from .member import Member
from .place import Place

if TYPE_CHECKING:
    from .consumers import Consumers

_AT_ONCE = 200
"""Times to live that are looked at in one go: each may bring a place into memory."""

_AGAIN_SECONDS = 0.05

log = get_logger(__name__)


class Deadlines:
    """Those of the consumers of a shard."""

    def __init__(self, consumers: Consumers, most: int, now: Callable[[], float]) -> None:
        self._consumers = consumers
        self._most = most
        self._now = now
        self._leases: list[tuple[float, int, Member]] = []
        self._waits: list[tuple[float, int, Place, int, Wait]] = []
        self._lives: list[tuple[float, str, int]] = []
        """Times to live that end, in seconds since the Unix epoch: of what was published, or given out, in this life of
        the broker. The others are seen when they are to be given out."""
        self._count = count()

    def time(self, member: Member) -> None:
        """Look at a member's leases when the first of them is over."""
        lease = next(iter(member.leases.values()), None)
        if lease is not None:
            member.timed = True
            heappush(self._leases, (lease.deadline, next(self._count), member))

    def wait(self, place: Place, seq: int, wait: Wait) -> None:
        """A message is due for its next delivery at `wait.due`."""
        heappush(self._waits, (wait.due, next(self._count), place, seq, wait))

    def expires(self, topic: str, seq: int, when: float) -> None:
        """The time to live of a message ends then; 0: never. What is more than may be kept is left to its delivery."""
        if when and len(self._lives) < self._most:
            heappush(self._lives, (when, topic, seq))

    def follow(self, topic: Topic, run: Run) -> None:
        """A run with times to live has been published to a topic."""
        if not run.special or not self._readers_of(topic.name):
            return
        seq = run.first
        mixed = len(run.lines) != run.durable
        for index, line in enumerate(run.lines):
            if not mixed or is_durable(topic, line):
                self.expires(topic.name, seq, run.special.get(index, (0, 0.0))[1])
                seq += 1

    def tick(self) -> None:
        """Do what is due."""
        now = self._now()
        while self._leases and self._leases[0][0] <= now:
            _, _, member = heappop(self._leases)
            member.timed = False
            for lease in list(member.leases.values()):
                if lease.deadline > now:
                    break
                consumer = lease.place.consumer
                consumer.fail(lease, TIMED_OUT)
                consumer.demote(member)
            self.time(member)
        while self._waits and self._waits[0][0] <= now:
            _, _, place, seq, wait = heappop(self._waits)
            if place.waiting.get(seq) is wait:
                place.consumer.due(place, seq)
        if self._lives and not self._consumers.stopping:
            self._expire(time())

    def _expire(self, now: float) -> None:
        for _ in range(_AT_ONCE):
            if not self._lives or self._lives[0][0] > now:
                return
            _, topic, seq = heappop(self._lives)
            again = 0.0
            for consumer in self._readers_of(topic):
                try:
                    if not consumer.expire(self._consumers.place(consumer, topic), seq):
                        again = max(again, _AGAIN_SECONDS)
                except LogError as error:
                    log.warning("log unreadable", topic=topic, consumer=consumer.terms.name, reason=str(error))
                    again = RETRY_SECONDS
            if again:
                self.expires(topic, seq, now + again)

    def _readers_of(self, topic: str) -> Iterable[Consumer]:
        return self._consumers.readers_of(topic)
