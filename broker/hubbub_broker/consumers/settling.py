"""Settling: who may, and what becomes of an ack that comes when its delivery is over."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from typing import TYPE_CHECKING

from hubbub_broker.log import LogError
from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Sink
from hubbub_protocol.errors import ErrorCode

from .consumer import tracked_of
from .lease import Lease, Tracked
from .place import Place

if TYPE_CHECKING:
    from .consumers import Consumers

_AT_ONCE = 100
"""Messages that are read again in one turn of the loop, to see who is to hear that they are done: 5 ms."""

_AGAIN_SECONDS = 0.01

log = get_logger(__name__)


class Settling:
    """Takes the settlements of a shard's consumers."""

    def __init__(self, consumers: Consumers, loop: AbstractEventLoop) -> None:
        self._consumers = consumers
        self._loop = loop
        self._late: deque[tuple[Place, int, str]] = deque()
        """Acks of what an earlier life of the broker gave out: only the log knows whether they are tracked."""
        self._scheduled = False

    def held(self, place: Place, seq: int, sink: Sink, attempt: int | None, number: int | None = None) -> Lease:
        """The lease that a request is about.

        Raises:
            Refusal: `conflict` if this connection does not hold it (any more).
        """
        self._check_seq(place, seq)
        lease = place.out.get(seq)
        if lease is None or not _is_held(lease, sink, attempt, number):
            raise self._conflict(place, seq)
        return lease

    def ack(
        self,
        place: Place,
        seq: int,
        sink: Sink,
        session: str,
        agent: str,
        attempt: int | None,
        number: int | None = None,
    ) -> None:
        """Settle a message.

        Raises:
            Refusal: `conflict` if it was given to another meanwhile, or to nobody yet; `bad_request` if there is no
                such message.
        """
        self._check_seq(place, seq)
        lease = place.out.get(seq)
        if lease is not None:
            if not _is_held(lease, sink, attempt, number):
                raise self._conflict(place, seq)
            place.consumer.settle(lease)
            return
        fence = place.consumer.fences.get((place.topic.name, seq)) if place.consumer.fences else None
        if fence is not None and fence[0] is sink:
            raise self._conflict(place, seq)
        if seq in place.settled:
            by = place.recent.get(seq)
            if by is not None and (by[0] != session or attempt not in (None, by[1])):
                raise self._conflict(place, seq)
            return
        failure = place.failures.get(seq)
        if attempt is not None and failure is not None and failure.deliveries > attempt:
            raise self._conflict(place, seq)
        wait = place.waiting.get(seq)
        newest = None if wait is None or wait.last is None else wait.last.number
        if number is not None and newest is not None and number < newest:
            raise self._conflict(place, seq)
        if not self._was_given(place, seq):
            raise self._conflict(place, seq, "was given to nobody yet")
        last = place.consumer.settle_waiting(place, seq, session, agent)
        if last is None:
            self._late.append((place, seq, agent))
            self._schedule()
        elif last.tracked is not None:
            self._done(place, seq, last.tracked, agent)

    def ack_upto(self, place: Place, upto: int, sink: Sink) -> None:
        """Settle what this connection was given up to a seq."""
        self._check_seq(place, upto)
        for lease in [each for seq, each in place.out.items() if seq <= upto and each.member.sink is sink]:
            place.consumer.settle(lease)

    def _was_given(self, place: Place, seq: int) -> bool:
        """Whether a message that is not out now may have been. What an earlier life of the broker did is not known."""
        wait = place.waiting.get(seq)
        if (wait is not None and wait.last is not None) or seq in place.failures:
            return True
        if place.inherited is None:
            place.inherited = place.topic.store.seq_at(place.topic.log, self._consumers.started) - 1
        return seq <= place.inherited

    def _check_seq(self, place: Place, seq: int) -> None:
        if not 1 <= seq <= place.topic.delivered:
            raise Refusal(
                ErrorCode.BAD_REQUEST, f"{place.topic.name} has messages 1 to {place.topic.delivered}; {seq} is none"
            )

    def _conflict(self, place: Place, seq: int, why: str | None = None) -> Refusal:
        self._consumers.figures.conflicts += 1
        name = place.consumer.terms.name  # who asks is told what it no longer has
        what = f"message {seq} of {place.topic.name}"
        if why is not None:
            return Refusal(ErrorCode.CONFLICT, f"{what} {why} by {name}")
        return Refusal(ErrorCode.CONFLICT, f"{what} is not held here: {name} gave it to another")

    # Receipts for what is acked late --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._scheduled = False
        for _ in range(min(len(self._late), _AT_ONCE)):
            place, seq, agent = self._late.popleft()
            try:
                entry = None if place.warming else place.load(seq)
            except LogError as error:
                log.warning("log unreadable", topic=place.topic.name, seq=seq, reason=str(error))
                place.put_off(error)
                entry = None
            if entry is None:
                self._loop.call_later(_AGAIN_SECONDS, self._look_again, place, seq, agent)
            elif entry.line and (tracked := tracked_of(entry)) is not None:
                self._done(place, seq, tracked, agent)
        if self._late:
            self._schedule()

    def _look_again(self, place: Place, seq: int, agent: str) -> None:
        self._late.append((place, seq, agent))
        self._schedule()

    def _done(self, place: Place, seq: int, tracked: Tracked, agent: str) -> None:
        self._consumers.receipts.note(tracked, place.topic.name, seq, place.consumer.terms.name, "done", agent)


def _is_held(lease: Lease, sink: Sink, attempt: int | None, number: int | None) -> bool:
    return lease.member.sink is sink and attempt in (None, lease.attempt) and number in (None, lease.number)
