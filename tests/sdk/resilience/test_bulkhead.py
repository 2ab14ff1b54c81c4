"""Bulkheads: so many at a time, in order, for tasks and threads alike."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.virtual_time import VirtualTimeLoop
from hubbub.resilience import Bulkhead, BulkheadFull


class Room:
    """Counts who is inside."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.order: list[int] = []

    async def stay(self, number: int, seconds: float = 1.0) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.order.append(number)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.inside -= 1
        return number


async def test_no_more_than_so_many_are_inside_and_they_come_in_order() -> None:
    room, bulkhead = Room(), Bulkhead("svc", 3)
    stay = bulkhead(room.stay)
    assert await asyncio.gather(*(stay(number) for number in range(20))) == list(range(20))
    assert room.most == 3
    assert room.order == list(range(20))
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)
    assert (bulkhead.stats.entered, bulkhead.stats.waited) == (20, 17)


async def test_who_finds_no_room_to_wait_is_told_at_once() -> None:
    room, bulkhead = Room(), Bulkhead("svc", 1, max_waiting=1)
    tasks = [asyncio.ensure_future(bulkhead.call(room.stay, number)) for number in range(3)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[:2] == [0, 1]
    assert isinstance(results[2], BulkheadFull)
    assert "svc is full" in str(results[2])
    assert results[2].name == "svc"
    assert bulkhead.stats.refused == 1


async def test_nobody_waits_longer_than_allowed() -> None:
    room, bulkhead = Room(), Bulkhead("svc", 1, max_wait=5)
    long = asyncio.ensure_future(bulkhead.call(room.stay, 1, 8.0))
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFull, match="within 5 s"):
        await bulkhead.call(room.stay, 2)
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.01)
    assert bulkhead.waiting == 0
    await long
    assert await bulkhead.call(room.stay, 3) == 3
    assert bulkhead.stats.timed_out == 1


async def test_room_is_given_back_whatever_happens_inside() -> None:
    bulkhead = Bulkhead("svc", 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with bulkhead:
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), bulkhead:
            raise ZeroDivisionError
    assert bulkhead.running == 0


async def test_a_turn_that_comes_together_with_a_cancellation_goes_to_the_next() -> None:
    room, bulkhead = Room(), Bulkhead("svc", 1)
    await bulkhead.__aenter__()
    first = asyncio.ensure_future(bulkhead.call(room.stay, 1))
    second = asyncio.ensure_future(bulkhead.call(room.stay, 2))
    await asyncio.sleep(0)
    await bulkhead.__aexit__(None, None, None)
    first.cancel()
    assert await second == 2
    assert first.cancelled()
    assert bulkhead.running == 0


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.one_of(st.none(), st.floats(0, 5))), max_size=30),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_whatever_comes_and_is_cancelled_room_is_neither_lost_nor_made(
    course: list[tuple[float, float, float | None]], size: int, waiting: int
) -> None:
    async def play() -> None:
        room, bulkhead = Room(), Bulkhead("svc", size, max_waiting=waiting, max_wait=2.0)

        async def visit(number: int, at: float, seconds: float, patience: float | None) -> None:
            await asyncio.sleep(at)
            async with asyncio.timeout(patience):
                await bulkhead.call(room.stay, number, seconds)

        await asyncio.gather(*(visit(n, *one) for n, one in enumerate(course)), return_exceptions=True)
        assert room.most <= size
        assert (bulkhead.running, bulkhead.waiting) == (0, 0)

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(play())
    finally:
        loop.close()


async def test_on_the_loops_own_thread_a_plain_function_never_waits() -> None:
    bulkhead = Bulkhead("svc", 1)
    async with bulkhead:
        with pytest.raises(BulkheadFull):
            bulkhead.call_plain(int)
    assert bulkhead.call_plain(int) == 0


def test_threads_wait_in_a_queue() -> None:
    bulkhead = Bulkhead("svc", 2, max_wait=None)
    lock, together = threading.Lock(), threading.Barrier(8)
    inside = most = 0

    @bulkhead
    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    def hammer(_: int) -> None:
        together.wait()
        for _ in range(200):
            work()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hammer, range(8)))
    assert most <= 2
    assert bulkhead.stats.entered == 1600
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


def test_a_thread_gives_up_waiting() -> None:
    bulkhead = Bulkhead("svc", 1, max_wait=0.01)
    with bulkhead, ThreadPoolExecutor(1) as threads:
        with pytest.raises(BulkheadFull, match="max_wait"):
            threads.submit(bulkhead.call_plain, int).result()
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


@pytest.mark.real_time
async def test_tasks_and_threads_share_the_room() -> None:
    bulkhead = Bulkhead("svc", 1)
    let_go = threading.Event()
    inside = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(inside.set)
        let_go.wait()

    thread = loop.run_in_executor(None, bulkhead.call_plain, hold)
    await inside.wait()
    task = asyncio.ensure_future(bulkhead.call(asyncio.sleep, 0, "in"))
    await asyncio.sleep(0)
    assert bulkhead.waiting == 1
    let_go.set()
    assert await task == "in"
    await thread


def test_a_waiter_whose_loop_has_gone_is_passed_over() -> None:
    bulkhead = Bulkhead("svc", 1)
    bulkhead.__enter__()
    loop = VirtualTimeLoop()
    task = loop.create_task(bulkhead.call(asyncio.sleep, 0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    bulkhead.__exit__(None, None, None)
    assert bulkhead.running == 0
    task.get_coro().close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert bulkhead.running == 0


@pytest.mark.parametrize("values", [{"max_concurrent": 0}, {"max_waiting": -1}, {"max_wait": -1}])
def test_a_bulkhead_that_makes_no_sense_is_refused(values) -> None:
    with pytest.raises(ValueError):
        Bulkhead("svc", **values)
