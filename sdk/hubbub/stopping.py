"""The end of a background task, for whoever began it."""

import asyncio
from typing import Any

CANCEL_SECONDS = 10.0
"""How long a handler that was cancelled is waited for: one that does not end by then is left behind."""


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended.

    `await task` with the cancellation suppressed would suppress the caller's own, too: who is cancelled here, ends.

    Raises:
        Exception: what the task failed with, if it did.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
