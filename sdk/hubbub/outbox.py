"""What was published and is not confirmed: pure bookkeeping, no I/O, no clock of its own.

    accept --> ready, in order of acceptance --> take (at most a window) --> sent --> confirmed
                 ^                                                            |
                 +---- the lane's retry, or the link's end (rewind) <---------+--> refused for good

Durable messages to one topic form a lane and are numbered `n` = 1, 2, 3 … as they are sent, so that the broker can keep
their order. When one is refused, those behind it that are on the wire already will be refused too, with `order`. So the
lane stops, waits until all of them are answered, and then sends again from the first that is not confirmed: numbers
stay gapless, no answer is ever taken for that of another attempt, and one bad message does not block its successors.

A number may be too high: the broker answers `order` and says which it expects. It must never be too low, because the
message behind it could bear the number that is expected, and overtake. So a number that the broker may have counted is
not given to another message.

Ephemeral messages have no lane: they are sent once, in the same order of acceptance, and never again.
"""

from asyncio import Future
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .message import Receipt

ENTRY_OVERHEAD_BYTES = 700
"""What an entry costs beside its text, in bytes, counted into the byte limit."""

LANES_MAX = 10_000
"""Topics whose count `n` is remembered while nothing is on its way there."""

TTL_LEAST = 0.001
"""Seconds: what is sent of a time-to-live that is all but over. The broker takes none that is 0."""

_PREFIX = b'{"op":"pub"'


class Entry:
    """An accepted message."""

    __slots__ = (
        "expires_at",
        "expires_wall",
        "future",
        "gone",
        "id",
        "lane",
        "n",
        "payload",
        "position",
        "sent_at",
        "size",
        "spool_row",
        "tail",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        id: str,
        line: bytes,
        future: "Future[Receipt]",
        *,
        payload: bytes | None = None,
        ephemeral: bool = False,
        expires_at: float | None = None,
        expires_wall: float | None = None,
    ) -> None:
        """`line` is the encoded `pub` without `n` and `ttl`; `expires_at` is in the clock that `take` is given.

        `expires_wall` is the same in seconds since the Unix epoch.
        """
        self.topic = topic
        self.id = id
        self.tail = line[len(_PREFIX) :]
        self.payload = payload
        self.future = future
        self.expires_at = expires_at
        self.expires_wall = expires_wall
        self.size = len(line) + (0 if payload is None else len(payload)) + ENTRY_OVERHEAD_BYTES
        self.lane: Lane | None = None if ephemeral else _UNASSIGNED
        self.position = 0
        self.n = 0
        self.sent_at: float | None = None
        self.gone = False
        """Confirmed, refused, expired or dropped: no longer the outbox's concern."""
        self.spool_row: int | None = None
        """Its place in the spool, if it is to be kept there."""

    @property
    def ephemeral(self) -> bool:
        """Whether it is sent at most once."""
        return self.lane is None

    @property
    def body(self) -> bytes:
        """The `pub` without `n` and `ttl`, as it was given."""
        return _PREFIX + self.tail

    def line_at(self, now: float) -> bytes:
        """The `pub` as it goes on the wire, or the header of the binary frame.

        Its `ttl` is what is left: the broker counts from when it comes, its publisher from when it was accepted.
        """
        tail = self.tail
        if self.expires_at is not None:
            tail = b',"ttl":%.3f%b' % (max(self.expires_at - now, TTL_LEAST), tail)
        if self.lane is None:
            return _PREFIX + tail
        return b'%b,"n":%d%b' % (_PREFIX, self.n, tail)


class Lane:
    """The unconfirmed messages to one topic."""

    __slots__ = (
        "attempts",
        "blocked",
        "confirmed",
        "delay",
        "entries",
        "expect",
        "floor",
        "last_confirmed",
        "next_n",
        "outstanding",
        "topic",
    )

    def __init__(self, topic: str, next_n: int = 1) -> None:
        self.topic = topic
        self.entries: dict[int, Entry] = {}
        self.next_n = next_n
        self.confirmed = next_n - 1
        self.floor = 0
        """The highest number that the broker has counted for certain, on this connection."""
        self.outstanding = 0
        """Entries on the wire that have no answer."""
        self.blocked = False
        self.expect: int | None = None
        self.delay = 0.0
        """Seconds to wait before the retry."""
        self.last_confirmed: tuple[str, int | None] | None = None
        """Id and seq of the newest message that was confirmed."""
        self.attempts = 0
        """Retries in a row without a confirmation."""


