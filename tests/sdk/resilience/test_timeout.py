"""Time-outs."""

import asyncio

import pytest

from hubbub.resilience import CallTimeout, Timeout


async def test_what_takes_too_long_is_cancelled_and_said() -> None:
    ended = []

    @Timeout(5)
    async def work(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append(asyncio.get_running_loop().time())
            raise
        return "done"

    assert await work(4) == "done"
    with pytest.raises(CallTimeout, match=r"work did not end within 5 s") as raised:
        await work(6)
    assert isinstance(raised.value, TimeoutError)
    assert ended == [pytest.approx(9, abs=0.01)]


async def test_a_time_out_of_the_functions_own_is_left_alone() -> None:
    own = TimeoutError("connect")

    async def work() -> None:
        raise own

    with pytest.raises(TimeoutError) as raised:
        await Timeout(5).call(work)
    assert raised.value is own


async def test_a_cancellation_from_outside_is_left_alone() -> None:
    task = asyncio.ensure_future(Timeout(5).call(asyncio.Event().wait))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_plain_functions_are_refused_because_nothing_could_stop_them() -> None:
    with pytest.raises(TypeError, match="can't be cancelled"):
        Timeout(5)(int)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_at_all_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError):
        Timeout(seconds)
