"""What an agent is at work on: the messages that its handlers were called with and have not returned from."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .message import MessageView


class Task(NamedTuple):
    """A message at work."""

    message: MessageView
    since: float
    """When its handler began, in seconds since the Unix epoch."""


class Activity:
    """What is at work, oldest first."""

    def __init__(self) -> None:
        self.done = 0
        """Handlers that have ended, in whichever way."""
        self.on_change: Callable[[], None] = _nothing
        """Called when one begins or ends."""
        self._tasks: dict[int, Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def begin(self, message: MessageView) -> None:
        """A handler is called with it."""
        self._tasks[id(message)] = Task(message, time.time())
        self.on_change()

    def end(self, message: MessageView) -> None:
        """Its handler has ended."""
        if self._tasks.pop(id(message), None) is not None:
            self.done += 1
            self.on_change()


def _nothing() -> None:
    pass