_UNASSIGNED = Lane("")


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How much may be unconfirmed."""

    messages: int = 10_000
    bytes: int = 64 << 20


class Outbox:
    """All accepted messages that are not confirmed yet."""

    def __init__(self, limits: OutboxLimits) -> None:
        self.limits = limits
        self.bytes = 0
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Entry] = deque()
        self._sent: dict[str, Entry] = {}
        self._ephemerals: dict[int, Entry] = {}
        self._count = 0
        self._position = 0
        self._first_n = 1
        """Where lanes begin to count: above all numbers of lanes that were forgotten."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in order of acceptance."""
        entries = [entry for lane in self._lanes.values() for entry in lane.entries.values()]
        entries.extend(self._ephemerals.values())
        entries.sort(key=_position)
        return iter(entries)

    @property
    def inflight(self) -> int:
        """Entries on the wire that have no answer."""
        return len(self._sent)

    @property
    def has_ready(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._ready)

    def oldest_sent_at(self) -> float | None:
        """When the entry that has waited longest for its answer was sent."""
        for entry in self._sent.values():
            return entry.sent_at
        return None

    def has_room(self, size: int) -> bool:
        """Whether an entry of that size can be accepted now. The first one always can."""
        return self._count == 0 or (self._count < self.limits.messages and self.bytes + size <= self.limits.bytes)

    def accept(self, entry: Entry) -> None:
        """Take an entry in. The caller has looked for room."""
        self._position += 1
        entry.position = self._position
        if entry.lane is None:
            self._ephemerals[entry.position] = entry
        else:
            lane = self._lanes.get(entry.topic)
            if lane is None:
                lane = self._lanes[entry.topic] = Lane(entry.topic, self._first_n)
            entry.lane = lane
            lane.entries[entry.position] = entry
        self._count += 1
        self.bytes += entry.size
        self._ready.append(entry)

    def before(self, entry: Entry) -> tuple[tuple[str, int | None] | None, tuple[str, ...]]:
        """What went to its topic before: the last confirmed one (id and seq), and the ids of those that are not."""
        lane = self._lanes.get(entry.topic)
        if lane is None:
            return None, ()
        # An entry that was dropped instead of accepted has no position: all others were before it.
        waiting = (
            other.id for other in lane.entries.values() if other.position < (entry.position or self._position + 1)
        )
        return lane.last_confirmed, tuple(waiting)

    # Sending ----------------------------------------------------------------------------------------------------

    def take(self, window: int, now: float) -> tuple[list[Entry], list[Entry]]:
        """The entries to send now, so that at most `window` are unanswered, and those that expired instead."""
        batch: list[Entry] = []
        expired: list[Entry] = []
        ready, sent = self._ready, self._sent
        while ready and len(sent) < window:
            entry = ready[0]
            if entry.id in sent:
                break  # two of one id, to different topics: answers name the id, so one after the other
            ready.popleft()
            if entry.gone:
                continue
            lane = entry.lane
            if lane is not None and lane.blocked:
                continue  # it is in the lane, and comes back with it
            if entry.expires_at is not None and entry.expires_at <= now:
                if lane is not None and entry.n:  # it was sent, and what became of it is not known
                    lane.confirmed = max(lane.confirmed, entry.n)
                    lane.next_n = max(lane.next_n, entry.n + 1)
                self._remove(entry)
                expired.append(entry)
                continue
            if lane is not None:
                entry.n = lane.next_n
                lane.next_n += 1
                lane.outstanding += 1
            sent[entry.id] = entry
            batch.append(entry)
        return batch, expired

    # Answers ----------------------------------------------------------------------------------------------------

    def confirm(self, id: str, seq: int | None = None, *, dup: bool = False) -> Entry | None:
        """The broker has it, as number `seq`. None if there is no such question: a second answer, or a stranger's.

        With `dup` it had it already, and may have counted it otherwise.
        """
        entry = self._sent.pop(id, None)
        if entry is None:
            return None
        lane = entry.lane
        if lane is not None:
            lane.outstanding -= 1
            lane.confirmed = max(lane.confirmed, entry.n)
            if not dup and entry.n > lane.floor:
                lane.floor = entry.n
            lane.attempts = 0
            lane.last_confirmed = (id, seq)
        self._remove(entry)
        return entry

    def refuse(self, id: str) -> Entry | None:
        """The broker does not take it, and never will. Its successors close up."""
        entry = self._sent.pop(id, None)
        if entry is None:
            return None
        lane = entry.lane
        if lane is not None:
            lane.outstanding -= 1
            lane.blocked = True
        self._remove(entry)
        return entry

    def postpone(self, id: str, expect: int | None, delay: float) -> Entry | None:
        """The broker does not take it now; `delay` seconds later it may. For `order`: it wants `n` = `expect` next.

        An ephemeral entry is gone.
        """
        entry = self._sent.pop(id, None)
        if entry is None:
            return None
        lane = entry.lane
        if lane is None:
            self._remove(entry)
            return entry
        lane.outstanding -= 1
        if not lane.blocked:
            lane.blocked = True
            lane.attempts += 1
        if expect is not None:
            lane.expect = expect
        lane.delay = max(lane.delay, delay)
        return entry

    def resume(self, lane: Lane) -> None:
        """Send a stopped lane again, from the first that is not confirmed. Legal once nothing of it is unanswered."""
        assert lane.outstanding == 0, "a lane goes on when all its answers are in"
        lane.blocked = False
        lane.next_n = self._expected(lane)
        lane.confirmed = lane.next_n - 1
        lane.expect = None
        lane.delay = 0.0
        # What was not sent yet is still in the queue, behind: take it from there, so that the lane stays in order.
        rest = [entry for entry in self._ready if entry.lane is not lane and not entry.gone]
        self._ready = deque(lane.entries.values())
        self._ready.extend(rest)
        self._trim(lane)

    @staticmethod
    def _expected(lane: Lane) -> int:
        """The number that the broker wants next, as far as is known."""
        if lane.expect is None:
            return lane.confirmed + 1
        if lane.expect <= lane.floor and lane.attempts < 2:
            # Before it counted the last one it expected this: the answer to an earlier attempt, come late. Only if it
            # says so again has it forgotten.
            return lane.confirmed + 1
        return lane.expect

    def rewind(self) -> None:
        """The link ended: whatever has no answer will be sent again on the next one, in order."""
        self._sent.clear()
        for lane in self._lanes.values():
            lane.outstanding = 0
            lane.blocked = False
            lane.expect = None
            lane.floor = 0  # the broker may have lost what it had counted
            lane.delay = 0.0
            lane.next_n = lane.confirmed + 1
        self._ready = deque(self)

    # Giving up --------------------------------------------------------------------------------------------------

    def drop_ephemerals(self) -> list[Entry]:
        """Drop all ephemeral entries and return them."""
        dropped = list(self._ephemerals.values())
        for entry in dropped:
            self.drop(entry)
        return dropped

    def oldest_ephemeral(self) -> Entry | None:
        """The oldest ephemeral entry that is not on the wire."""
        return next((entry for entry in self._ephemerals.values() if entry.id not in self._sent), None)

    def drop(self, entry: Entry) -> None:
        """Drop an ephemeral entry."""
        self._sent.pop(entry.id, None)
        self._remove(entry)

    def clear(self) -> list[Entry]:
        """Drop everything and return it."""
        entries = list(self)
        for entry in entries:
            entry.gone = True
        self._lanes.clear()
        self._ready.clear()
        self._sent.clear()
        self._ephemerals.clear()
        self._count = 0
        self.bytes = 0
        return entries

    def _remove(self, entry: Entry) -> None:
        entry.gone = True
        self._count -= 1
        self.bytes -= entry.size
        lane = entry.lane
        if lane is None:
            del self._ephemerals[entry.position]
        else:
            del lane.entries[entry.position]
            self._trim(lane)

    def _trim(self, lane: Lane) -> None:
        if not lane.entries and not lane.blocked and len(self._lanes) > LANES_MAX:
            self._first_n = max(self._first_n, lane.next_n)
            self._lanes.pop(lane.topic, None)


def _position(entry: Entry) -> int:
    return entry.position
