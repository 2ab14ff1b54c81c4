"""Tells a group of what becomes of its shared breakers: a message on `GROUP/_breakers` by whoever made a transition."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hubbub_protocol.names import BREAKERS

from .errors import HubbubError
from .resilience import Transition

logger = logging.getLogger("hubbub")

BREAKER = "breaker"
"""The `type` of these messages."""

Submit = Callable[..., Awaitable[asyncio.Future[Any]]]


class BreakerEvents:
    """Publishes transitions, from whatever thread they happen in. One that is refused stops no call: it is logged."""

    def __init__(
        self, submit: Submit, loop: asyncio.AbstractEventLoop, group: str, also: Callable[[Transition], object] | None
    ) -> None:
        """`submit` is the agent's; `also` is told too."""
        self._submit = submit
        self._loop = loop
        self._topic = f"{group}/{BREAKERS}"
        self._also = also
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, transition: Transition) -> object:
        """Publish it, and wait for nothing."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin, transition)
        return None if self._also is None else self._also(transition)

    def _begin(self, transition: Transition) -> None:
        # What is at work is not its cause: a breaker opens because of many calls.
        task = self._loop.create_task(
            self._tell(transition), name=f"hubbub-breaker-{transition.breaker}-event", context=contextvars.Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, transition: Transition) -> None:
        fields = transition.as_dict()
        del fields["made_here"]
        try:
            await (await self._submit(self._topic, fields, type=BREAKER))
        except HubbubError as error:
            logger.warning("! %s hears nothing of breaker %s: %s", self._topic, transition.breaker, error)
