"""An agent under the control plane, put together; and the commands that every agent obeys by itself.

pause       its handlers begin nothing more; others of its consumers get what would have been its
resume      they go on
drain       what is at work is finished, as far as it can be before the deadline, the rest given back, and the agent
            closes
configure   `{"log_level": "debug", "report_every": 5.0, "concurrency": 4}`: each of them, or some
ping        nothing; the answer tells that it hears
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from hubbub.activity import Activity
from hubbub.errors import MessageDecodeError
from hubbub.message import MessageView
from hubbub_protocol.names import line_of

from .lines import Lines
from .orders import ANSWER_SECONDS, COMMAND, CommandHandler, CommandRefused, Order, Orderly, Orders
from .reports import Reports

PROBE = "probe"
"""The `type` of what the control plane says to hear whether an agent hears."""

SHOWN_MAX = 5
"""Tasks that a report names: those that take longest."""

BUILT_IN = frozenset({"pause", "resume", "drain", "configure", "ping", "cancel"})
"""Commands that are obeyed by the SDK; `cancel` comes to all who may have part in a task: see `hubbub.cancels`."""

DRAIN_SECONDS = 30.0
"""What a handler at work is given to finish, unless the command says otherwise, or its deadline comes before."""

LOG_LEVELS = ("debug", "info", "warning", "error")


class Subject(Orderly, Protocol):
    """The agent, as far as it is told what to do."""

    @property
    def room(self) -> int:
        """Messages that it could be at work on at a time."""

    @property
    def held(self) -> int:
        """Messages of consumers that it was given and has not settled."""

    @property
    def paused(self) -> bool:
        """Whether its handlers begin nothing."""

    def pause(self) -> None:
        """Begin nothing more."""

    def resume(self) -> None:
        """Go on."""

    def limit_concurrency(self, most: int) -> None:
        """Each handler of a consumer works on so many messages at a time, or on as many as it was made for."""

    async def finish(self, seconds: float) -> int:
        """Finish what handlers are at work on, and give back the rest; how much was not finished."""

    def leave(self) -> None:
        """Close, in a task of its own."""


class Control:
    """The agent's end of the control plane: see `hubbub.control`."""

    def __init__(
        self,
        agent: str,
        session: str,
        activity: Activity,
        subject: Subject,
        lines: Lines,
        jitter: Callable[[], float],
        handlers: dict[str, CommandHandler],
    ) -> None:
        """`handlers` are the application's, for commands of its own."""
        line = lines.add(line_of(agent), self._take)
        self.reports = Reports(line, session, self._content, jitter)
        self.orders = Orders(subject, session)
        line.on_up = self.reports.up
        self._busy: bool | None = None
        self._since = 0.0
        """Since when it has work, or none."""
        self._activity = activity
        self._subject = subject
        activity.on_change = self.reports.changed
        for do, handler in self._built_in().items():
            self.orders.on(do, handler)
        for do, handler in handlers.items():
            self.orders.on(do, handler)

    async def close(self) -> None:
        """The agent closes: it says nothing more of itself."""
        self.reports.stop()
        await self.orders.close()

    def _built_in(self) -> dict[str, CommandHandler]:
        return {
            "pause": self._pause,
            "resume": self._resume,
            "drain": self._drain,
            "configure": self._configure,
            "ping": _ping,
        }

    def _take(self, message: MessageView) -> None:
        if message.type == COMMAND:
            self.orders.take(message)
        elif message.type == PROBE:
            try:
                self.reports.answer(message.data)
            except MessageDecodeError:
                self.reports.answer(None)

    def _content(self) -> dict[str, Any]:
        tasks = list(self._activity)
        running = len(tasks)
        waiting = max(0, self._subject.held - running)
        if self._busy is not bool(running or waiting):
            self._busy = bool(running or waiting)
            self._since = min((task.since for task in tasks), default=time.time())
        content: dict[str, Any] = {
            "running": running,
            "waiting": waiting,
            "since": round(self._since, 3),
            "room": self._subject.room,
            "done": self._activity.done,
            "paused": self._subject.paused,
        }
        if tasks:
            shown = tasks[:SHOWN_MAX]
            content["tasks"] = [
                {"topic": task.message.topic, "id": task.message.id, "since": round(task.since, 3)} for task in shown
            ]
        return content

    # The commands that every agent knows ------------------------------------------------------------------------

    async def _pause(self, _: Order) -> None:
        self._subject.pause()
        self.reports.changed()

    async def _resume(self, _: Order) -> None:
        self._subject.resume()
        self.reports.changed()

    async def _drain(self, order: Order) -> dict[str, int]:
        """It is obeyed when the work is finished, or as much of it as could be before its deadline. The agent leaves
        when that is answered, whatever the answer is.
        """
        seconds = order.args.get("seconds", DRAIN_SECONDS)
        if not _is_number(seconds) or not seconds >= 0:
            raise CommandRefused("`seconds` is a number of seconds, 0 or more")
        left = order.deadline - time.time()
        spare = min(ANSWER_SECONDS, left / 2)  # to say in time what has become of it
        seconds = max(0.0, min(seconds, left - spare))
        self.orders.leave_after(order, self._subject.leave)
        finishing = asyncio.ensure_future(self._subject.finish(seconds))
        done, _ = await asyncio.wait({finishing}, timeout=seconds + spare / 2)  # a handler may not want to stop
        return {"given_back": finishing.result() if done else len(self._activity)}

    async def _configure(self, order: Order) -> dict[str, Any]:
        """All of it is checked before any of it is changed."""
        changes: list[Callable[[], None]] = []
        for name, value in order.args.items():
            match name:
                case "log_level" if value in LOG_LEVELS:
                    changes.append(lambda value=value: logging.getLogger("hubbub").setLevel(value.upper()))  # type: ignore[misc]
                case "report_every" if _is_number(value) and 0.1 <= value <= 3600:
                    changes.append(lambda value=value: self.reports.every(value))  # type: ignore[misc]
                case "concurrency" if isinstance(value, int) and value >= 1:
                    changes.append(lambda value=value: self._subject.limit_concurrency(value))  # type: ignore[misc]
                case _:
                    raise CommandRefused(
                        f"{name} = {value!r}: log_level is one of {', '.join(LOG_LEVELS)}, report_every 0.1 to 3600 "
                        "seconds, concurrency 1 or more; nothing else can be changed while an agent runs"
                    )
        for change in changes:
            change()
        return dict(order.args)


async def _ping(_: Order) -> None:
    pass


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
