"""Waits for the agents, and shows meanwhile how far they are."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from .clock import now
from .display import Display
from .progress import Progress

POLL_SECONDS = 0.1


class Watched(Protocol):
    """Whose progress it is."""

    @property
    def progress(self) -> Progress:
        """The progress now."""
        ...


class Watch:
    """One job's watch."""

    def __init__(self, watched: Watched, display: Display, planned: int, stall: float) -> None:
        """`stall`: seconds without any progress after which waiting is of no use."""
        self._watched = watched
        self._display = display
        self._planned = planned
        self._stall = stall

    async def until_confirmed(self, count: int) -> bool:
        """Wait for so many receipts. False, if nothing happens any more."""
        return await self._until(lambda progress: progress.confirmed >= count)

    async def until_handled(self, count: int) -> bool:
        """Wait for so many deliveries. False, if nothing happens any more."""
        return await self._until(lambda progress: progress.handled >= count)

    async def _until(self, reached: Callable[[Progress], bool]) -> bool:
        moved = (0, 0)
        moved_at = now()
        while True:
            progress = self._watched.progress
            self._display.show(progress, self._planned)
            if reached(progress):
                return True
            counts = (progress.handled, progress.confirmed)
            if counts != moved:
                moved, moved_at = counts, now()
            elif now() - moved_at > self._stall:
                return False
            await asyncio.sleep(POLL_SECONDS)
