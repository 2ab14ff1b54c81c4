"""Questions that are called off: who asked and gave up says so, and who is at work on the answer stops.

Best effort, on `GROUP/_cancel`: an ephemeral message `{"id": ID, "topic": TOPIC}` of type `cancel`, which counts only
if it comes from the question's own sender. An agent listens there from the first question on that its handlers get in a
group; what was called off before its handler began is remembered for a while.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol

from hubbub_protocol import names

from .errors import HubbubError, MessageDecodeError
from .message import Message, MessageView
from .recent import Recent
from .subscription import Subscription

logger = logging.getLogger("hubbub")

CANCEL = "cancel"
"""The `type` of the message."""

GROUPS_MAX = 1_000
"""Groups in which an agent listens."""

REMEMBERED_MAX = 10_000
REMEMBERED_SECONDS = 600.0
"""How many questions that were called off before they began, and for how long."""

Question = tuple[str, str, str]
"""Topic, sender and id."""


class Listening(Protocol):
    """What this needs of its agent."""

    def subscribe(self, topic: str, /) -> Subscription:
        """Subscribe to what is new."""
        ...


class Cancels:
    """The questions that an agent's handlers are at work on."""

    def __init__(self, agent: Listening) -> None:
        self._agent = agent
        self._serving: dict[Question, list[Callable[[], object]]] = {}
        self._called_off = Recent(REMEMBERED_MAX, REMEMBERED_SECONDS)
        self._lines: dict[str, tuple[Subscription, asyncio.Task[None]]] = {}

    def came(self, message: MessageView) -> None:
        """A question for a handler is here: hear whether it is called off."""
        group = names.group_of(message.topic)
        if group in self._lines or len(self._lines) >= GROUPS_MAX:
            return
        with contextlib.suppress(HubbubError):  # the agent is closing
            subscription = self._agent.subscribe(names.cancels_of(group))
            task = asyncio.create_task(self._listen(subscription), name=f"hubbub-cancels-{group}")
            self._lines[group] = (subscription, task)

    def is_off(self, message: MessageView) -> bool:
        """Whether it was called off."""
        return _question(message) in self._called_off

    def begin(self, message: MessageView, stop: Callable[[], object]) -> None:
        """A handler begins with it: `stop` is called when it is called off."""
        self._serving.setdefault(_question(message), []).append(stop)

    def end(self, message: MessageView, stop: Callable[[], object]) -> None:
        """The handler has ended."""
        question = _question(message)
        stops = self._serving.get(question, [])
        if stop in stops:
            stops.remove(stop)
        if not stops:
            self._serving.pop(question, None)

    async def close(self) -> None:
        """Listen no more."""
        for subscription, task in self._lines.values():
            await subscription.close()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._lines.clear()

    async def _listen(self, subscription: Subscription) -> None:
        with contextlib.suppress(HubbubError):
            async for message in subscription:
                self._take(message)

    def _take(self, message: Message) -> None:
        if message.type != CANCEL:
            return
        try:
            data = message.data
        except MessageDecodeError as error:
            logger.warning("! %s", error)
            return
        topic, id = (data.get("topic"), data.get("id")) if isinstance(data, dict) else (None, None)
        if not (isinstance(topic, str) and isinstance(id, str)):
            logger.warning("! %r calls off no question: topic and id are to be texts", message)
            return
        question = (topic, message.sender, id)
        self._called_off.age(time.monotonic())
        self._called_off.add(question)
        for stop in tuple(self._serving.get(question, ())):
            stop()


def _question(message: MessageView) -> Question:
    return message.topic, message.sender, message.id
