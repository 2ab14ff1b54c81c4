"""A consumer's subscription: the position is the broker's, and every message is to be settled.

    off --- ask ---> asked --- ok ---> on ---+
     ^                 |                |    | drain: nothing new is taken; what was not begun goes back,
     +---- the connection ended --------+    | what is at work is finished, settled and confirmed
                                             v
                                            over

What it keeps is a table of leases: what the broker gave this agent and has not heard the end of. When the connection is
back, the settlements that were not confirmed go first, then the subscription. A message that comes again while it is at
work here is not begun a second time: what runs goes on under the newer attempt.
"""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hubbub_protocol import names
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err, Extend, From, Gap, Live, Msg, Ok, Sub, Unsub

from . import policy
from .acks import Answer, Settler
from .backoff import Backoff
from .delivery import Delivery
from .errors import Closed, Conflict, LeaseLost, fresh
from .lease import Lease, LeaseKeeper, LeaseState, Ruling, Verdict
from .link import Link
from .message import Publisher
from .stats import Stats
from .stopping import CANCEL_SECONDS

logger = logging.getLogger("hubbub")

RETRY = Backoff(base=1.0, cap=60.0)
"""How long a consumer that the broker can't take now is put off, when the broker does not say."""


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """What is asked of the broker."""

    topic: str
    name: str
    start: str | From
    ack_wait: float
    max_unacked: int
    max_deliver: int | None = None
    backoff: tuple[float, ...] | None = None
    exclusive: bool = False
    ordered: str | None = None
    filter: Filter | None = None

    def sub(self, rid: str | int) -> Sub:
        """The request."""
        return Sub(
            topic=self.topic,
            consumer=self.name,
            start=self.start,
            ack_wait=self.ack_wait,
            max_unacked=self.max_unacked,
            max_deliver=self.max_deliver,
            backoff=None if self.backoff is None else list(self.backoff),
            exclusive=self.exclusive,
            ordered=self.ordered,
            where=None if self.filter is None else self.filter.where,
            select=None if self.filter is None else self.filter.select,
            rid=rid,
        )


