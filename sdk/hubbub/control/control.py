"""An agent under the control plane, put together."""

from collections.abc import Callable
from typing import Any, Protocol

from hubbub.activity import Activity
from hubbub.errors import MessageDecodeError
from hubbub.message import MessageView
from hubbub_protocol.names import line_of

from .line import Line
from .reports import Reports

PROBE = "probe"
"""The `type` of what the control plane says to hear whether an agent hears."""

SHOWN_MAX = 5
"""Tasks that a report names: those that take longest."""


class Load(Protocol):
    """How much an agent has to do, beside what its handlers are at work on."""

    @property
    def room(self) -> int:
        """Messages that it could be at work on at a time."""

    @property
    def held(self) -> int:
        """Messages of consumers that it was given and has not settled."""


class Control:
    """The agent's end of the control plane: see `hubbub.control`."""

    def __init__(self, agent: str, session: str, activity: Activity, load: Load, jitter: Callable[[], float]) -> None:
        self.line = Line(line_of(agent), self._take)
        self.reports = Reports(self.line, session, self._content, jitter)
        self.line.on_up = self.reports.up
        self._activity = activity
        self._load = load
        activity.on_change = self.reports.changed

    def close(self) -> None:
        """The agent closes: it says nothing more of itself."""
        self.reports.stop()

    def _take(self, message: MessageView) -> None:
        if message.type == PROBE:
            try:
                self.reports.answer(message.data)
            except MessageDecodeError:
                self.reports.answer(None)

    def _content(self) -> dict[str, Any]:
        tasks = list(self._activity)
        running = len(tasks)
        content: dict[str, Any] = {
            "running": running,
            "waiting": max(0, self._load.held - running),
            "room": self._load.room,
            "done": self._activity.done,
        }
        if tasks:
            shown = tasks[:SHOWN_MAX]
            content["tasks"] = [
                {"topic": task.message.topic, "id": task.message.id, "since": round(task.since, 3)} for task in shown
            ]
        return content
