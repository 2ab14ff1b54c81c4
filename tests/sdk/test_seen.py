"""What was done is not done again: stores of marks, and handlers that use them."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.until import until
from hubbub import Agent, AlreadyDone, Delivery, MemorySeen, SeenError, SqliteSeen
from hubbub.consumer import Consumer
from hubbub.lease import Lease
from hubbub.seen import Mark
from hubbub.seen_file import PRUNE_EVERY
from hubbub.testing import MemoryBroker
from hubbub_protocol.frames import Msg

ONE, TWO = (Mark("w", "g/tasks", "joe", id) for id in ("1", "2"))


def delivery(id: str = "1", consumer: str = "w") -> Delivery:
    frame = Msg(topic="g/tasks", id=id, sender="joe", ts=0.0, lc=1, seq=1, consumer=consumer)
    nobody: Any = None
    return Delivery(frame, nobody, None, Lease("g/tasks", 1, 1, 0.0), nobody)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestInMemory:
    async def test_it_remembers_and_forgets(self) -> None:
        clock = Clock()
        store = MemorySeen(limit=10, ttl=60, clock=clock)
        await store.add(ONE)
        clock.now += 59
        assert await store.seen(ONE)
        assert not await store.seen(TWO)
        clock.now += 120
        await store.seen(TWO)
        clock.now += 120
        assert not await store.seen(ONE)

    async def test_it_is_bounded(self) -> None:
        store = MemorySeen(limit=10)
        for number in range(1000):
            await store.add(Mark("w", "t", "s", str(number)))
        assert len(store) <= 10
        assert await store.seen(Mark("w", "t", "s", "999"))

    @pytest.mark.parametrize("options", [{"limit": 1}, {"ttl": 0}])
    async def test_numbers_out_of_range(self, options: Any, tmp_path: Path) -> None:
        with pytest.raises(ValueError):
            MemorySeen(**options)
        with pytest.raises(ValueError):
            SqliteSeen(tmp_path / "x", **options)

    @pytest.mark.parametrize("dedup", [True, False])
    async def test_what_was_done_is_acked_without_its_handler(
        self, joe: Agent, broker: MemoryBroker, dedup: bool
    ) -> None:
        calls: list[int] = []
        options: Any = {} if dedup else {"dedup": None}

        @joe.on("tasks", consumer="w", **options)
        async def work(msg: Delivery) -> None:
            calls.append(msg.attempt)

        consumption = joe.consumption("tasks", "w")
        await consumption.ready()
        broker.settle = lambda *_: None  # type: ignore[method-assign] # the ack is lost, and its connection with it
        await joe.publish("tasks", 1)
        await until(lambda: calls)
        del broker.settle
        consumer: Consumer = consumption.consumer
        consumer._settler.link_down()  # and this life has forgotten it, as a new one would
        for lease in tuple(consumer._held.values()):
            consumer._settler.forget(lease)
            consumer._over(lease)
        broker.cut("joe")
        await until(lambda: joe.stats.acked)
        assert calls == ([1] if dedup else [1, 2])
        assert joe.stats.already_done == (1 if dedup else 0)

    async def test_a_store_that_fails_lets_the_message_come_again(self, make_agent: Any, ann: Agent) -> None:
        class Broken(MemorySeen):
            times = 1

            async def seen(self, mark: Mark) -> bool:
                if self.times:
                    self.times -= 1
                    raise SeenError("the disk is gone")
                return await super().seen(mark)

            async def add(self, mark: Mark) -> None:
                raise SeenError("the disk is gone")

        told: list[BaseException] = []
        async with make_agent("joe", on_error=lambda error, _: told.append(error)) as joe:

            @joe.on("tasks", consumer="w", dedup=Broken())
            async def work(msg: Delivery) -> None:
                assert msg.attempt == 2

            await joe.consumption("tasks", "w").ready()
            await ann.publish("tasks", 1)
            await until(lambda: joe.stats.acked)
        assert [str(error) for error in told] == ["the disk is gone"]


@pytest.mark.real_time
class TestInAFile:
    async def test_it_outlives_its_process(self, tmp_path: Path) -> None:
        async with SqliteSeen(tmp_path / "seen") as store:
            await asyncio.gather(*(store.add(Mark("w", "t", "s", str(number))) for number in range(250)))
            assert await store.seen(Mark("w", "t", "s", "7"))
        async with SqliteSeen(tmp_path / "seen") as store:
            answers = await asyncio.gather(*(store.seen(Mark("w", "t", "s", str(number))) for number in range(251)))
            assert answers == [True] * 250 + [False]
            assert not await store.seen(Mark("other", "t", "s", "7"))
        with pytest.raises(SeenError, match="closed"):
            await store.add(ONE)

    async def test_it_forgets_by_time_and_number(self, tmp_path: Path) -> None:
        clock = Clock()
        store = SqliteSeen(tmp_path / "seen", limit=1500, ttl=60, clock=clock)
        await store.add(ONE)
        clock.now += 61
        assert not await store.seen(ONE)
        for batch in range(4):
            clock.now += 1
            await asyncio.gather(*(store.add(Mark("w", "t", "s", f"{batch}.{n}")) for n in range(1000)))
        store.close()
        with sqlite3.connect(tmp_path / "seen") as database:
            assert database.execute("SELECT count(*) FROM hubbub_seen").fetchone() == (1500,)
            assert database.execute("SELECT count(*) FROM hubbub_seen WHERE id LIKE '3.%'").fetchone() == (1000,)
        database.close()

    async def test_an_effect_and_its_mark_happen_both_or_not_at_all(self, tmp_path: Path) -> None:
        store = SqliteSeen(tmp_path / "seen")

        def effect(database: sqlite3.Connection) -> None:
            database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT)")
            database.execute("INSERT INTO results VALUES ('x')")

        def fails(database: sqlite3.Connection) -> None:
            effect(database)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.run(delivery(), fails)
        assert not await store.seen(ONE)
        await store.run(delivery(), effect)
        assert await store.seen(ONE)
        with pytest.raises(AlreadyDone):
            await store.run(delivery(), effect)
        await store.run(delivery(consumer="another"), effect)
        store.close()
        with sqlite3.connect(tmp_path / "seen") as database:
            assert database.execute("SELECT count(*) FROM results").fetchone() == (2,)
        database.close()

    async def test_an_effect_is_made_again_once_its_mark_is_too_old(self, tmp_path: Path) -> None:
        clock = Clock()
        store = SqliteSeen(tmp_path / "seen", ttl=60, clock=clock)
        effects: list[float] = []
        await store.run(delivery(), lambda _: effects.append(clock.now))
        clock.now += 59
        with pytest.raises(AlreadyDone):
            await store.run(delivery(), lambda _: effects.append(clock.now))
        clock.now += 2
        await store.run(delivery(), lambda _: effects.append(clock.now))
        assert effects == [1000.0, 1061.0]
        assert await store.seen(ONE), "the mark is as old as the newer effect"
        store.close()

    async def test_transactions_alone_keep_the_file_within_its_bounds(self, tmp_path: Path) -> None:
        store = SqliteSeen(tmp_path / "seen", limit=10, synchronous="normal")
        for number in range(PRUNE_EVERY + 1):
            with store.transaction(delivery(str(number))):
                pass
        store.close()
        with sqlite3.connect(tmp_path / "seen") as database:
            assert database.execute("SELECT count(*) FROM hubbub_seen").fetchone() == (10,)
        database.close()

    async def test_many_at_once_do_it_once(self, tmp_path: Path) -> None:
        stores = [SqliteSeen(tmp_path / "seen") for _ in range(3)]

        def effect(database: sqlite3.Connection) -> bool:
            database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT)")
            database.execute("INSERT INTO results VALUES ('x')")
            return True

        tries = [store.run(delivery(), effect) for store in stores for _ in range(4)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert [result for result in results if result is True] == [True]
        assert all(isinstance(result, AlreadyDone) for result in results if result is not True)
        for store in stores:
            store.close()

    async def test_a_file_that_is_none_of_ours_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "seen").write_bytes(b"nonsense" * 1000)
        store = SqliteSeen(tmp_path / "seen")
        with pytest.raises(SeenError, match="seen"):
            await store.add(ONE)
        with pytest.raises(SeenError, match="seen"):
            await store.run(delivery(), lambda _: None)
        store.close()

    async def test_a_function_in_a_thread_records_its_effect_once(self, tmp_path: Path, make_agent: Any) -> None:
        broker = MemoryBroker()
        store = SqliteSeen(tmp_path / "seen")
        threads: list[int] = []
        async with make_agent("joe", transport=broker.transport()) as joe:

            @joe.on("tasks", consumer="w", dedup=store, backoff=[0.0])
            def work(msg: Delivery) -> None:
                threads.append(threading.get_ident())
                with store.transaction(msg) as database:
                    database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT, data TEXT)")
                    database.execute("INSERT INTO results VALUES (?, ?)", (msg.id, msg.data))
                raise ValueError("after the effect")

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", "text")
            await until(lambda: joe.stats.acked)
        store.close()
        assert threading.get_ident() not in threads
        assert len(threads) == 1, "the second delivery finds the mark"
        with sqlite3.connect(tmp_path / "seen") as database:
            assert database.execute("SELECT data FROM results").fetchall() == [("text",)]
        database.close()

    async def test_a_thread_whose_lease_is_lost_sees_it_and_is_not_joined_by_a_second(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        begun: list[int] = []
        running = most = 0
        async with make_agent("joe", transport=broker.transport()) as joe:

            @joe.on("tasks", consumer="w", ack_wait=0.3)
            def work(msg: Delivery) -> None:
                nonlocal running, most
                begun.append(msg.attempt)
                running += 1
                most = max(most, running)
                if msg.attempt == 1:
                    assert msg.lost.wait(10)
                    threading.Event().wait(0.2)  # it takes its time to stop
                running -= 1

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", 1)
            await until(lambda: begun)
            broker.crash()
            await until(lambda: joe.stats.leases_lost)
            broker.start()
            await until(lambda: joe.stats.acked)
        assert begun == [1, 2]
        assert most == 1
