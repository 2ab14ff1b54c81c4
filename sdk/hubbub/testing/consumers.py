"""Consumers in memory: members, leases, redelivery, dead letters, receipts.

As the broker's own, but simple: every step looks at everything that is open, and settlements are confirmed at once.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from hubbub_protocol import codec, names
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import (
    BY_TOPIC,
    NO_DATA,
    Ack,
    Err,
    Extend,
    From,
    Live,
    Msg,
    Nack,
    Ok,
    Pub,
    Receipt,
    Sub,
    Term,
    Unsub,
)

from .topic_log import Stored, TopicLog

if TYPE_CHECKING:
    from .broker import MemoryBroker
    from .connection import Session

ACK_WAIT_SECONDS = 30.0
MAX_UNACKED = 64
MAX_DELIVER = 5
BACKOFF_SECONDS = (1.0, 5.0, 30.0, 120.0, 600.0)

Settle = Ack | Nack | Extend | Term


@dataclass(eq=False, slots=True)
class Member:
    """One connection's share."""

    session: "Session"
    ack_wait: float
    max_unacked: int
    out: int = 0
    draining: bool = False
    live: bool = False


@dataclass(eq=False, slots=True)
class Open:
    """A message that is not settled: out with a member, or waiting for its next delivery."""

    stored: Stored
    key: str | None
    deliveries: int = 0
    member: Member | None = None
    last: Member | None = None
    timer: asyncio.TimerHandle | None = None
    due: bool = True
    first_failure: float | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(eq=False, slots=True)
