"""Calls a handler for the messages of a consumer: so many at a time, and settles them by how it ends.

    the handler         the message                                                         `ack`
    ------------------  ------------------------------------------------------------------  --------------
    returns             is noted as done, then acked; its confirmation holds nothing up     "return"
    raises Retry        comes again after its `after` (default: the consumer's backoff)     all but "receipt"
    raises Reject       goes to the dead letters                                            all but "receipt"
    raises              as Retry; logged, counted, told to `on_error`                       all but "receipt"
    (its lease is lost) is another's; the handler is cancelled, and nothing is said          all but "receipt"

With "receipt" a message is acked, and that confirmed, before its handler begins: it is worked on once at most. With
"manual" it is settled by the handler, or by whoever gets the message from it; nothing is noted as done then.
"""

import asyncio
import contextvars
import functools
import inspect
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from .activity import Activity
from .cancels import Cancels
from .chain import handling
from .consumer import Consumer
from .delivery import Delivery, reason_of
from .errors import AlreadyDone, HubbubError, LeaseLost, Reject, Retry
from .handlers import ErrorHook, Handler, awaited, tell
from .lease import LeaseState, Ruling, Verdict
from .seen import SeenStore, mark_of
from .stats import Stats

logger = logging.getLogger("hubbub")

ACK = Ruling(Verdict.ACK)


class AckPolicy(StrEnum):
    """When a message is acked."""

    RETURN = "return"
    """When its handler has returned."""
    RECEIPT = "receipt"
    """Before its handler begins."""
    MANUAL = "manual"
    """When the handler says so."""


class Call:
    """A handler at work on a message."""

    __slots__ = ("called_off", "delivery", "stopped", "task", "threaded")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.task: asyncio.Task[None] | None = None
        self.stopped = False
        """Whether its task was cancelled from here."""
        self.called_off = False
        """Whether whoever asked does not want to know any more."""
        self.threaded = False
        """Whether it is in a thread now, which can't be cancelled."""

    def stop(self) -> None:
        """Cancel it, or tell it to look at `lost` if it is in a thread."""
        self.delivery.lost.set()
        if not self.threaded and self.task is not None and not self.stopped:
            self.stopped = True
            self.task.cancel()

    def call_off(self) -> None:
        """Its asker gave up."""
        self.called_off = True
        self.stop()


