"""Causal hold-back: messages that wait for the one they answer.

Pure bookkeeping; the shard asks it what to hold, what a new message sets free, and what has waited long enough.

A publisher's numbered messages (`n`) keep their order even when one of them waits: those behind it wait with it. An
ephemeral message has no place in that count, whatever `n` it carries.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from hubbub_protocol.codec import kept
from hubbub_protocol.frames import Pub

from .publisher import Publisher
from .sink import Sink

HELD_BYTES = 1024
"""What a message that waits takes beside what its publisher wrote."""
WAITER_BYTES = 512
"""What each further request takes that waits with it."""


class Waiter(NamedTuple):
    """A request that is owed an answer."""

    sink: Sink
    pub: Pub
    payload: bytes | None
    expires: float
    """When its time is over (`ttl`, counted from when it came), by the shard's clock; 0.0: never."""


class Held:
    """One message that waits: for `parent`, or only behind an earlier one of its publisher's (`parent` None)."""

    __slots__ = ("deadline", "key", "numbered", "parent", "pub", "publisher", "size", "waiters")

    def __init__(
        self,
        publisher: Publisher,
        pub: Pub,
        payload: bytes | None,
        sink: Sink,
        parent: str | None,
        deadline: float,
        expires: float = 0.0,
    ) -> None:
        self.publisher = publisher
        self.pub = kept(pub)
        self.key = (publisher.name, pub.id, pub.ephemeral)
        self.numbered = pub.n is not None and not pub.ephemeral
        self.waiters = [Waiter(sink, self.pub, payload, expires)]
        """Who is owed an answer, to which request: more than one when the publisher sent it again meanwhile."""
        self.parent = parent
        self.deadline = deadline
        self.size = size_of(pub, payload)
        """Bytes of memory that it takes, repeats included."""

    def cost_of_repeat(self, pub: Pub, payload: bytes | None) -> int:
        """Bytes that it takes to keep it once more."""
        return WAITER_BYTES if self._is_same(pub, payload) else WAITER_BYTES + size_of(pub, payload)

    def repeat(self, sink: Sink, pub: Pub, payload: bytes | None, expires: float) -> None:
        """Its publisher has sent it again: if that says the same, what it says is kept once."""
        if self._is_same(pub, payload):
            payload = self.waiters[0].payload
            pub = replace(pub, data=self.pub.data, headers=self.pub.headers)
        else:
            pub = kept(pub)
        self.waiters.append(Waiter(sink, pub, payload, expires))

    def _is_same(self, pub: Pub, payload: bytes | None) -> bool:
        first = self.waiters[0]
        return pub.data == self.pub.data and pub.headers == self.pub.headers and payload == first.payload


def size_of(pub: Pub, payload: bytes | None) -> int:
    """Bytes of memory that a message takes while it waits."""
    return HELD_BYTES + len(pub.data) + len(pub.headers) + len(payload or b"")


class HoldBack:
    """The messages of one topic that wait, oldest first."""

    __slots__ = ("_by_key", "_last_numbered", "_parents", "bytes")

    def __init__(self) -> None:
        self._parents: dict[str, int] = {}
        self._by_key: OrderedDict[tuple[str, str, bool], Held] = OrderedDict()
        self._last_numbered: dict[bytes, Held] = {}
        """Each publisher's newest numbered message. Its older ones go before it, whatever their `n`: a count can begin
        again while messages of the one before still wait."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._by_key.values())

    def add(self, held: Held) -> None:
        """Hold a message."""
        self._by_key[held.key] = held
        self.bytes += held.size
        if held.parent is not None:
            self._parents[held.parent] = self._parents.get(held.parent, 0) + 1
        if held.numbered:
            self._last_numbered[held.publisher.key] = held

    def repeat(self, held: Held, waiter: Waiter, cost: int) -> None:
        """One that waits here was sent again, which takes so many bytes."""
        held.repeat(*waiter)
        held.size += cost
        self.bytes += cost

    def find(self, publisher: Publisher, pub: Pub) -> Held | None:
        """The message that this one repeats, if it waits here. A signal and a durable message are two messages."""
        return self._by_key.get((publisher.name, pub.id, pub.ephemeral))

    def last_n(self, key: bytes) -> int | None:
        """The `n` of the newest numbered message of that publisher that waits here."""
        held = self._last_numbered.get(key)
        return None if held is None else held.pub.n

    def oldest(self) -> Held:
        """The one that has waited longest."""
        return next(iter(self._by_key.values()))

    def freed_by(self, id: str) -> list[Held]:
        """Take out, in the order they came, all that waited for the message `id` and for nothing else."""
        if self._parents.pop(id, 0) == 0:
            return []
        for held in self._by_key.values():
            if held.parent == id:
                held.parent = None
        return self.ready()

    def overdue(self, now: float) -> Held | None:
        """Take out the one that has waited longest, if that is past its deadline.

        One at a time: what it sets free must go out before the next one counts as an orphan.
        """
        if not self._by_key or self.oldest().deadline > now:  # deadlines only grow along the queue
            return None
        return self.evict()

    def evict(self) -> Held:
        """Take out the one that has waited longest: there are too many."""
        held = self.oldest()
        self._remove(held)
        return held

    def ready(self) -> list[Held]:
        """Take out, in the order they came, all that wait for nothing any more."""
        blocked: set[bytes] = set()
        free: list[Held] = []
        for held in self._by_key.values():
            if held.parent is None and not (held.numbered and held.publisher.key in blocked):
                free.append(held)
            elif held.numbered:
                blocked.add(held.publisher.key)
        for held in free:
            self._remove(held)
        return free

    def _remove(self, held: Held) -> None:
        del self._by_key[held.key]
        self.bytes -= held.size
        if held.parent is not None:
            left = self._parents.get(held.parent, 1) - 1
            if left:
                self._parents[held.parent] = left
            else:
                self._parents.pop(held.parent, None)
        key = held.publisher.key
        if self._last_numbered.get(key) is held:
            del self._last_numbered[key]
