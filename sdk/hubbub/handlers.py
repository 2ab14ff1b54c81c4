"""Functions that are called for each message of a topic: an iterator and a loop around it, in tasks of their own."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .activity import Activity
from .cancels import Cancels
from .chain import handling
from .errors import HubbubError
from .message import Message
from .stats import Stats
from .stopping import CANCEL_SECONDS
from .subscription import StartOption, Subscription, start_of
from .wants import Select, Where, wanted

logger = logging.getLogger("hubbub")

Handler = Callable[[Any], Any]
"""A function of a message (with a consumer, of a `Delivery`). A coroutine function runs in the event loop, any other in
a thread."""

ErrorHook = Callable[[BaseException, Message], Any]


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler and what it wants."""

    topic: str
    handler: Handler
    start: StartOption
    concurrency: int
    buffer: int | None
    where: Where | None = None
    select: Select | None = None

    @classmethod
    def maker(
        cls,
        topic: str,
        start: StartOption,
        concurrency: int | None,
        buffer: int | None,
        options: Mapping[str, Any],
    ) -> "Callable[[Handler], Registration]":
        """What makes one of a handler.

        Raises:
            ValueError: if an option is out of range, or one of consumers.
        """
        of_consumers = [name for name in options if name not in ("where", "select")]
        if of_consumers:
            raise ValueError(f"{', '.join(of_consumers)}: only with consumer=NAME")
        number = 1 if concurrency is None else concurrency
        if number < 1:
            raise ValueError(f"concurrency is {number}: 1 or more")
        start_of(start)
        where, select = options.get("where"), options.get("select")
        wanted(where, select)
        return lambda handler: cls(topic, handler, start, number, buffer, where, select)


class HandlerRunner:
    """Calls a handler for the messages of its subscription.

    With a concurrency of 1 each call ends before the next begins, so the topic's order is kept. A handler that raises
    is logged, counted and told to the hook; it ends neither the runner nor the agent.
    """

    def __init__(
        self,
        registration: Registration,
        subscription: Subscription,
        stats: Stats,
        on_error: Callable[[], ErrorHook | None],
        cancels: Cancels,
        activity: Activity,
    ) -> None:
        self._handler = registration.handler
        self._subscription = subscription
        self._stats = stats
        self._on_error = on_error
        self._cancels = cancels
        self._activity = activity
        self.concurrency = registration.concurrency
        self._going = asyncio.Event()
        self._going.set()
        self._tasks = [
            asyncio.create_task(self._work(), name=f"hubbub-handler-{registration.topic}-{number}")
            for number in range(registration.concurrency)
        ]

    async def stop(self, seconds: float) -> int:
        """Take no further message, give running calls so long, then cancel them. Returns how many those were."""
        self._going.set()
        await self._subscription.dismiss()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_SECONDS)
        return len(late)

    def pause(self) -> None:
        """Begin with no further message for now."""
        self._going.clear()

    def resume(self) -> None:
        """Go on."""
        self._going.set()

    async def _work(self) -> None:
        try:
            async for message in self._subscription:
                if not self._going.is_set():
                    await self._going.wait()
                if message.reply_to is None and not self._cancels.all_tasks:
                    await self._call(message)
                else:
                    await self._call_unless_off(message)
        except HubbubError as error:
            logger.warning("! handler of %s ends: %s", self._subscription.topic, error)

    async def _call_unless_off(self, message: Message) -> None:
        """Call the handler for as long as the message is not called off."""
        cancels = self._cancels
        cancels.came(message)
        if not cancels.is_caught_up(message):
            await cancels.caught_up(message)
        if cancels.is_off(message):
            self._stats.called_off += 1
            return
        worker = asyncio.current_task()
        assert worker is not None
        called_off = False

        def call_off() -> None:
            nonlocal called_off
            if not called_off:
                called_off = True
                worker.cancel()

        cancels.begin(message, call_off)
        try:
            await self._call(message)
            if called_off:
                worker.uncancel()  # the handler would not hear of it
        except asyncio.CancelledError:
            if not called_off or worker.uncancel():
                raise  # this runner is at its end, too
        finally:
            self._stats.called_off += called_off
            cancels.end(message, call_off)

    async def _call(self, message: Message) -> None:
        handling.set(message)  # what is published from here on, until the next call, was caused by it
        self._activity.begin(message)
        try:
            if inspect.iscoroutinefunction(self._handler):
                await self._handler(message)
                return
            result = await asyncio.to_thread(self._handler, message)
            if inspect.isawaitable(result):  # a partial or a callable object around a coroutine function
                await awaited(result)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._stats.handler_errors += 1
            logger.exception("! a handler of %s failed at message %s", message.topic, message.id)
            await tell(self._on_error(), error, message)
        finally:
            self._activity.end(message)


async def tell(hook: ErrorHook | None, error: BaseException, message: Message) -> None:
    """Call the hook for errors, if there is one."""
    if hook is None:
        return
    try:
        result = hook(error, message)
        if inspect.isawaitable(result):
            await awaited(result)
    except Exception:
        logger.exception("! on_error failed")


async def awaited(result: Awaitable[Any]) -> Any:
    """What an awaitable gives, in a coroutine."""
    return await result