class Workers:
    """The handler of one consumer. At most `concurrency` messages are at work at any time."""

    def __init__(
        self,
        handler: Handler,
        *,
        concurrency: int,
        policy: AckPolicy,
        dedup: SeenStore | None,
        stats: Stats,
        cancels: Cancels,
        activity: Activity,
        on_error: Callable[[], ErrorHook | None],
    ) -> None:
        self._handler = handler
        self._concurrency = self._made_for = concurrency
        self._policy = policy
        self._dedup = dedup
        self._stats = stats
        self._cancels = cancels
        self._activity = activity
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._consumer: Consumer | None = None
        self._waiting: deque[Delivery] = deque()
        self._calls: dict[Delivery, Call] = {}
        self._begun: set[asyncio.Task[None]] = set()
        """Handlers, and what is told to `on_error` of messages that were lost before theirs began."""
        self._threads: ThreadPoolExecutor | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False

    @property
    def consumer(self) -> Consumer:
        """Where the messages come from; set once, before the first comes."""
        assert self._consumer is not None
        return self._consumer

    @consumer.setter
    def consumer(self, consumer: Consumer) -> None:
        self._consumer = consumer

    # From the consumer ------------------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> None:
        self._cancels.came(delivery)
        if delivery.ephemeral and len(self._waiting) >= self.consumer.spec.max_unacked:
            self._stats.dropped += 1  # nobody else bounds what is not acked
            return
        self._waiting.append(delivery)
        self._begin()

    def lost(self, delivery: Delivery, error: LeaseLost) -> bool:
        task = self._loop.create_task(tell(self._on_error(), error, delivery), name="hubbub-lease-lost")
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        call = self._calls.get(delivery)
        if call is not None:
            call.stop()
            return True
        if delivery in self._waiting:
            self._waiting.remove(delivery)
        return False

    def hold(self) -> list[Delivery]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def give_back(self) -> list[Delivery]:
        self._stopped = True
        return self.hold()

    def limit(self, most: int) -> None:
        """Work on so many at a time from now on, and on no more than this was made for."""
        self._concurrency = min(most, self._made_for)
        self._begin()

    @property
    def withheld(self) -> int:
        """Messages that it could work on at a time, and may not."""
        return self._made_for - self._concurrency

    def cancel(self) -> None:
        for call in tuple(self._calls.values()):
            call.stop()
            if call.task is not None and not call.stopped:  # in a thread: it is left alone, and not waited for
                call.stopped = True
                call.task.cancel()

    async def finished(self) -> None:
        await self._idle.wait()
        if self._begun:
            await asyncio.wait(tuple(self._begun))

    def end(self, error: BaseException | None) -> None:
        self._stopped = True
        self._waiting.clear()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if error is not None:
            logger.warning("! handler of %s ends: %s", self.consumer.spec.topic, error)

    # At work ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        while self._waiting and len(self._calls) < self._concurrency and not self._stopped:
            call = Call(self._waiting.popleft())
            self._calls[call.delivery] = call
            self._idle.clear()
            task = self._loop.create_task(self._work(call), name=f"hubbub-worker-{call.delivery.topic}")
            call.task = task
            task.add_done_callback(functools.partial(self._ended, call))

    def _ended(self, call: Call, task: asyncio.Task[None]) -> None:
        del self._calls[call.delivery]
        if not task.cancelled() and task.exception() is not None:
            logger.error("! working on %r failed", call.delivery, exc_info=task.exception())
        lease = call.delivery.lease
        if lease is not None:
            self.consumer.ended(lease)
        self._begin()
        if not self._calls:
            self._idle.set()

    async def _work(self, call: Call) -> None:
        delivery = call.delivery
        cancellable = delivery.reply_to is not None or self._cancels.all_tasks
        if cancellable:
            self._cancels.begin(delivery, call.call_off)
        self._activity.begin(delivery)
        try:
            ruling = await self._outcome(call)
        except asyncio.CancelledError:
            if not call.stopped:
                raise
            ruling = self._off(delivery) if call.called_off else None
        finally:
            self._activity.end(delivery)
            if cancellable:
                self._cancels.end(delivery, call.call_off)
        if call.called_off:
            self._stats.called_off += 1
        if ruling is not None:
            self.consumer.rule(delivery, ruling)

    async def _outcome(self, call: Call) -> Ruling | None:
        """What becomes of the message; None: nothing is to be said."""
        delivery = call.delivery
        try:
            if (settled := await self._settled_before(call)) is not None:
                return settled
            if self._policy is AckPolicy.RECEIPT and not await self._acked(delivery):
                return None
            await self._call(call)
        except AlreadyDone:
            self._stats.already_done += 1
        except Retry as retry:
            return Ruling(Verdict.NACK, retry.after, retry.reason or "retry")
        except Reject as reject:
            return Ruling(Verdict.TERM, None, reject.reason or "rejected")
        except Exception as error:
            if delivery.lease is None or delivery.lease.state is not LeaseState.LOST:
                self._stats.handler_errors += 1
                logger.exception("! a handler of %s failed at message %s", delivery.topic, delivery.id)
                await tell(self._on_error(), error, delivery)
            return Ruling(Verdict.NACK, None, reason_of(error))
        return None if self._policy is AckPolicy.MANUAL else await self._noted(call)

    async def _settled_before(self, call: Call) -> Ruling | None:
        """What becomes of a message that is not to be begun at all."""
        if not self._cancels.is_caught_up(call.delivery):
            await self._cancels.caught_up(call.delivery)
        if self._is_off(call):
            return self._off(call.delivery)
        return ACK if await self._is_done(call.delivery) else None

    def _is_off(self, call: Call) -> bool:
        if self._cancels.is_off(call.delivery):
            call.called_off = True
        return call.called_off

    def _off(self, delivery: Delivery) -> Ruling:
        """What becomes of what was called off: a question that nobody waits for is done, a task never will be."""
        why = self._cancels.why(delivery)
        return (
            ACK
            if why is None
            else Ruling(Verdict.TERM, None, f"cancelled: {why.reason}" if why.reason else "cancelled")
        )

    async def _is_done(self, delivery: Delivery) -> bool:
        if self._dedup is None or delivery.lease is None:
            return False
        done = await self._dedup.seen(mark_of(delivery))
        self._stats.already_done += done
        return done

    async def _noted(self, call: Call) -> Ruling | None:
        """Note that it is done, before the broker is told so: in between, it can only come again."""
        delivery = call.delivery
        if delivery.lost.is_set() and not call.called_off:
            return None  # its handler may have stopped half-way, and not done it
        if self._dedup is not None and delivery.lease is not None:
            try:
                await self._dedup.add(mark_of(delivery))
            except HubbubError as error:
                logger.warning("! %r is done, and can't be noted as such: %s", delivery, error)
        return ACK

    @staticmethod
    async def _acked(delivery: Delivery) -> bool:
        try:
            await delivery.ack()
        except HubbubError as error:
            logger.info("= %r is not begun: %s", delivery, error)
            return False
        return True

    async def _call(self, call: Call) -> None:
        handling.set(call.delivery)  # what is published in here was caused by it
        if inspect.iscoroutinefunction(self._handler):
            await self._handler(call.delivery)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._made_for, thread_name_prefix="hubbub-worker")
        work = functools.partial(contextvars.copy_context().run, self._handler, call.delivery)
        call.threaded = True
        try:
            result = await self._loop.run_in_executor(self._threads, work)
        finally:
            call.threaded = False
        if inspect.isawaitable(result):  # a partial or a callable object around a coroutine function
            await awaited(result)
