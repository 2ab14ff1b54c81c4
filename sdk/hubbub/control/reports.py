"""What an agent says of itself to the control plane: whether it is busy, with what, and how much more it could take.

Ephemeral messages on `_hubbub/reports`, straight to the connection: they wait for nothing, nothing waits for them, and
one that is lost is made good by the next. One goes out when something has changed, at most one in `EVERY_SECONDS`, and
one now and then when nothing has.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable
from itertools import count
from typing import Any

from hubbub.composer import encoded
from hubbub_protocol.frames import Err, Ok, Pub
from hubbub_protocol.names import REPORTS

from .line import Line

logger = logging.getLogger("hubbub")

REPORT = "report"
"""The `type` of the message."""

EVERY_SECONDS = 2.0
"""Between two reports, however much changes."""

BUSY_SECONDS = 5.0
"""Between two reports of an agent that has work, however little changes."""

IDLE_SECONDS = 30.0
"""Between two reports of one that has none."""


class Reports:
    """Reports while there is a line."""

    def __init__(
        self,
        line: Line,
        session: str,
        content: Callable[[], dict[str, Any]],
        jitter: Callable[[], float],
    ) -> None:
        """`content()` is what there is to say; `jitter()` is from 0 to 1, so that a thousand don't speak at once."""
        self._line = line
        self._session = session
        self._content = content
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()  # or what is at work would count as the cause of a report
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._every = EVERY_SECONDS
        self._last = float("-inf")
        self._count = count(1)
        self._stopped = False

    def up(self) -> None:
        """There is a line: say something soon."""
        self._last = float("-inf")
        self._speak_at(self._loop.time() + self._every * self._jitter())

    def changed(self) -> None:
        """Something is other than in the last report."""
        if self._line.link is not None:
            self._speak_at(max(self._loop.time(), self._last + self._every))

    def answer(self, probe: Any) -> None:
        """The control plane wants to hear at once that this agent hears."""
        self._speak(probe)

    def every(self, seconds: float) -> None:
        """From now on let so many seconds pass between two reports, at least."""
        self._every = seconds
        self._last = float("-inf")
        self.changed()

    def stop(self) -> None:
        """Say nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _speak_at(self, when: float) -> None:
        if self._stopped or (self._timer is not None and self._due <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = when
        self._timer = self._loop.call_at(when, self._speak, context=self._context)

    def _speak(self, probe: Any = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line.link is None or self._stopped:
            return
        now = self._loop.time()
        content = self._content()
        if probe is None:
            content["lag"] = round(max(0.0, now - self._due), 3)
        else:
            content["probe"] = probe
        self._send(content)
        self._last = now
        busy = content["running"] or content["waiting"]
        pause = BUSY_SECONDS if busy else IDLE_SECONDS * (0.8 + 0.2 * self._jitter())
        self._speak_at(now + max(pause, self._every))

    def _send(self, content: dict[str, Any]) -> None:
        link = self._line.link
        if link is None:
            return
        content["session"] = self._session
        id = f"{self._session}.r{next(self._count)}"
        data = encoded(content)
        link.ask(lambda rid: Pub(topic=REPORTS, id=id, type=REPORT, data=data, ephemeral=True, rid=rid), self._answered)

    def _answered(self, answer: Ok | Err) -> None:
        if isinstance(answer, Err):
            logger.debug("! a report was refused: %s (%s)", answer.message, answer.code)