class Place:
    """Where a consumer stands in a topic."""

    log: TopicLog
    next: int
    open: dict[int, Open] = field(default_factory=dict)
    by: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Who settled what, and at which attempt."""


@dataclass(eq=False, slots=True)
class MemoryConsumer:
    """A position that is shared under a name."""

    topic: str
    name: str
    start: str | From
    matches: Callable[[str], bool]
    max_deliver: int = MAX_DELIVER
    backoff: tuple[float, ...] = BACKOFF_SECONDS
    exclusive: bool = False
    ordered: str | None = None
    filter: Filter | None = None
    members: list[Member] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)


class MemoryConsumers:
    """All consumers of a broker in memory."""

    def __init__(self, broker: "MemoryBroker") -> None:
        self._broker = broker
        self._consumers: list[MemoryConsumer] = []
        self._missed: dict[str, list[Receipt]] = {}

    # Members ------------------------------------------------------------------------------------------------------

    def join(self, session: "Session", sub: Sub, filter: Filter | None) -> None:
        """A member comes."""
        assert sub.consumer is not None
        consumer = self._named(sub.topic, sub.consumer)
        refusal = self._refusal(session, sub, consumer, filter)
        if refusal is not None:
            session.send(Err(rid=sub.rid, code=refusal[0], message=refusal[1]))
            return
        if consumer is None:
            matches = names.matcher(sub.topic) if names.is_pattern(sub.topic) else sub.topic.__eq__
            start = sub.start if names.owner_of_mark(sub.topic, sub.consumer) is None else "all"
            consumer = MemoryConsumer(sub.topic, sub.consumer, start, matches)
            self._consumers.append(consumer)
            for log in self._broker.logs:
                if self._covers(consumer, log.name):
                    consumer.places[log.name] = Place(log, self._broker.first_of(start, log))
            if not names.is_pattern(sub.topic) and sub.topic not in consumer.places:
                consumer.places[sub.topic] = Place(self._broker.log(sub.topic), 1)
        consumer.exclusive, consumer.ordered, consumer.filter = sub.exclusive, sub.ordered, filter
        consumer.max_deliver = consumer.max_deliver if sub.max_deliver is None else sub.max_deliver
        consumer.backoff = consumer.backoff if sub.backoff is None else tuple(sub.backoff)
        consumer.members.append(
            Member(
                session,
                ACK_WAIT_SECONDS if sub.ack_wait is None else sub.ack_wait,
                MAX_UNACKED if sub.max_unacked is None else sub.max_unacked,
            )
        )
        place = consumer.places.get(sub.topic)
        head, next_seq = (0, 0) if place is None else (place.log.head, place.next)
        session.send(Ok(rid=sub.rid, topic=sub.topic, head=head, next=next_seq))
        self._feed(consumer)

    def leave(self, session: "Session", unsub: Unsub) -> None:
        """A member goes, or finishes what it has first."""
        consumer = self._named(unsub.topic, unsub.consumer or "")
        member = self._member(consumer, session)
        if consumer is None or member is None or member.draining:
            session.send(Err(rid=unsub.rid, code=ErrorCode.NOT_FOUND, message="no such member"))
            return
        member.draining = True
        session.send(Ok(rid=unsub.rid, topic=unsub.topic))
        if not unsub.drain:
            self._drop(consumer, member, "the member left")

    def gone(self, session: "Session") -> None:
        """A connection has ended."""
        for consumer in self._consumers:
            for member in [member for member in consumer.members if member.session is session]:
                self._drop(consumer, member, "connection lost")

    def would_hear(self, session: "Session", topic: str) -> bool:
        """Whether a member on another connection would get a message of that topic."""
        return any(
            member.session is not session and not member.draining
            for consumer in self._consumers
            if self._covers(consumer, topic)
            for member in consumer.members
        )

    def _refusal(
        self, session: "Session", sub: Sub, consumer: MemoryConsumer | None, filter: Filter | None
    ) -> tuple[str, str] | None:
        for other in self._consumers:
            if other.name == sub.consumer and other is not consumer and names.overlap(other.topic, sub.topic):
                return ErrorCode.CONFLICT, f"consumer {other.name} is at {other.topic}"
        if consumer is None or not consumer.members:
            return None
        if any(member.session is session and not member.draining for member in consumer.members):
            return ErrorCode.CONFLICT, "subscribed already"
        if (consumer.exclusive, consumer.ordered) != (sub.exclusive, sub.ordered):
            return ErrorCode.CONFLICT, "exclusive and ordered stay as long as there are members"
        if consumer.filter != filter:
            return ErrorCode.CONFLICT, "its members have another filter"
        return None

    def _drop(self, consumer: MemoryConsumer, member: Member, reason: str) -> None:
        if member in consumer.members:
            consumer.members.remove(member)
        for place in consumer.places.values():
            for seq, entry in tuple(place.open.items()):
                if entry.member is member:
                    self._fail(consumer, place, seq, reason, 0.0 if entry.deliveries == 1 else None)
        self._feed(consumer)

    # Delivering ---------------------------------------------------------------------------------------------------

    def stored(self, log: TopicLog) -> None:
        """A topic has more."""
        for consumer in self._consumers:
            if self._covers(consumer, log.name):
                if log.name not in consumer.places:
                    consumer.places[log.name] = Place(log, 1)
                self._feed(consumer)

    def pass_on(self, log: TopicLog, stored: Stored) -> None:
        """An ephemeral message goes to one member of each consumer that has had all before it."""
        for consumer in self._consumers:
            place = consumer.places.get(log.name)
            if (
                self._covers(consumer, log.name)
                and (place is None or place.next > log.head)
                and stored.part(consumer.filter) is not None
            ):
                member = self._pick(consumer, None, None)
                if member is not None:
                    self._send(consumer, member, stored, None)

    def _feed(self, consumer: MemoryConsumer) -> None:
        for place in consumer.places.values():
            self._feed_place(consumer, place)
        idle = all(
            place.next > place.log.head and not any(entry.due for entry in place.open.values())
            for place in consumer.places.values()
        )
        own = consumer.places.get(consumer.topic)
        for member in consumer.members:
            if idle and not member.live:
                member.live = True
                seq = 0 if own is None else own.log.head
                member.session.send(Live(topic=consumer.topic, seq=seq, consumer=consumer.name))

    def _feed_place(self, consumer: MemoryConsumer, place: Place) -> None:
        for seq, entry in tuple(place.open.items()):
            if entry.due:
                self._give(consumer, place, seq, entry)
        while place.next <= place.log.head and any(_room(member) for member in consumer.members):
            seq = max(place.next, place.log.first)
            place.next = seq + 1
            stored = place.log.messages[seq - place.log.first]
            if stored.part(consumer.filter) is None:
                continue
            entry = place.open[seq] = Open(stored, _key_of(stored.frame, consumer.ordered))
            self._give(consumer, place, seq, entry)

    def _give(self, consumer: MemoryConsumer, place: Place, seq: int, entry: Open) -> None:
        if entry.stored.expires_at is not None and entry.stored.expires_at <= self._broker.clock():
            self._bury(consumer, place, seq, "expired", "expired")
            return
        if entry.key is not None and any(
            other.key == entry.key and (other.member is not None or earlier < seq)
            for earlier, other in place.open.items()
            if earlier != seq
        ):
            return
        member = self._pick(consumer, entry.last, entry.key)
        if member is None:
            return
        entry.due = False
        entry.deliveries += 1
        entry.member = entry.last = member
        member.out += 1
        loop = asyncio.get_running_loop()
        entry.stop()
        entry.timer = loop.call_later(member.ack_wait, self._run_out, consumer, place, seq)
        self._send(consumer, member, entry.stored, entry.deliveries)
        self._tell(consumer, entry.stored.frame, "delivered", member.session.agent)

    def _pick(self, consumer: MemoryConsumer, avoid: Member | None, key: str | None) -> Member | None:
        able = [member for member in consumer.members if not member.draining]
        if consumer.exclusive:
            able = able[:1]
        elif key is not None and able:
            able = [able[sum(key.encode()) % len(able)]]
        able = [member for member in able if _room(member)]
        others = [member for member in able if member is not avoid]
        return min(others or able, key=lambda member: member.out, default=None)

    def _send(self, consumer: MemoryConsumer, member: Member, stored: Stored, attempt: int | None) -> None:
        part = stored.part(consumer.filter) or stored
        frame = replace(part.frame, consumer=consumer.name, attempt=None if attempt in (None, 1) else attempt)
        member.session.send_stored(replace_line(part, frame))

    def _run_out(self, consumer: MemoryConsumer, place: Place, seq: int) -> None:
        self._fail(consumer, place, seq, "ack_wait ran out", None)
        self._feed(consumer)

    # Settling -----------------------------------------------------------------------------------------------------

    def settle(self, session: "Session", frame: Settle) -> None:
        """A member says what became of a message."""
        consumer = next((one for one in self._consumers if one.name == frame.consumer and self._at(one, frame)), None)
        place = consumer.places.get(frame.topic) if consumer is not None else None
        if consumer is None or place is None:
            session.send(Err(rid=frame.rid, code=ErrorCode.NOT_FOUND, message="no such consumer"))
            return
        if isinstance(frame, Ack):
            seqs = [frame.seq] if frame.seq is not None else list(frame.seqs or ())
            if frame.upto is not None:
                upto = frame.upto
                seqs = [seq for seq, entry in place.open.items() if seq <= upto and _holds(entry, session, None)]
        else:
            seqs = [frame.seq or 0]
        for seq in seqs:
            code = self._apply(session, consumer, place, seq, frame)
            alone = len(seqs) == 1
            if code is None:
                continue
            rid = frame.rid if alone else None
            message = f"message {seq} of {frame.topic} is not held here"
            session.send(Err(rid=rid, code=code, message=message, topic=frame.topic, consumer=frame.consumer, seq=seq))
            if alone:
                return
        if frame.rid is not None:
            session.send(Ok(rid=frame.rid, topic=frame.topic))
        self._feed(consumer)

    def _apply(
        self, session: "Session", consumer: MemoryConsumer, place: Place, seq: int, frame: Settle
    ) -> ErrorCode | None:
        if not 1 <= seq <= place.log.head:
            return ErrorCode.BAD_REQUEST
        entry = place.open.get(seq)
        if isinstance(frame, Ack):
            return self._ack(session, consumer, place, seq, entry, frame.attempt)
        if entry is None or not _holds(entry, session, frame.attempt):
            return ErrorCode.CONFLICT
        if isinstance(frame, Extend):
            member = entry.member
            assert member is not None
            entry.stop()
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(member.ack_wait, self._run_out, consumer, place, seq)
            self._tell(consumer, entry.stored.frame, "working", session.agent)
        elif isinstance(frame, Term):
            self._bury(consumer, place, seq, frame.reason or "terminated", "dead")
        elif frame.returned:
            entry.deliveries -= 1
            self._free(entry)
            entry.due = True
        else:
            self._fail(consumer, place, seq, frame.reason or "nack", frame.delay)
        return None

    def _ack(
        self,
        session: "Session",
        consumer: MemoryConsumer,
        place: Place,
        seq: int,
        entry: Open | None,
        attempt: int | None,
    ) -> ErrorCode | None:
        if entry is None:
            by = place.by.get(seq)
            mine = by is None or (by[0] == session.session and attempt in (None, by[1]))
            return None if mine else ErrorCode.CONFLICT
        waits = entry.member is None and entry.deliveries and (attempt is None or attempt >= entry.deliveries)
        if not waits and not _holds(entry, session, attempt):
            return ErrorCode.CONFLICT
        place.by[seq] = (session.session, entry.deliveries)
        self._free(entry)
        del place.open[seq]
        self._tell(consumer, entry.stored.frame, "done", session.agent)
        return None

    def _fail(self, consumer: MemoryConsumer, place: Place, seq: int, reason: str, delay: float | None) -> None:
        entry = place.open[seq]
        entry.first_failure = entry.first_failure or self._broker.clock()
        self._free(entry)
        if consumer.max_deliver and entry.deliveries >= consumer.max_deliver:
            self._bury(consumer, place, seq, reason, "dead")
            return
        if delay is None:
            delay = consumer.backoff[min(entry.deliveries, len(consumer.backoff)) - 1] if consumer.backoff else 0.0
        entry.timer = asyncio.get_running_loop().call_later(delay, self._due_again, consumer, entry)

    def _due_again(self, consumer: MemoryConsumer, entry: Open) -> None:
        entry.timer = None
        entry.due = True
        self._feed(consumer)

    def _bury(self, consumer: MemoryConsumer, place: Place, seq: int, reason: str, state: str) -> None:
        entry = place.open.pop(seq)
        self._free(entry)
        frame, now = entry.stored.frame, self._broker.clock()
        dead = {
            "reason": reason,
            "attempts": entry.deliveries,
            "first_failure": entry.first_failure or now,
            "last_failure": now,
            "topic": frame.topic,
            "seq": seq,
            "consumer": consumer.name,
            "original": Raw(codec.encode(replace(frame, data=NO_DATA))),
        }
        pub = Pub(
            topic=names.dead_letters_of(names.group_of(frame.topic)),
            id=f"{frame.topic}#{seq} {consumer.name}",
            data=frame.data,
            type="dead_letter",
            headers=Raw(codec.encode_value({"dead": dead})),
        )
        self._broker.bury(pub, entry.stored.payload, frame.sender)
        self._tell(consumer, frame, state, "" if entry.last is None else entry.last.session.agent, reason)

    def _free(self, entry: Open) -> None:
        entry.stop()
        entry.due = False
        if entry.member is not None:
            entry.member.out -= 1
            entry.member = None

    # Receipts -----------------------------------------------------------------------------------------------------

    def missed(self, agent: str) -> Iterator[Receipt]:
        """What an agent's messages came to while it was away."""
        yield from self._missed.pop(agent, ())

    def _tell(self, consumer: MemoryConsumer, frame: Msg, state: str, by: str, reason: str | None = None) -> None:
        if not frame.track:
            return
        receipt = Receipt(
            id=frame.id,
            topic=frame.topic,
            state=state,
            seq=frame.seq,
            consumer=consumer.name,
            by=by or None,
            reason=reason,
            ts=self._broker.clock(),
        )
        sessions = [session for session in self._broker.sessions if session.agent == frame.sender]
        if not sessions:
            self._missed.setdefault(frame.sender, []).append(receipt)
        for session in sessions[:1]:
            session.send(receipt)

    # ------------------------------------------------------------------------------------------------------------

    def _named(self, topic: str, name: str) -> MemoryConsumer | None:
        return next((one for one in self._consumers if (one.topic, one.name) == (topic, name)), None)

    @staticmethod
    def _member(consumer: MemoryConsumer | None, session: "Session") -> Member | None:
        members = [] if consumer is None else consumer.members
        return next((member for member in members if member.session is session and not member.draining), None)

    @staticmethod
    def _covers(consumer: MemoryConsumer, topic: str) -> bool:
        if names.is_pattern(consumer.topic) and names.is_hidden(topic):
            return False
        return consumer.matches(topic)

    def _at(self, consumer: MemoryConsumer, frame: Settle) -> bool:
        return self._covers(consumer, frame.topic)


def replace_line(stored: Stored, frame: Msg) -> Stored:
    """The same message, under another frame."""
    return Stored(frame, codec.encode(frame), stored.payload, stored.expires_at)


def _room(member: Member) -> bool:
    return not member.draining and member.out < member.max_unacked and member.session.open


def _holds(entry: Open, session: "Session", attempt: int | None) -> bool:
    return entry.member is not None and entry.member.session is session and attempt in (None, entry.deliveries)


def _key_of(frame: Msg, header: str | None) -> str | None:
    if header == BY_TOPIC:
        return frame.topic
    if header is None or not bytes(frame.headers):
        return None
    value = (codec.members_of(frame.headers) or {}).get(header)
    return None if value is None else bytes(value).decode()
