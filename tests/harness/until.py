"""Waiting for a count, which has no event."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], object], *, step: float = 0.01, seconds: float = 30.0) -> None:
    """Look again every `step` seconds until the condition holds.

    In virtual time that costs nothing; in real time it waits for what happens, never for a time to pass.

    Raises:
        TimeoutError: it did not hold within `seconds`.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is counted tells nobody
            await asyncio.sleep(step)
