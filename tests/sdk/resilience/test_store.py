"""What a StateStore promises, held by the one in memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.virtual_time import VirtualTimeLoop
from hubbub.resilience import MemoryStateStore, StateConflictError, StateEntry, StateStore


async def test_compare_and_set() -> None:
    store: StateStore = MemoryStateStore()
    assert await store.get("a") == (None, 0)
    first = await store.put("a", {"n": 1}, 0)
    second = await store.put("a", {"n": 2}, first)
    assert second > first
    with pytest.raises(StateConflictError) as conflict:
        await store.put("a", {"n": 3}, first)
    assert (conflict.value.expected, conflict.value.current) == (first, second)
    assert await store.get("a") == ({"n": 2}, second)


async def test_a_key_that_was_removed_can_be_made_again_and_no_version_comes_twice() -> None:
    store = MemoryStateStore()
    first = await store.put("a", 1, 0)
    assert await store.put("a", None, first) == 0
    assert await store.get("a") == (None, 0)
    assert await store.put("a", 2, 0) > first
    with pytest.raises(StateConflictError):
        await store.put("a", 3, first)


async def test_values_are_copied_in_and_out() -> None:
    store = MemoryStateStore()
    value = {"list": [1]}
    await store.put("a", value, 0)
    value["list"].append(2)
    held, _ = await store.get("a")
    held["list"].append(3)
    assert (await store.get("a"))[0] == {"list": [1]}


async def test_a_watch_tells_what_is_there_and_then_each_change_of_its_prefix() -> None:
    store = MemoryStateStore()
    first = await store.put("x/a", 1, 0)
    await store.put("y/a", 1, 0)
    watch = store.watch("x/")
    assert await anext(watch) == StateEntry("x/a", 1, first)
    coming = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    assert not coming.done()
    await store.put("y/b", 1, 0)
    second = await store.put("x/b", 2, 0)
    assert await coming == StateEntry("x/b", 2, second)
    await store.put("x/a", None, first)
    assert (await anext(watch)).value is None
    await watch.aclose()  # type: ignore[attr-defined]
    assert store._watchers == set()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers()), st.booleans()), max_size=40))
def test_whoever_reads_a_watch_late_knows_the_newest_of_each_key(course: list[tuple[str, int | None, bool]]) -> None:
    async def play() -> None:
        store = MemoryStateStore()
        watch = store.watch("")
        known: dict[str, int] = {}
        pending: asyncio.Future[StateEntry] = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)

        async def read_one() -> bool:
            nonlocal pending
            for _ in range(5):
                await asyncio.sleep(0)
            if not pending.done():
                return False
            entry = pending.result()
            known.pop(entry.key, None)
            if entry.value is not None:
                known[entry.key] = entry.value
            pending = asyncio.ensure_future(anext(watch))
            return True

        for key, value, read in course:
            await store.put(key, value, (await store.get(key))[1])
            if read:
                await read_one()
            assert all(len(one._unread) <= 3 for one in store._watchers)
        while await read_one():
            pass
        pending.cancel()
        await asyncio.wait([pending])
        assert known == {key: (await store.get(key))[0] for key in "abc" if (await store.get(key))[1]}

    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(play())
    finally:
        loop.close()