class Taker(Protocol):
    """Who works on what comes. All calls come from the event loop, and must not block."""

    def take(self, delivery: Delivery) -> None:
        """A message came."""

    def lost(self, delivery: Delivery, error: LeaseLost) -> bool:
        """A message is not this agent's any more. True if something is at work on it still, and will say when it has
        ended (`Consumer.ended`).
        """

    def hold(self) -> list[Delivery]:
        """What was not begun. More may come."""

    def give_back(self) -> list[Delivery]:
        """Begin nothing more: what was not begun."""

    def cancel(self) -> None:
        """Stop what is at work."""

    async def finished(self) -> None:
        """Wait until nothing is at work."""

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come."""


class WireState(StrEnum):
    """Where a consumer stands on its connection."""

    OFF = "off"
    ASKED = "asked"
    ON = "on"


class Consumer:
    """One membership in a consumer, for as long as it is wanted, over all connections."""

    def __init__(
        self,
        spec: ConsumerSpec,
        taker: Taker,
        publisher: Publisher,
        stats: Stats,
        *,
        on_gap: Callable[[Gap], None] | None = None,
        gone: Callable[["Consumer"], None],
    ) -> None:
        """`gone` is called when it is over and nothing of it is unconfirmed."""
        self.spec = spec
        self.matches: Callable[[str], bool] = (
            names.matcher(spec.topic) if names.is_pattern(spec.topic) else spec.topic.__eq__
        )
        self.ready = asyncio.Event()
        """The broker took it, once."""
        self.live = asyncio.Event()
        """There was nothing from before, once."""
        self.state = WireState.OFF
        self.error: BaseException | None = None
        self._taker = taker
        self._publisher = publisher
        self._stats = stats
        self._on_gap = on_gap
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._held: dict[tuple[str, int], Lease] = {}
        self._successors: dict[Lease, tuple[Msg, bytes | None]] = {}
        self._settler = Settler(spec.name, self._settled)
        self._keeper = LeaseKeeper(
            spec.ack_wait,
            clock=self._loop.time,
            call_at=self._loop.call_at,
            extend=self._extend,
            lost=self._lose,
            abandoned=self._over,
        )
        self._accepting = True
        self._paused = False
        self._ended = False
        self._left = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._refusals = 0
        self._retry: asyncio.TimerHandle | None = None
        self.unfinished = 0
        """Messages that were at work when the time to finish them was over."""
        self._draining: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Consumer {self.spec.name} of {self.spec.topic} {self.state}>"

    @property
    def unsettled(self) -> int:
        """Messages that the broker gave this agent and has not confirmed the end of."""
        return len(self._held)

    @property
    def _taking(self) -> bool:
        return self._accepting and not self._paused

    # Pause --------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Take nothing more for now, and give back what was not begun: others get it. What is at work goes on."""
        if self._paused or not self._accepting:
            return
        self._paused = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._link is not None and self.state is not WireState.OFF:
            self._link.ask(lambda rid: self._unsub(rid, drain=True), _ignore)
        self.state = WireState.OFF
        for delivery in self._taker.hold():
            self.rule(delivery, Ruling(Verdict.RETURN))

    def resume(self) -> None:
        """Go on."""
        if self._paused:
            self._paused = False
            self._ask()

    # The connection ---------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """Settle first, then ask: until then nobody here can be given again what was done here."""
        self._link = link
        self._settler.link_up(link)
        self._ask()

    def link_down(self) -> None:
        """The broker has back what was out. What is at work goes on as long as its lease would have lasted."""
        self._link = None
        self.state = WireState.OFF
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for lease in self._held.values():
            lease.current = False
        self._settler.link_down()

    def _ask(self) -> None:
        self._retry = None
        if self._link is None or not self._taking or self.state is not WireState.OFF:
            return
        self.state = WireState.ASKED
        self._link.ask(self.spec.sub, self._asked)

    def _asked(self, answer: Ok | Err) -> None:
        if self.state is not WireState.ASKED:
            return  # it was paused meanwhile
        if isinstance(answer, Ok):
            self._refusals = 0
            self.state = WireState.ON
            self.ready.set()
            return
        self.state = WireState.OFF
        if not self._taking:
            return
        if policy.is_retryable(answer.code):
            delay = RETRY.ceiling(self._refusals) if answer.retry_after is None else answer.retry_after
            self._refusals += 1
            logger.warning("! %r put off for %.1f s: %s", self, delay, answer.message)
            self._retry = self._loop.call_later(delay, self._ask)
        else:
            logger.warning("! %r refused: %s (%s)", self, answer.message, answer.code)
            self.end(policy.rejection_of(answer))

    # What comes -------------------------------------------------------------------------------------------------

    def deliver(self, frame: Msg, payload: bytes | None) -> None:
        """A message came."""
        if self._left:
            return  # it was on its way when this agent left, by which the broker has it back
        if frame.seq is None:
            if self._taking:
                self._taker.take(self._delivery(frame, payload, None))
            return
        key = (frame.topic, frame.seq)
        attempt = frame.attempt or 1
        held = self._held.get(key)
        if held is not None and self._is_known(held, attempt, frame, payload):
            return
        lease = Lease(frame.topic, frame.seq, attempt, self._loop.time())
        delivery = self._delivery(frame, payload, lease)
        lease.delivery = weakref.ref(delivery)
        self._held[key] = lease
        self._empty.clear()
        if self._taking:
            self._keeper.watch(lease)
            self._taker.take(delivery)
        else:
            self._settle(lease, Ruling(Verdict.RETURN))

    def _delivery(self, frame: Msg, payload: bytes | None, lease: Lease | None) -> Delivery:
        """A message as whoever works on it gets it."""
        return Delivery(frame, self._publisher, payload, lease, self)

    def _is_known(self, lease: Lease, attempt: int, frame: Msg, payload: bytes | None) -> bool:
        """Whether a message that came again is dealt with by what is here of it."""
        if lease.state is LeaseState.HELD:
            if lease.delivery is None or lease.delivery() is None:  # nobody here would ever settle it
                self._keeper.let_go(lease)
                self._over(lease)
                return False
            if attempt != lease.attempt or not lease.current:
                self._stats.adopted += 1
                logger.info("= %r is at work here and goes on as attempt %d", lease, attempt)
                lease.adopt(attempt, self._loop.time())
                self._keeper.watch(lease)
            return True
        if lease.state is LeaseState.LOST:
            self._successors[lease] = (frame, payload)
            return True
        assert lease.ruling is not None
        if lease.ruling.verdict.outlives_connection:
            if attempt != lease.attempt:
                lease.adopt(attempt, self._loop.time())
                self._settler.settle(lease)
            return True
        self._settler.forget(lease)
        self._settled(lease, Answer.RELEASED, None)
        return False

    def came_alive(self, _live: Live) -> None:
        """There is nothing left from before."""
        self.live.set()

    def gap(self, gap: Gap) -> None:
        """Some messages will not come."""
        self._stats.gaps += 1
        logger.warning("! gap for %r: %d to %d will not come (%s)", self, gap.first, gap.last, gap.reason)
        if self._on_gap is not None:
            try:
                self._on_gap(gap)
            except Exception:
                logger.exception("! on_gap failed")

    def conflict(self, topic: str, seq: int) -> None:
        """The broker says, unasked or to an extend, that a message is another's."""
        lease = self._held.get((topic, seq))
        if lease is None:
            return
        if lease.state is LeaseState.SETTLING:
            self._settler.doubted(lease)
        elif lease.state is LeaseState.HELD and lease.current:
            self._lose(lease, "the broker gave it to another")

    # Leases -----------------------------------------------------------------------------------------------------

    async def extend(self, delivery: Delivery) -> None:
        """Ask the broker now.

        Raises:
            LeaseLost
        """
        lease = delivery.lease
        if lease is None:
            return
        self._check(lease)
        if self._link is None or not lease.current:
            raise LeaseLost(f"{delivery!r} can't be extended: the connection on which it came has ended")
        waiter: asyncio.Future[None] = self._loop.create_future()
        lease.waiters.append(waiter)
        lease.asked_at = self._loop.time()
        self._extend(lease)
        await waiter

    def _extend(self, lease: Lease) -> None:
        if self._link is None:
            return
        asked_at = lease.asked_at
        attempt = lease.attempt
        self._link.ask(
            lambda rid: Extend(topic=lease.topic, consumer=self.spec.name, seq=lease.seq, attempt=attempt, rid=rid),
            lambda answer: self._extended(lease, attempt, asked_at, answer),
        )

    def _extended(self, lease: Lease, attempt: int, asked_at: float, answer: Ok | Err) -> None:
        if lease.state is not LeaseState.HELD or lease.attempt != attempt:
            return
        if isinstance(answer, Ok):
            self._stats.extended += 1
            lease.confirmed_at = max(lease.confirmed_at, asked_at)
            _tell(lease, None)
        elif answer.code in (ErrorCode.CONFLICT, ErrorCode.NOT_FOUND):
            self._lose(lease, answer.message)

    def _lose(self, lease: Lease, why: str) -> None:
        delivery = lease.delivery() if lease.delivery is not None else None
        self._keeper.let_go(lease)
        lease.state = LeaseState.LOST
        lease.lost.set()
        self._stats.leases_lost += 1
        logger.warning("! %r is not this agent's any more: %s", lease, why)
        error = LeaseLost(f"message {lease.topic}#{lease.seq} is not this agent's any more: {why}")
        _tell(lease, error)
        if delivery is None or not self._taker.lost(delivery, error):
            self.ended(lease)

    def ended(self, lease: Lease) -> None:
        """What was at work on a lost message has ended. If the message came back meanwhile, it begins anew."""
        if lease.state is not LeaseState.LOST:
            return
        successor = self._successors.pop(lease, None)
        self._over(lease)
        if successor is not None and not self._ended:
            self.deliver(*successor)

    # Settling ---------------------------------------------------------------------------------------------------

    def rule(self, delivery: Delivery, ruling: Ruling) -> bool:
        """Settle a message, unless it is not this agent's any more. Does not wait for the confirmation."""
        lease = delivery.lease
        if lease is None or lease.state is not LeaseState.HELD:
            return False
        self._settle(lease, ruling)
        return True

    async def settle(self, delivery: Delivery, ruling: Ruling) -> None:
        """Settle a message, and wait for the confirmation.

        Raises:
            LeaseLost, Conflict, Rejected, Closed, Refused
        """
        lease = delivery.lease
        if lease is None:
            return
        if lease.ruling is None:
            self._check(lease)
            self._settle(lease, ruling)
        elif lease.ruling.verdict is not ruling.verdict:
            raise Conflict(f"{delivery!r} was settled already: {lease.ruling.verdict}", ErrorCode.CONFLICT)
        if lease.state is LeaseState.SETTLING:
            waiter: asyncio.Future[None] = self._loop.create_future()
            lease.waiters.append(waiter)
            await waiter

    def _check(self, lease: Lease) -> None:
        if lease.state is not LeaseState.HELD:
            if self.error is not None:
                raise fresh(self.error)
            raise LeaseLost(f"message {lease.topic}#{lease.seq} is not this agent's any more")

    def _settle(self, lease: Lease, ruling: Ruling) -> None:
        self._keeper.let_go(lease)
        lease.state = LeaseState.SETTLING
        lease.ruling = ruling
        if self._link is None and not ruling.verdict.outlives_connection:
            self._settled(lease, Answer.RELEASED, None)
        else:
            self._settler.settle(lease)

    def _settled(self, lease: Lease, answer: Answer, error: Err | None) -> None:
        assert lease.ruling is not None
        stats = self._stats
        if answer in (Answer.CONFIRMED, Answer.RELEASED):
            match lease.ruling.verdict:
                case Verdict.ACK:
                    stats.acked += 1
                case Verdict.NACK:
                    stats.nacked += 1
                case Verdict.RETURN:
                    stats.returned += 1
                case Verdict.TERM:
                    stats.terminated += 1
            _tell(lease, None)
        elif answer is Answer.CONFLICT:
            stats.conflicts += lease.ruling.verdict is not Verdict.RETURN  # the broker took it back by itself
            logger.info("! %s of %r came too late: it is another's", lease.ruling.verdict, lease)
            _tell(lease, LeaseLost(f"message {lease.topic}#{lease.seq} was given to another before it was settled"))
        else:
            assert error is not None
            _tell(lease, policy.rejection_of(error))
        self._over(lease)

    def _over(self, lease: Lease) -> None:
        lease.state = LeaseState.OVER
        key = (lease.topic, lease.seq)
        if self._held.get(key) is lease:
            del self._held[key]
        if not self._held:
            self._empty.set()
            if self._ended:
                self._gone(self)

    # The end ----------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float, *, finish: bool = True) -> None:
        """Finish: give back what was not begun, let what is at work end and be confirmed, for so many seconds; then
        give it back, and cancel it. Idempotent; the first call's time counts.

        Without `finish` what is at work is left to the broker at once, and only confirmations are waited for.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(seconds, finish), name=f"hubbub-drain-{self.spec.name}")
        await asyncio.shield(self._draining)

    async def _drain(self, seconds: float, finish: bool) -> None:
        if self._ended:
            return
        deadline = self._loop.time() + seconds
        self._accepting = False
        if self._retry is not None:
            self._retry.cancel()
        if finish:
            self._leave(drain=True)
        for delivery in self._taker.give_back():
            self.rule(delivery, Ruling(Verdict.RETURN))
        if not finish:
            self._settler.flush()  # what is settled first is not taken back along with the rest
            self._leave(drain=False)
            self._give_up(Closed(f"{self!r} has ended"))
        try:
            async with asyncio.timeout_at(deadline):
                await self._taker.finished()
                await self._empty.wait()
        except TimeoutError:
            self.unfinished = sum(lease.state is not LeaseState.SETTLING for lease in self._held.values())
            self._settler.flush()
            self._leave(drain=False)  # what is not finished is another's at once
        self._taker.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._taker.finished()
        self.end(None)

    def end(self, error: BaseException | None) -> None:
        """It is over, now: what is at work goes to the broker again; what was settled is still said."""
        if self._ended:
            return
        self._ended = True
        self._accepting = False
        self.error = error
        if self._retry is not None:
            self._retry.cancel()
        self._settler.flush()
        if self._draining is None:
            self._leave(drain=False)
        self.state = WireState.OFF
        self.ready.set()
        self.live.set()
        self._taker.cancel()
        self._taker.end(error)
        self._give_up(error or Closed(f"{self!r} has ended"))
        if not self._held:
            self._gone(self)

    def _give_up(self, error: BaseException) -> None:
        """Leave to the broker what was not settled."""
        self._successors.clear()
        for lease in [lease for lease in self._held.values() if lease.state is not LeaseState.SETTLING]:
            self._keeper.let_go(lease)
            lease.lost.set()
            _tell(lease, error)
            self._over(lease)

    def _leave(self, *, drain: bool) -> None:
        self._left = not drain
        if self._link is not None and self.state is not WireState.OFF:
            self._link.ask(lambda rid: self._unsub(rid, drain=drain), _ignore)

    def stop(self, error: BaseException) -> None:
        """The agent is at its end: nothing is said any more."""
        self.end(error)
        self._settler.stop()
        for lease in tuple(self._held.values()):
            _tell(lease, error)
        self._held.clear()

    def _unsub(self, rid: str | int, *, drain: bool) -> Unsub:
        return Unsub(topic=self.spec.topic, consumer=self.spec.name, drain=drain, rid=rid)


def _tell(lease: Lease, error: BaseException | None) -> None:
    """Tell those who wait for the broker's word."""
    waiters, lease.waiters = lease.waiters, []
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(fresh(error))
            waiter.exception()  # whoever waited may have gone: no complaint about a future nobody asked


def _ignore(_answer: Ok | Err) -> None:
    """The end of a membership is sure, whatever the broker says to it."""
