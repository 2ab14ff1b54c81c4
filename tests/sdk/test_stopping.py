"""The end of a background task."""

import asyncio

import pytest

from hubbub.stopping import cancel_and_wait


async def test_a_task_is_over_once_it_was_stopped() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await cancel_and_wait(task)
    assert task.cancelled()
    await cancel_and_wait(task)


async def test_who_is_cancelled_while_it_waits_for_the_end_ends_itself() -> None:
    leaving, gone = asyncio.Event(), asyncio.Event()

    async def slow_to_leave() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            leaving.set()
            await gone.wait()

    task = asyncio.create_task(slow_to_leave())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(cancel_and_wait(task))
    await leaving.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    gone.set()
    await asyncio.wait([task])


async def test_what_a_task_failed_with_is_heard_by_whoever_stops_it() -> None:
    async def failing() -> None:
        raise ValueError("on its own")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    with pytest.raises(ValueError, match="on its own"):
        await cancel_and_wait(task)
