"""What a session asks of consumers: join, leave, settle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubbub_broker.access import Operation, of_consumer
from hubbub_broker.consumers import Consumers, Member, Place, Wish, is_internal
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Cursor, Start
from hubbub_protocol.codec import encode
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import NACK_DELAY_MAX, Ack, Err, Extend, Nack, Ok, Rid, Sub, Term, Unsub
from hubbub_protocol.names import check_consumer, check_pattern, check_topic, group_of, is_pattern, owner_of_mark

from .filtering import parse_filter

if TYPE_CHECKING:
    from .session import Session
    from .sessions import Sessions

SEQS_MAX = 10_000
"""Messages that one `ack` may name."""

ALLOWED_KEPT = 4096
"""Consumers for which it is remembered that a session may settle there."""

Settle = Ack | Nack | Extend | Term


class _Answers:
    """A `Sink` for the answers to acks that wait for the disk: they are no publishes, and take none of their window."""

    __slots__ = ("_session", "cursors", "writable")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.writable = False
        self.cursors: dict[str, Cursor] = {}

    def write(self, blob: bytes) -> None:
        self._session.write(blob)

    def answer(self, lines: list[bytes]) -> None:
        self._session.answer(lines)

    def settle(self, count: int, lines: list[bytes]) -> None:  # noqa: ARG002 - the signature is Sink's
        self._session.answer(lines)

    def stop_reading(self) -> None:
        self._session.stop_reading()

    def resume_reading(self) -> None:
        self._session.resume_reading()


class Consuming:
    """The memberships of one session."""

    __slots__ = ("_allowed", "_answers", "_leaving", "_session", "_sessions", "members")

    def __init__(self, session: Session, sessions: Sessions) -> None:
        self._session = session
        self._sessions = sessions
        self.members: dict[tuple[str, str], Member] = {}
        self._allowed: set[tuple[str, str]] = set()
        """Topics and consumers where it may settle."""
        self._answers = _Answers(session)
        self._leaving: list[Member] = []
        """They finish what they have, and want nothing new."""

    def subscribe(self, sub: Sub) -> None:
        """Become a member of a consumer.

        Raises:
            Refusal, ProtocolError: why not.
        """
        session = self._session
        assert sub.consumer is not None
        wish = self._wish(sub, sub.consumer)
        self._require(wish.topic, wish.name)
        key = (wish.topic, wish.name)
        held = self.members.get(key)
        if held is not None and not held.gone:
            raise Refusal(
                ErrorCode.CONFLICT, f"this connection is a member of {wish.name} at {wish.topic}: `unsub` it first"
            )
        consumers = self._of(wish.topic)

        def joined(_: Member, head: int, next: int) -> None:
            epoch = consumers.shard.log.epoch
            session.answer([encode(Ok(rid=sub.rid, topic=wish.topic, head=head, next=next, epoch=epoch))])

        def refused(refusal: Refusal) -> None:
            self.members.pop(key, None)
            session.refuse(sub.rid, refusal)

        agent = session.agent
        assert agent is not None
        self.members[key] = consumers.join(session, agent, session.life or session.id, wish, joined, refused)

    def _wish(self, sub: Sub, name: str) -> Wish:
        check_consumer(name)
        check_pattern(sub.topic)
        if is_internal(name):
            raise Refusal(ErrorCode.FORBIDDEN, "consumers whose names begin with `_` are the broker's own")
        if is_pattern(group_of(sub.topic)):
            raise Refusal(ErrorCode.BAD_REQUEST, "a consumer's topics are of one group: name it in place of the `*`")
        settings = self._sessions.settings
        ack_wait = settings.ack_wait if sub.ack_wait is None else sub.ack_wait
        max_unacked = settings.max_unacked if sub.max_unacked is None else sub.max_unacked
        if not 0.01 <= ack_wait <= 86_400:
            raise Refusal(ErrorCode.BAD_REQUEST, "`ack_wait` is 0.01 to 86400 seconds")
        if not 1 <= max_unacked <= 100_000:
            raise Refusal(ErrorCode.BAD_REQUEST, "`max_unacked` is 1 to 100000 messages")
        if sub.max_deliver is not None and not 0 <= sub.max_deliver <= 1_000_000:
            raise Refusal(ErrorCode.BAD_REQUEST, "`max_deliver` is 1 to 1000000 deliveries, or 0 for no end")
        if sub.backoff is not None and not (
            len(sub.backoff) <= 100 and all(0 <= wait <= 86_400 for wait in sub.backoff)
        ):
            raise Refusal(ErrorCode.BAD_REQUEST, "`backoff` is up to 100 waits of 0 to 86400 seconds")
        if sub.exclusive and sub.ordered is not None:
            raise Refusal(ErrorCode.BAD_REQUEST, "`exclusive` and `ordered` exclude one another")
        if sub.ordered is not None and not 1 <= len(sub.ordered) <= 128:
            raise Refusal(ErrorCode.BAD_REQUEST, "`ordered` is the name of a header, 1 to 128 characters, or `*`")
        start = Start.parse(sub.start)
        if owner_of_mark(sub.topic, name) is not None:
            start = Start(all=True)  # what nobody has read is still to come
        if start.seq is not None and is_pattern(sub.topic):
            raise Refusal(ErrorCode.BAD_REQUEST, "`from.seq` goes with one topic, not with a pattern")
        backoff = None if sub.backoff is None else tuple(sub.backoff)
        return Wish(
            sub.topic,
            name,
            start,
            ack_wait,
            max_unacked,
            sub.max_deliver,
            backoff,
            sub.exclusive,
            sub.ordered,
            parse_filter(sub, settings),
        )

    def unsubscribe(self, unsub: Unsub) -> None:
        """Leave a consumer, or finish what is out and then leave.

        Raises:
            Refusal: `not_found` if it is no member.
        """
        key = (unsub.topic, unsub.consumer or "")
        member = self.members.pop(key, None)
        if member is None and not unsub.drain:  # it was to finish, and gives up
            member = next((each for each in self._leaving if not each.gone and _key(each) == key), None)
        if member is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"this connection is no member of {unsub.consumer} at {unsub.topic}")
        if unsub.drain:
            self._leaving = [each for each in self._leaving if not each.gone]
            self._leaving.append(member)
            member.consumer.drain(member)
        else:
            self._of(unsub.topic).drop(member, "the member left")
        self._session.answer([encode(Ok(rid=unsub.rid, topic=unsub.topic))])

    def settle(self, frame: Settle) -> None:
        """Ack, nack, extend or term. A conflict is told whether or not an answer was asked for.

        Raises:
            Refusal, ProtocolError: of other kinds.
        """
        try:
            if (frame.topic, frame.consumer) not in self._allowed:
                self._allow(check_topic(frame.topic), frame.consumer)
            consumers = self._of(frame.topic)
            place = consumers.find(frame.topic, frame.consumer)
            member = self.members.get((place.consumer.terms.topic, frame.consumer))
            if member is not None and member.overdue:
                place.consumer.trust(member)  # late or not: it is at work
            if isinstance(frame, Ack):
                self._ack(consumers, place, frame)
                return
            lease = consumers.settling.held(place, frame.seq, self._session, frame.attempt, frame.lease)
            consumer = place.consumer
            match frame:
                case Extend():
                    consumer.extend(lease)
                case Term():
                    consumer.terminate(lease, self._reason(frame) or "terminated")
                case Nack(returned=True):
                    consumer.give_back(lease)
                case Nack():
                    if frame.delay is not None and not 0 <= frame.delay <= NACK_DELAY_MAX:
                        raise Refusal(ErrorCode.BAD_REQUEST, f"`delay` is 0 to {NACK_DELAY_MAX:.0f} seconds")
                    consumer.fail(lease, self._reason(frame) or "nack", frame.delay)
        except Refusal as refusal:
            if refusal.code != ErrorCode.CONFLICT:
                raise
            self._conflict(frame, refusal)
            return
        if frame.rid is not None:
            self._session.answer([encode(Ok(rid=frame.rid, topic=frame.topic, seq=frame.seq))])

    def _reason(self, frame: Nack | Term) -> str:
        """What a member says, as much of it as is kept: it stands in positions and in a dead letter."""
        reason = frame.reason or ""
        most = self._sessions.settings.max_reason
        return reason if len(reason) * 4 <= most else reason.encode()[:most].decode(errors="ignore")

    def _allow(self, topic: str, consumer: str) -> None:
        """Ask once for each topic and consumer, not for each message, whether the session may settle there."""
        self._require(topic, consumer)
        if len(self._allowed) >= ALLOWED_KEPT:
            self._allowed.clear()
        self._allowed.add((topic, consumer))

    def _require(self, topic: str, consumer: str) -> None:
        for operation, target in of_consumer(Operation.SETTLE, topic, consumer):
            self._session.require(operation, target)

    def _ack(self, consumers: Consumers, place: Place, ack: Ack) -> None:
        given = [value for value in (ack.seq, ack.seqs, ack.upto) if value is not None]
        if len(given) != 1:
            raise Refusal(ErrorCode.BAD_REQUEST, "an `ack` has exactly one of `seq`, `seqs` and `upto`")
        session = self._session
        if ack.upto is not None:
            consumers.settling.ack_upto(place, ack.upto, session)
        seqs = [ack.seq] if ack.seq is not None else ack.seqs or []
        if len(seqs) > SEQS_MAX:
            raise Refusal(ErrorCode.BAD_REQUEST, f"{len(seqs)} messages in one `ack`; the limit is {SEQS_MAX}")
        agent = session.agent
        assert agent is not None
        name = session.life or session.id
        lost: list[int] = []
        for seq in seqs:
            try:
                consumers.settling.ack(place, seq, session, name, agent, ack.attempt, ack.lease)
            except Refusal as refusal:
                if refusal.code != ErrorCode.CONFLICT:
                    raise
                lost.append(seq)
                if len(seqs) > 1 or ack.rid is None:
                    self._conflict(ack, refusal, seq, with_rid=False)
        if ack.rid is None:
            return
        if lost and len(seqs) == 1:
            raise Refusal(ErrorCode.CONFLICT, f"message {lost[0]} of {ack.topic} was given to another meanwhile")
        consumers.confirm(self._answers, encode(Ok(rid=ack.rid, topic=ack.topic, seq=ack.seq)), [place])

    def _conflict(self, frame: Settle, refusal: Refusal, seq: int | None = None, *, with_rid: bool = True) -> None:
        self._sessions.metrics.count_request_refusal(refusal.code)
        rid: Rid | None = frame.rid if with_rid else None
        err = Err(
            code=refusal.code,
            message=refusal.message,
            rid=rid,
            topic=frame.topic,
            consumer=frame.consumer,
            seq=frame.seq if seq is None else seq,
        )
        self._session.answer([encode(err)])

    def drained(self) -> None:
        """The socket can take more."""
        for member in self.members.values():
            member.consumer.room(member)

    def lost(self) -> None:
        """The connection is gone."""
        for member in (*self.members.values(), *self._leaving):
            self._of(member.consumer.terms.topic).drop(member, "connection lost")
        self.members.clear()
        self._leaving.clear()

    def _of(self, topic: str) -> Consumers:
        return self._sessions.consumers_of(group_of(topic))


def _key(member: Member) -> tuple[str, str]:
    terms = member.consumer.terms
    return terms.topic, terms.name
