"""An event loop that a test turns by hand: a turn at a time, with a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

TURNS_MAX = 10_000
"""Turns after which a loop that is still busy is taken to go round for ever."""


class TurnLoop(asyncio.SelectorEventLoop):
    """Nothing happens between two calls of `turn`. Exceptions that nobody caught are in `uncaught`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.uncaught: list[BaseException] = []
        super().__init__()
        self.set_exception_handler(self._note)

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.uncaught.append(context.get("exception") or RuntimeError(context["message"]))

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """Run what is ready now. What that makes ready is for the next turn."""
        self.call_soon(self.stop)
        self.run_forever()

    def do(self, work: Callable[[], T]) -> T:
        """Call `work` within a turn, as the first thing of it, and return what it returns."""
        results: list[T] = []
        self.call_soon(lambda: results.append(work()))
        self.turn()
        if not results:
            raise self.uncaught.pop()
        return results[0]

    @property
    def busy(self) -> bool:
        """Whether anything is ready or due."""
        return bool(self._ready) or any(  # type: ignore[attr-defined]
            timer.when() <= self.now and not timer.cancelled()
            for timer in self._scheduled  # type: ignore[attr-defined]
        )

    def settle(self) -> None:
        """Turn until nothing is ready or due."""
        for _ in range(TURNS_MAX):
            if not self.busy:
                return
            self.turn()
        raise AssertionError(f"busy after {TURNS_MAX} turns")
