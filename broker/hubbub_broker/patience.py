"""Waiting for others to end, while a broker stops: for so long at most, and no longer once somebody is in a hurry."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class Patience:
    """What a stop waits with."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lost = asyncio.Event()

    def lose(self) -> None:
        """Wait for nobody any more."""
        self._lost.set()

    async def wait(self, others: Iterable[asyncio.Future[Any]]) -> None:
        """Return when all the others have ended, or patience has. Cancels nothing."""
        ended = asyncio.gather(*others, return_exceptions=True)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((asyncio.shield(ended), lost), timeout=self._seconds, return_when="FIRST_COMPLETED")
        finally:
            lost.cancel()

    async def wait_for(self, event: Coroutine[Any, Any, None]) -> None:
        """The same for one that is of no use after that."""
        task = asyncio.ensure_future(event)
        await self.wait([task])
        task.cancel()
