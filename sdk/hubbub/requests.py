"""Questions and their answers, over ordinary topics.

A question carries `reply_to`, a topic of the asking agent's own (`GROUP/@NAME.SESSION`), and the answer names the
question's id in a header. `parent` would not do: it names a message of the same topic.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Protocol

from hubbub_protocol import names
from hubbub_protocol.headers import IN_REPLY_TO, REPLY_DURABLY

from .cancels import CANCEL
from .errors import HubbubError, MessageDecodeError, NoResponder, NotFound, RequestTimeout
from .message import Message, Publisher
from .stopping import cancel_and_wait
from .subscription import Subscription

logger = logging.getLogger("hubbub")

NAME_CHARS_MAX = 96
"""Of the agent's name in its reply topics: with the session behind it, that is one segment still."""


class Asker(Publisher, Protocol):
    """What requests need of their agent."""

    def subscribe(self, topic: str, /) -> Subscription:
        """Subscribe to what is new."""
        ...


class Requests:
    """The questions of one agent that wait for an answer."""

    def __init__(self, asker: Asker, agent: str, session: str, new_id: Callable[[], str]) -> None:
        self._asker = asker
        self._segment = f"@{agent[:NAME_CHARS_MAX]}.{session}"
        self._new_id = new_id
        self._pending: dict[str, asyncio.Future[Message]] = {}
        self._calling_off: set[asyncio.Task[None]] = set()
        self._lines: dict[str, tuple[Subscription, asyncio.Task[None]]] = {}

    async def ask(
        self,
        topic: str,
        data: Any,
        timeout: float,
        *,
        type: str | None,
        headers: dict[str, Any] | None,
        durable: bool,
        mandatory: bool,
    ) -> Message:
        """Ask, and wait for the first answer. Who gives up, by timeout or cancellation, calls the question off.

        Raises:
            RequestTimeout: if none came in time. The question expires then, too.
            NoResponder: with `mandatory`, if nobody would hear it.
        """
        id = self._new_id()
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[id] = answer
        asked = False
        try:
            async with asyncio.timeout(timeout):
                reply_to = await self._open(names.group_of(topic))
                asked = True
                await self._asker.publish(
                    topic,
                    data,
                    id=id,
                    type=type,
                    headers={**(headers or {}), REPLY_DURABLY: True} if durable else headers,
                    ttl=timeout,
                    reply_to=reply_to,
                    mandatory=mandatory,
                )
                return await answer
        except NotFound as error:
            if not mandatory:
                raise
            raise NoResponder(f"nobody is there to answer on {topic}: {error}", error.code) from error
        except asyncio.CancelledError:
            if asked:
                self._call_off(topic, id)
            raise
        except TimeoutError as error:
            if asked:
                self._call_off(topic, id)
            raise RequestTimeout(f"no answer from {topic} within {timeout:g} s") from error
        finally:
            del self._pending[id]

    async def close(self, error: BaseException) -> None:
        """Fail what still waits."""
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
        for calling in tuple(self._calling_off):
            calling.cancel()
        if self._calling_off:
            await asyncio.wait(self._calling_off)
        for subscription, task in self._lines.values():
            await subscription.close()
            await cancel_and_wait(task)
        self._lines.clear()

    def _call_off(self, topic: str, id: str) -> None:
        """Tell whoever is at work on the answer that nobody waits for it. Best effort."""
        task = asyncio.create_task(self._publish_cancel(topic, id), name=f"hubbub-call-off-{id}")
        self._calling_off.add(task)
        task.add_done_callback(self._calling_off.discard)

    async def _publish_cancel(self, topic: str, id: str) -> None:
        with contextlib.suppress(HubbubError):
            await self._asker.publish(
                names.cancels_of(names.group_of(topic)), {"id": id, "topic": topic}, type=CANCEL, ephemeral=True
            )

    async def _open(self, group: str) -> str:
        """The reply topic in a group, once the broker listens there for this agent."""
        topic = f"{group}/{self._segment}"
        line = self._lines.get(topic)
        if line is None or line[0].ended:
            subscription = self._asker.subscribe(topic)
            task = asyncio.create_task(self._listen(subscription), name=f"hubbub-replies-{topic}")
            line = self._lines[topic] = (subscription, task)
        await line[0].ready()
        return topic

    async def _listen(self, subscription: Subscription) -> None:
        with contextlib.suppress(HubbubError):
            async for message in subscription:
                self._take(message)

    def _take(self, message: Message) -> None:
        try:
            question = message.headers.get(IN_REPLY_TO)
        except MessageDecodeError as error:
            logger.warning("! %s", error)
            return
        answer = self._pending.get(question) if isinstance(question, str) else None
        if answer is not None and not answer.done():
            answer.set_result(message)
