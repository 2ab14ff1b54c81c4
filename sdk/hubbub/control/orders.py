"""What the control plane commands: obeyed once, before the deadline or not at all, and answered.

A command is a message on the agent's own line, stored, so that it is heard after a reconnect too: type `command`, data

    {"command": ID, "do": "pause", "args": {}, "by": "ops", "deadline": 1760000000.5}

and the answer one on `_hubbub/answers`, stored likewise: type `answer`, data

    {"command": ID, "state": "obeyed", "result": null, "reason": "", "session": SESSION}

where the state is `obeyed`, `refused` (it can't be done, or nobody here knows how), `failed` (whoever did it raised) or
`late` (its deadline was over before it was done). A process obeys a command once, however often it comes.
"""

import asyncio
import contextlib
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

ANSWER_SECONDS = 1.0
"""How long it may take to say what became of a command after which the agent leaves."""

NOT_DONE = "it was not done before its deadline"


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


class _Late(Exception):
    """Its deadline is over."""


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
        self._leaving: dict[str, Callable[[], object]] = {}
        """By command, what is called when it has been answered, whatever the answer."""

    def on(self, do: str, handler: CommandHandler, *, replace: bool = False) -> None:
        """`handler` does what is commanded by that name.

        Raises:
            ValueError: somebody does so already.
        """
        if do in self._handlers and not replace:
            raise ValueError(f"command {do!r} has a handler already")
        self._handlers[do] = handler

    def leave_after(self, order: Order, leave: Callable[[], object]) -> None:
        """Call this, once, when that command has been answered, whatever the answer."""
        self._leaving[order.command] = leave

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
        state, result, reason = await self._outcome(order)
        leave = self._leaving.pop(order.command, None)
        answer = self._answer(order.command, state, result, reason)
        if leave is None:
            await answer
            return
        with contextlib.suppress(TimeoutError):  # what is said is on its way: the agent takes the time to deliver it
            await asyncio.wait_for(answer, ANSWER_SECONDS)
        leave()

    async def _outcome(self, order: Order) -> tuple[str, Any, str]:
        """Obey, if that can be; the state, the result and the reason of the answer."""
        left = order.deadline - self._clock()
        handler = self._handlers.get(order.do)
        if left <= 0:
            return "late", None, f"it came {-left:.1f} s after its deadline"
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return "refused", None, f"nobody here knows {order.do!r}; known are {known}"
        logger.info("= command %s by %s: %s", order.command, order.by, order.do)
        try:
            result = await self._do(handler, order, left)
        except _Late as late:
            return "late", None, str(late)
        except CommandRefused as refused:
            return "refused", None, str(refused)
        except Exception as error:
            logger.exception("! command %s failed", order.do)
            return "failed", None, f"{type(error).__name__}: {error}"
        self.obeyed += 1
        over = self._clock() - order.deadline
        return "obeyed", result, f"it was begun before its deadline, and done {over:.1f} s after it" if over > 0 else ""

    async def _do(self, handler: CommandHandler, order: Order, left: float) -> Any:
        """Do it. What can be stopped is, at the deadline; a plain function can't be, and is not begun after it."""
        if inspect.iscoroutinefunction(handler):
            return await _before(handler(order), left)
        result = await asyncio.to_thread(self._call, handler, order)
        if inspect.isawaitable(result):
            return await _before(_awaited(result), order.deadline - self._clock())
        return result

    def _call(self, handler: CommandHandler, order: Order) -> Any:
        if self._clock() >= order.deadline:  # it has waited for a thread
            raise _Late(NOT_DONE)
        return handler(order)

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


async def _before(work: Awaitable[Any], seconds: float) -> Any:
    """What comes of it, within so many seconds.

    Raises:
        _Late: it was stopped when these were over.
    """
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            return await work
    except TimeoutError:
        if timer.expired():
            raise _Late(NOT_DONE) from None
        raise  # its own


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _read(data: Any) -> Order:
    args = data.get("args") or {}
    if not (isinstance(data["command"], str) and isinstance(data["do"], str) and isinstance(args, dict)):
        raise TypeError("command and do are texts, args an object")
    return Order(data["command"], data["do"], args, str(data.get("by", "")), float(data["deadline"]))
