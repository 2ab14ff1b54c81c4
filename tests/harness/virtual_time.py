"""An event loop whose clock stands still while anything can run, and jumps when nothing can.

An hour's timeout costs nothing, and a test's course depends on nothing but its own steps. Real sockets still work (the
loop asks the system for what is ready before it jumps); threads do not: nothing tells the loop that one is at work.
"""

import asyncio
import selectors
from typing import Any


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: what it should have waited has passed."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            # Nothing is scheduled and nothing is ready: only the outside world can go on, if it is there at all.
            return super().select(5.0)
        ready = super().select(0)
        if not ready and timeout > 0:
            # A little more than asked: the loop runs timers that are due up to its clock's resolution only.
            self._loop.now += timeout + 1e-9
        return ready
