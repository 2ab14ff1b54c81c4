"""Tells the broker what became of messages, until it has confirmed that.

What is settled in one turn of the event loop leaves together: acks of one topic and attempt in one `ack`, all in one
frame. Each carries a `rid`, and its `ok` means that the broker has it on disk. When the connection ends, the broker
takes back what was out; so a `nack` is of no use any more, while an `ack` or a `term` is said again on the next
connection, before the subscription is: until then nobody here can be given the message again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import islice

from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Ack, Err, Frame, Nack, Ok, Rid, Term

from . import policy
from .backoff import Backoff
from .lease import Lease, Ruling, Verdict
from .link import Link

logger = logging.getLogger("hubbub")

SEQS_MAX = 500
"""Messages that one `ack` names."""

RETRY = Backoff(base=0.5, cap=30.0)
"""How long a refused answer is put off, when the broker does not say."""


class Answer(StrEnum):
    """What came of a settlement."""

    CONFIRMED = "confirmed"
    CONFLICT = "conflict"
    """The message was given to another meanwhile, or once more."""
    REFUSED = "refused"
    """The broker can't take it, ever."""
    RELEASED = "released"
    """The connection ended: the broker has the message back."""


class Settler:
    """The settlements of one consumer."""

    def __init__(self, consumer: str, settled: Callable[[Lease, Answer, Err | None], None]) -> None:
        """`settled(lease, answer, error)` is called once for each lease."""
        self._consumer = consumer
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._queue: dict[Lease, None] = {}
        self._asked: dict[Lease, object] = {}
        """With the request that is to be answered: an answer to an earlier one does not count."""
        self._postponed: dict[Lease, asyncio.TimerHandle] = {}
        self._refusals = 0
        self._flush_handle: asyncio.Handle | None = None

    def settle(self, lease: Lease) -> None:
        """Say what a lease's ruling is, at the end of this turn; again, if its attempt is another one now."""
        self._asked.pop(lease, None)
        self._queue[lease] = None
        if self._link is not None and self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def doubted(self, lease: Lease) -> None:
        """The broker named it, of an `ack` of many: ask about it alone, whose answer is about this attempt for sure."""
        if lease in self._asked and self._link is not None:
            self._ask([lease])

    def forget(self, lease: Lease) -> None:
        """It needs no saying any more."""
        self._queue.pop(lease, None)
        self._asked.pop(lease, None)
        timer = self._postponed.pop(lease, None)
        if timer is not None:
            timer.cancel()

    def link_up(self, link: Link) -> None:
        """Say again what was not confirmed."""
        self._link = link
        self.flush()

    def link_down(self) -> None:
        """Keep what is worth saying again."""
        self._link = None
        self._refusals = 0
        for timer in self._postponed.values():
            timer.cancel()
        waiting = dict.fromkeys((*self._asked, *self._postponed, *self._queue))
        self._asked.clear()
        self._postponed.clear()
        self._queue.clear()
        for lease in waiting:
            assert lease.ruling is not None
            if lease.ruling.verdict.outlives_connection:
                self._queue[lease] = None
            else:
                self._settled(lease, Answer.RELEASED, None)

    def stop(self) -> None:
        """Nothing will be said any more."""
        self._link = None
        for timer in self._postponed.values():
            timer.cancel()
        self._postponed.clear()
        self._queue.clear()
        self._asked.clear()
        if self._flush_handle is not None:
            self._flush_handle.cancel()

    def flush(self) -> None:
        """Say now what is to be said."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._link is None:
            return
        queue, self._queue = self._queue, {}
        acks: dict[tuple[str, int], list[Lease]] = {}
        for lease in queue:
            assert lease.ruling is not None
            if lease.ruling.verdict is Verdict.ACK:
                acks.setdefault((lease.topic, lease.attempt), []).append(lease)
            else:
                self._ask([lease])
        for leases in acks.values():
            for some in _chunks(leases, SEQS_MAX):
                self._ask(some)

    # ------------------------------------------------------------------------------------------------------------

    def _ask(self, leases: list[Lease]) -> None:
        assert self._link is not None
        request = object()
        for lease in leases:
            self._asked[lease] = request
        self._link.ask(
            lambda rid: _request(self._consumer, leases, rid), lambda answer: self._answered(leases, request, answer)
        )

    def _answered(self, leases: list[Lease], request: object, answer: Ok | Err) -> None:
        # What came again meanwhile, and was settled again under its new attempt, has another answer coming.
        asked = [lease for lease in leases if self._asked.get(lease) is request]
        if isinstance(answer, Ok):
            self._refusals = 0
            for lease in asked:
                self._end(lease, Answer.CONFIRMED, None)
        elif len(leases) > 1:
            # One of them is at fault, and the answer does not have to say which. A repeat of a settled one is `ok`.
            for lease in asked:
                self._ask([lease])
        elif not asked:
            return
        elif answer.code == ErrorCode.CONFLICT:
            self._end(asked[0], Answer.CONFLICT, answer)
        elif policy.is_retryable(answer.code):
            self._postpone(asked[0], answer)
        else:
            logger.warning("! settling %r refused: %s (%s)", asked[0], answer.message, answer.code)
            self._end(asked[0], Answer.REFUSED, answer)

    def _end(self, lease: Lease, answer: Answer, error: Err | None) -> None:
        self._asked.pop(lease, None)
        self._settled(lease, answer, error)

    def _postpone(self, lease: Lease, error: Err) -> None:
        delay = RETRY.ceiling(self._refusals) if error.retry_after is None else max(0.0, error.retry_after)
        self._refusals += 1
        self._asked.pop(lease, None)
        self._postponed[lease] = self._loop.call_later(delay, self._again, lease)

    def _again(self, lease: Lease) -> None:
        self._postponed.pop(lease, None)
        self.settle(lease)


def _request(consumer: str, leases: list[Lease], rid: Rid) -> Frame:
    lease = leases[0]
    ruling = lease.ruling
    assert isinstance(ruling, Ruling)
    topic, seq, attempt = lease.topic, lease.seq, lease.attempt
    if ruling.verdict is Verdict.ACK:
        if len(leases) == 1:
            return Ack(topic=topic, consumer=consumer, seq=seq, attempt=attempt, rid=rid)
        return Ack(topic=topic, consumer=consumer, seqs=[one.seq for one in leases], attempt=attempt, rid=rid)
    if ruling.verdict is Verdict.TERM:
        return Term(topic=topic, consumer=consumer, seq=seq, reason=ruling.reason, attempt=attempt, rid=rid)
    return Nack(
        topic=topic,
        consumer=consumer,
        seq=seq,
        delay=ruling.delay,
        reason=ruling.reason,
        attempt=attempt,
        returned=ruling.verdict is Verdict.RETURN,
        rid=rid,
    )


def _chunks(leases: Iterable[Lease], size: int) -> Iterable[list[Lease]]:
    rest = iter(leases)
    while some := list(islice(rest, size)):
        yield some
