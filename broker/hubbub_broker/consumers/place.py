"""A consumer's place in one topic: the cursor that many members share.

    settled ... | out (leases) and waiting, with settled ones between | next ......... head
                                                                        not given out yet

What comes next is read from the log; what has just been delivered to the topic's live readers is kept for it, up to a
bound, so that a consumer that keeps up reads nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.shard import Run, Topic, is_durable

from .failures import Failures
from .lease import Key, Lease, Wait
from .settled import Settled

if TYPE_CHECKING:
    from .consumer import Consumer

AHEAD_BYTES = 128 * 1024
"""What is kept or read ahead for one place."""

RETRY_SECONDS = 1.0
"""Wait before a read that failed is tried again."""

log = get_logger(__name__)


class Entry(NamedTuple):
    """A message on its way to a member. `seq` is 0 for an ephemeral one."""

    seq: int
    line: bytes
    header_size: int
    expires: float


class Place:
    """One topic of one consumer. A `Follower` of that topic."""

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_ahead_next",
        "_parked",
        "condemned",
        "consumer",
        "dirty",
        "failures",
        "inherited",
        "keys",
        "next",
        "out",
        "parked",
        "queued",
        "recent",
        "settled",
        "topic",
        "waiting",
        "warming",
        "watchers",
    )

    def __init__(self, consumer: Consumer, topic: Topic, settled: Settled, failures: Failures) -> None:
        self.consumer = consumer
        self.topic = topic
        self.settled = settled
        self.failures = failures
        """Of messages that were delivered and are not settled, unless their first delivery is still out."""
        self.next = settled.floor + 1
        """The first seq that was not given out in this life of the broker."""
        self.out: dict[int, Lease] = {}
        self.waiting: dict[int, Wait] = {}
        """Delivered, failed, and to come again."""
        self.condemned: dict[int, str] = {}
        """On their way to the dead letters, and why."""
        self.keys: dict[str, int] = {}
        """With `ordered`: whose turn it is in each key that is at work."""
        self.parked: dict[str, deque[int]] = {}
        """With `ordered`: who waits for that."""
        self.inherited: int | None = None
        """The last seq that an earlier life of the broker may have given out; None until somebody has asked."""
        self.recent: dict[int, tuple[str, int]] = {}
        """Who settled the last ones, and at which attempt."""
        self.queued = False
        """Whether the consumer knows that there is something here."""
        self.warming = False
        self.dirty = False
        """Whether the position has changed since it was last written."""
        self._parked = 0
        """How many are in `parked`."""
        self.watchers: set[Callable[[], None]] = set()
        """Who wants to know when something may be there to be read without a lease."""
        self._ahead: deque[Entry] = deque()
        self._ahead_bytes = 0
        self._ahead_next = self.next
        """The seq that would come right behind what is kept ahead."""

    # Follower -------------------------------------------------------------------------------------------------------

    def follow(self, run: Run) -> None:
        """A run has been delivered to the topic's live readers."""
        if self.watchers:
            self.watched()
        if not self.consumer.pool.members:
            return
        current = run.first == (self._ahead_next if self._ahead else self.next)
        if current and self._ahead_bytes < AHEAD_BYTES:
            self._keep(run)
        else:
            self.consumer.missed_signals(len(run.lines) - run.durable)
        self.consumer.stir(self)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by letting the place go from memory: it is in the log."""
        if self.consumer.retired:
            return True
        if self.dirty or self.out or self.condemned or self.parked or self.warming or self.watchers:
            return False
        if not self.consumer.pool.members:
            return True
        return not self.waiting and self.next > self.topic.delivered

    def watched(self) -> None:
        """Something may be there to be read."""
        for watcher in tuple(self.watchers):
            watcher()

    def served_besides(self, sink: object) -> bool:
        """Whether a member on another connection than `sink` would get what is published now."""
        if self.consumer.terms.paused:
            return False
        return any(member.sink is not sink and not member.draining for member in self.consumer.pool.members)

    def gone(self) -> None:
        """The topic leaves memory."""
        self.consumer.forget(self)

    def _keep(self, run: Run) -> None:
        seq = run.first
        special = run.special or {}
        mixed = len(run.lines) != run.durable
        for index, line in enumerate(run.lines):
            header_size, expires = special.get(index, (0, 0.0))
            if mixed and not is_durable(self.topic, line):
                self._ahead.append(Entry(0, line, header_size, expires))
            else:
                self._ahead.append(Entry(seq, line, header_size, expires))
                seq += 1
            self._ahead_bytes += len(line)
        self._ahead_next = seq

    # Reading --------------------------------------------------------------------------------------------------------

    @property
    def unsettled(self) -> int:
        """Messages that were taken from the topic and are not settled."""
        return len(self.out) + len(self.waiting) + self._parked

    @property
    def has_more(self) -> bool:
        """Whether there may be something that was not given out yet."""
        return bool(self._ahead) or self.next <= self.topic.delivered

    def take(self) -> Entry | None:
        """The next message that was not given out yet. None when there is none, or when it has to be fetched first."""
        while True:
            if not self._ahead and not self._read():
                return None
            entry = self._ahead.popleft()
            self._ahead_bytes -= len(entry.line)
            if entry.seq:
                if entry.seq < self.next:
                    continue
                self.next = entry.seq + 1
                if entry.seq in self.settled or entry.seq in self.condemned:
                    continue
            return entry

    def load(self, seq: int) -> Entry | None:
        """One message again. None when it has to be fetched first; an empty line when retention took it."""
        topic = self.topic
        chunk = topic.store.read_chunk(topic.log, seq, seq, 1)
        if chunk is None:
            self._warm(seq, seq)
            return None
        if not chunk.lines:
            return Entry(seq, b"", 0, 0.0)
        header_size, expires = (chunk.special or {}).get(0, (0, 0.0))
        return Entry(seq, chunk.lines[0], header_size, expires)

    def _read(self) -> bool:
        """Read ahead. False when there is nothing, or when it has to be fetched first."""
        topic = self.topic
        if self.warming:
            return False
        while True:
            first, last = self.settled.hole(self.next)
            upto = topic.delivered if last is None else min(last, topic.delivered)
            if first > upto:
                self.next = max(self.next, min(first, topic.delivered + 1))
                return False
            chunk = topic.store.read_chunk(topic.log, first, upto, AHEAD_BYTES)
            if chunk is None:
                self._warm(first, upto)
                return False
            start = chunk.first if chunk.lines else chunk.next
            if start > first:
                self.consumer.lost(self, first, start - 1, chunk.reason or "retention")
            self.next = start
            special = chunk.special or {}
            for index, line in enumerate(chunk.lines):
                self._ahead.append(Entry(start + index, line, *special.get(index, (0, 0.0))))
                self._ahead_bytes += len(line)
            if chunk.lines:
                self._ahead_next = start + len(chunk.lines)
                return True

    def _warm(self, first: int, upto: int) -> None:
        """What is needed is not in memory: let a thread fetch it, so that the disk holds nobody up."""
        self.warming = True
        self.topic.store.warm(self.topic.log, first, upto, AHEAD_BYTES, partial(self._ready))

    def put_off(self, error: LogError) -> None:
        """The disk can't be read: try again later."""
        log.error("log unreadable", topic=self.topic.name, consumer=self.consumer.terms.name, reason=str(error))
        self.warming = True
        self.consumer.loop.call_later(RETRY_SECONDS, self._ready)

    def _ready(self) -> None:
        self.warming = False
        self.consumer.stir(self)

    # Position -------------------------------------------------------------------------------------------------------

    def reopen(self, seq: int) -> bool:
        """Take a settled message as one that was never given out: the next delivery is its first.

        Whether it is to be given out again; else it lies ahead, and comes in its turn.
        """
        self.settled.discard(seq)
        self.failures.pop(seq)
        self.recent.pop(seq, None)
        if seq >= self.next:
            self.consumer.missed_signals(self.drop_ahead())
            return False
        self.waiting[seq] = Wait(0.0, None, None)
        return True

    def rewind(self) -> None:
        """Begin again with the first message that is not settled, as after a restart. Nothing may be out."""
        self.waiting = {seq: wait for seq, wait in self.waiting.items() if seq in self.condemned}
        self.keys.clear()
        self.parked.clear()
        self._parked = 0
        self.next = self.settled.floor + 1
        self.drop_ahead()

    def drop_ahead(self) -> int:
        """Keep nothing ahead. How many ephemeral messages were among that, which nobody will get now."""
        signals = sum(not entry.seq for entry in self._ahead)
        self._ahead.clear()
        self._ahead_bytes = 0
        return signals

    # Keys -----------------------------------------------------------------------------------------------------------

    def park(self, key: str, seq: int) -> None:
        """Another message of its key is at work: this one waits for its turn."""
        self.parked.setdefault(key, deque()).append(seq)
        self._parked += 1

    def key_done(self, key: Key, seq: int) -> int | None:
        """The turn of `seq` is over. Who is next in its key; what was settled while it was parked has no turn."""
        if key is None or self.keys.get(key) != seq:
            return None
        line = self.parked.get(key, ())
        while line:
            following = line.popleft()
            self._parked -= 1
            if following not in self.settled:
                self.keys[key] = following
                return following
        self.parked.pop(key, None)
        del self.keys[key]
        return None
