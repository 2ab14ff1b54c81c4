"""Functions that are called for each message of a topic: an iterator and a loop around it, in tasks of their own."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .chain import handling
from .errors import HubbubError
from .message import Message
from .stats import Stats
from .subscription import StartOption, Subscription

logger = logging.getLogger("hubbub")

Handler = Callable[[Message], Any]
"""A function of a message. A coroutine function runs in the event loop, any other in a thread."""

ErrorHook = Callable[[BaseException, Message], Any]


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler and what it wants."""

    topic: str
    handler: Handler
    start: StartOption
    concurrency: int
    buffer: int | None


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
    ) -> None:
        self._handler = registration.handler
        self._subscription = subscription
        self._stats = stats
        self._on_error = on_error
        self._tasks = [
            asyncio.create_task(self._work(), name=f"hubbub-handler-{registration.topic}-{number}")
            for number in range(registration.concurrency)
        ]

    async def stop(self, seconds: float) -> None:
        """Take no further message, give running calls so long, then cancel them."""
        await self._subscription.dismiss()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _work(self) -> None:
        try:
            async for message in self._subscription:
                await self._call(message)
        except HubbubError as error:
            logger.warning("! handler of %s ends: %s", self._subscription.topic, error)

    async def _call(self, message: Message) -> None:
        handling.set(message)  # what is published from here on, until the next call, was caused by it
        try:
            if inspect.iscoroutinefunction(self._handler):
                await self._handler(message)
                return
            result = await asyncio.to_thread(self._handler, message)
            if inspect.isawaitable(result):  # a partial or a callable object around a coroutine function
                await _awaited(result)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._stats.handler_errors += 1
            logger.exception("! a handler of %s failed at message %s", message.topic, message.id)
            await self._tell(error, message)

    async def _tell(self, error: BaseException, message: Message) -> None:
        hook = self._on_error()
        if hook is None:
            return
        try:
            result = hook(error, message)
            if inspect.isawaitable(result):
                await _awaited(result)
        except Exception:
            logger.exception("! on_error failed")


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result
