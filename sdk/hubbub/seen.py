"""Which messages were done before: what makes at-least-once look like once.

A consumer delivers a message again when its ack was lost (a crash, a disconnect). So whoever runs a handler looks here
first, and acks what was done without calling it; and notes here what the handler has done, before the ack.

    store           remembers                       across a restart    what can still happen twice
    --------------  ------------------------------  ------------------  --------------------------------------------
    MemorySeen      `limit` messages, for `ttl`     no                  what was done and not acked before a crash
    SqliteSeen      `limit` messages, for `ttl`     yes                 what was done and not noted before a crash:
                                                                        the moment between the two
    SqliteSeen with `transaction`                   yes                 nothing, for effects in that very file

A message is told by its consumer, topic, sender and id. So an id that its sender uses again within the time-to-live is
taken for a repeat, even if the broker's own dedup window has forgotten it. A consumer that was reset, or removed and
made anew, begins a life of its own, in which what was done before is to be done again: marks of another don't count.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from .recent import Recent

LIMIT = 100_000
"""Messages that a store remembers, unless told otherwise."""

TTL_SECONDS = 86_400.0
"""How long, likewise: a day is longer than any backoff."""


class Mark(NamedTuple):
    """What a message is told by."""

    consumer: str
    topic: str
    sender: str
    id: str
    made: float = 0.0
    """Which life of the consumer: when its broker made it, or last reset it. 0.0: a broker that does not say."""


class Consumed(Protocol):
    """A message of a consumer: a `Delivery`, in whichever thread."""

    @property
    def consumer(self) -> str:
        """The consumer that it belongs to."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def sender(self) -> str:
        """Who published it."""

    @property
    def id(self) -> str:
        """What its publisher calls it."""

    @property
    def made(self) -> float:
        """When the consumer was made, or last reset."""


class SeenStore(Protocol):
    """What remembers which messages were done. Give several consumers the same one, or each its own."""

    async def seen(self, mark: Mark) -> bool:
        """Whether it was done.

        Raises:
            SeenError: that can't be said now.
        """
        ...

    async def add(self, mark: Mark) -> None:
        """It was done. Returns when that is remembered.

        Raises:
            SeenError: it can't be remembered now.
        """
        ...


class MemorySeen:
    """Remembers in memory, until the process ends."""

    def __init__(
        self, limit: int = LIMIT, ttl: float = TTL_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The newest `limit / 2` at least are remembered for `ttl` seconds at least; twice that at most.

        Raises:
            ValueError: if a number is out of range.
        """
        if not (limit >= 2 and ttl > 0):
            raise ValueError(f"limit is {limit} and ttl is {ttl}: 2 messages or more, and more than 0 seconds")
        self._recent = Recent(limit, ttl)
        self._clock = clock

    def __len__(self) -> int:
        return len(self._recent)

    async def seen(self, mark: Mark) -> bool:
        """Whether it was done."""
        self._recent.age(self._clock())
        return mark in self._recent

    async def add(self, mark: Mark) -> None:
        """It was done."""
        self._recent.age(self._clock())
        self._recent.add(mark)


def mark_of(message: Consumed) -> Mark:
    """What a message of a consumer is told by."""
    return Mark(message.consumer, message.topic, message.sender, message.id, message.made)
