"""What the control plane commands: obeyed once, before the deadline or not at all, and answered.

A command is a message on the agent's own line, stored, so that it is heard after a reconnect too: type `command`, data

    {"command": ID, "do": "pause", "args": {}, "by": "ops", "deadline": 1760000000.5}

and the answer one on `_hubbub/answers`, stored likewise: type `answer`, data

    {"command": ID, "state": "obeyed", "result": null, "reason": "", "session": SESSION}

where the state is `obeyed`, `refused` (it can't be done, or nobody here knows how), `failed` (whoever did it raised) or
`late` (its deadline was over when it came). A process obeys a command once, however often it comes.
"""

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, Unpack

from hubbub.errors import HubbubError, MessageDecodeError, Unencodable
from hubbub.message import MessageView, PublishOptions, Receipt
from hubbub.recent import Recent
from hubbub_protocol.names import ANSWERS

logger = logging.getLogger("hubbub")

COMMAND, ANSWER = "command", "answer"
"""The `type` of the messages."""

REMEMBERED_MAX = 1_000
REMEMBERED_SECONDS = 86_400.0
"""Commands that are remembered as obeyed, and for how long: longer than any deadline is away."""

REASON_CHARS_MAX = 500


class Order(NamedTuple):
    """A command, as whoever obeys it gets it."""

    command: str
    """Its id."""
    do: str
    """What is commanded."""
    args: dict[str, Any]
    by: str
    """Who commanded it."""
    deadline: float
    """When it is too late, in seconds since the epoch."""


CommandHandler = Callable[[Order], Any]
"""Does what is commanded; what it returns is the answer's `result`. A plain function runs in a thread."""


class CommandRefused(HubbubError):
    """Raised by whoever can't do what is commanded: the message is the answer's reason."""


class Orderly(Protocol):
    """What this needs of its agent."""

    async def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish, and wait until it is stored."""
        ...


class Orders:
    """The commands of one agent."""

    def __init__(self, agent: Orderly, session: str, clock: Callable[[], float] = time.time) -> None:
        self._agent = agent
        self._session = session
        self._clock = clock
        self._seen = Recent(REMEMBERED_MAX, REMEMBERED_SECONDS)
        self._handlers: dict[str, CommandHandler] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self._context = contextvars.Context()
        self.obeyed = 0
        self.leave: Callable[[], object] | None = None
        """Called, once, when a command that says so has been answered."""

    def on(self, do: str, handler: CommandHandler, *, replace: bool = False) -> None:
        """`handler` does what is commanded by that name.

        Raises:
            ValueError: somebody does so already.
        """
        if do in self._handlers and not replace:
            raise ValueError(f"command {do!r} has a handler already")
        self._handlers[do] = handler

    def take(self, message: MessageView) -> None:
        """A command came, perhaps for the second time."""
        try:
            order = _read(message.data)
        except (MessageDecodeError, KeyError, TypeError, ValueError) as error:
            logger.warning("! %r is no command: %s", message, error)
            return
        self._seen.age(time.monotonic())
        if self._seen.add(order.command):
            self._spawn(self._obey(order))

    def effect(self, command: str, result: dict[str, Any], reason: str) -> None:
        """Something was done here for a command that came another way; `reason` says what could not be."""
        self._spawn(self._answer(command, "obeyed", result, reason, once=False))

    async def close(self) -> None:
        """Nothing more is obeyed; answers go out first, if that is a matter of a moment."""
        others = {task for task in self._at_work if task is not asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=1.0)
            for task in late:
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._context.run(asyncio.create_task, work, name="hubbub-order")
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _obey(self, order: Order) -> None:
        left = order.deadline - self._clock()
        handler = self._handlers.get(order.do)
        if left <= 0:
            await self._answer(order.command, "late", None, f"it came {-left:.1f} s after its deadline")
            return
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            await self._answer(order.command, "refused", None, f"nobody here knows {order.do!r}; known are {known}")
            return
        logger.info("= command %s by %s: %s", order.command, order.by, order.do)
        try:
            async with asyncio.timeout(left):
                result = await _do(handler, order)
        except TimeoutError:
            await self._answer(order.command, "late", None, "it was not done before its deadline")
        except CommandRefused as refused:
            await self._answer(order.command, "refused", None, str(refused))
        except Exception as error:
            logger.exception("! command %s failed", order.do)
            await self._answer(order.command, "failed", None, f"{type(error).__name__}: {error}")
        else:
            self.obeyed += 1
            await self._answer(order.command, "obeyed", result, "")
        leave, self.leave = self.leave, None
        if leave is not None:
            leave()

    async def _answer(self, command: str, state: str, result: Any, reason: str, *, once: bool = True) -> None:
        data = {"command": command, "state": state, "result": result, "reason": reason[:REASON_CHARS_MAX]}
        options: PublishOptions = {"type": ANSWER, "id": f"{command}.{self._session}"} if once else {"type": ANSWER}
        try:
            await self._agent.publish(ANSWERS, {**data, "session": self._session}, **options)
        except Unencodable as error:
            data |= {"result": None, "reason": f"the result can't be told: {error}"[:REASON_CHARS_MAX]}
            await self._agent.publish(ANSWERS, {**data, "session": self._session}, **options)
        except HubbubError as error:
            logger.warning("! command %s is not answered: %s", command, error)


async def _do(handler: CommandHandler, order: Order) -> Any:
    if inspect.iscoroutinefunction(handler):
        return await handler(order)
    result = await asyncio.to_thread(handler, order)
    return await _awaited(result) if inspect.isawaitable(result) else result


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _read(data: Any) -> Order:
    args = data.get("args") or {}
    if not (isinstance(data["command"], str) and isinstance(data["do"], str) and isinstance(args, dict)):
        raise TypeError("command and do are texts, args an object")
    return Order(data["command"], data["do"], args, str(data.get("by", "")), float(data["deadline"]))
