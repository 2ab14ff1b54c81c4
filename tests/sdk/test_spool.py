"""The outbox on disk: what was accepted outlives the agent's own crash."""

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hubbub import Agent, Closed, Expired, SpoolError, Undelivered
from hubbub.outbox import Entry
from hubbub.spool import ROWS_PER_STATEMENT, Spool, entry_of, ranges
from hubbub.stats import Stats
from hubbub.testing import MemoryBroker
from hubbub_protocol import codec
from hubbub_protocol.frames import Pub

pytestmark = pytest.mark.real_time  # the spool has a thread of its own


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "joe.spool"


@pytest.fixture
def no_spool(tmp_path: Path) -> Path:
    """A file that is no database."""
    path = tmp_path / "no.spool"
    path.write_bytes(b"not a database" * 100)
    return path


def rows_in(path: Path) -> list[str]:
    """The ids in a spool file that nobody has open."""
    database = sqlite3.connect(path)
    try:
        return [id for (id,) in database.execute("SELECT id FROM outbox ORDER BY row")]
    finally:
        database.close()


async def abandon(agent: Agent) -> None:
    """End an agent as a crash does: no goodbye, no drain. (Its thread's file lock has to go, though.)"""
    agent._closing = asyncio.create_task(asyncio.sleep(0, 0))
    await agent._board.stop()
    assert agent._spool is not None
    agent._spool._jobs.put(None)
    await agent._spool._stopped


def away() -> MemoryBroker:
    broker = MemoryBroker()
    broker.crash()
    return broker


class TestAgent:
    async def test_what_was_not_confirmed_is_sent_by_the_next_life_with_the_same_ids(
        self, make_agent: Any, path: Path
    ) -> None:
        broker = away()
        joe = make_agent(transport=broker.transport(), spool=path)
        await joe.open()
        for number in range(250):
            await joe.submit(f"c{number % 3}", number)
        await joe.submit("c0", b"\0bytes")
        await abandon(joe)
        before = rows_in(path)
        assert len(before) == 251
        broker.start()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.flush()
            await joe.submit("c0", "a later life's")
        for topic in range(3):
            stored = broker.stored(f"g/c{topic}")
            expected = before[topic:250:3] + ([] if topic else [before[250]])
            assert [m.id for m in stored if m.id in before] == expected
        assert bytes(broker.stored("g/c0")[-1].data) == b'"a later life\'s"'
        assert rows_in(path) == []

    async def test_what_the_broker_had_already_is_not_stored_twice(self, make_agent: Any, path: Path) -> None:
        broker = MemoryBroker()
        joe = make_agent(transport=broker.transport(), spool=path)
        await joe.open()
        await joe.wait_for("online")
        broker.hold_answers()
        for number in range(10):
            await joe.submit("c", number)
        await abandon(joe)
        assert len(rows_in(path)) == 10
        assert len(broker.stored("g/c")) == 10
        broker._answers = None
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.flush()
        assert len(broker.stored("g/c")) == 10
        assert rows_in(path) == []

    async def test_submit_returns_when_it_is_on_disk(self, make_agent: Any, path: Path) -> None:
        broker = away()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.wait_for("degraded")
            await joe.submit("c", 1)
            assert joe._spool.rows == 1
            assert (joe.stats.spooled, joe.buffered) == (1, 1)
            broker.start()
            await joe.flush()

    async def test_what_is_confirmed_in_time_never_touches_the_disk(
        self, make_agent: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hubbub.spool.LINGER_SECONDS", 30.0)
        broker = MemoryBroker()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.wait_for("online")
            for number in range(100):
                await (await joe.submit("c", number))
            assert joe._spool.rows == 0
            assert joe._spool._waiting == {}

    async def test_close_keeps_what_it_could_not_deliver(self, make_agent: Any, path: Path) -> None:
        broker = away()
        joe = make_agent(transport=broker.transport(), spool=path)
        await joe.open()
        future = await joe.submit("c", 1)
        await joe.close(drain=0.05)
        assert future.exception() is not None
        assert len(rows_in(path)) == 1

    async def test_without_a_spool_that_is_told(self, make_agent: Any) -> None:
        joe = make_agent(transport=away().transport())
        await joe.open()
        await joe.submit("c", 1)
        with pytest.raises(Undelivered):
            await joe.close(drain=0.05)

    async def test_what_expired_meanwhile_is_not_sent(self, make_agent: Any, path: Path) -> None:
        broker = away()
        joe = make_agent(transport=broker.transport(), spool=path)
        await joe.open()
        await joe.submit("c", "short", ttl=0.05)
        await joe.submit("c", "long", ttl=500)
        await abandon(joe)
        await asyncio.sleep(0.06)  # the time that the test is about
        broker.start()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.flush()
            assert joe.stats.expired == 1
        assert [bytes(m.data) for m in broker.stored("g/c")] == [b'"long"']
        assert rows_in(path) == []

    async def test_the_time_in_the_spool_counts_for_a_message_s_time_to_live(self, make_agent: Any, path: Path) -> None:
        broker = away()
        joe = make_agent(transport=broker.transport(), spool=path)
        await joe.open()
        await joe.submit("c", "kept", ttl=500)
        await abandon(joe)
        database = sqlite3.connect(path)  # as if it had lain there for an hour less ten seconds
        database.execute("UPDATE outbox SET expires = expires - 490")
        database.commit()
        database.close()
        sent: list[float | None] = []
        broker.verdict = lambda pub: sent.append(pub.ttl)
        broker.start()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.flush()
        assert len(sent) == 1
        assert sent[0] is not None
        assert 0 < sent[0] <= 10

    async def test_a_refused_message_leaves_the_spool(self, make_agent: Any, path: Path) -> None:
        broker = MemoryBroker(max_frame=500)
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            future = await joe.submit("c", "x" * 1000)
            with pytest.raises(Exception, match="500 at most"):
                await future
        assert rows_in(path) == []

    async def test_ephemeral_messages_are_not_spooled(self, make_agent: Any, path: Path) -> None:
        joe = make_agent(transport=away().transport(), spool=path)
        await joe.open()
        await joe.submit("c", 1, ephemeral=True)
        await joe.close(drain=0.05)
        assert rows_in(path) == []

    async def test_a_file_that_cannot_be_written_is_told_and_the_message_is_sent_all_the_same(
        self, make_agent: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = away()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.wait_for("degraded")
            monkeypatch.setattr("hubbub.spool._write", lambda database, batch: sqlite3.OperationalError("disk is full"))
            with pytest.raises(SpoolError, match="disk is full"):
                await joe.submit("c", 1)
            monkeypatch.undo()
            broker.start()
            await joe.flush()
        assert len(broker.stored("g/c")) == 1

    async def test_a_process_that_is_killed(self, path: Path, make_agent: Any) -> None:
        script = textwrap.dedent("""
            import asyncio, os, sys
            from hubbub import Agent
            from hubbub.testing import MemoryBroker

            async def main():
                broker = MemoryBroker()
                broker.crash()
                joe = Agent("joe", group="g", transport=broker.transport(), spool=sys.argv[1])
                await joe.open()
                for number in range(100):
                    await joe.submit("c", number)
                print("accepted", flush=True)
                os.kill(os.getpid(), 9)

            asyncio.run(main())
        """)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=50
        )
        assert done.stdout == "accepted\n", done.stderr
        broker = MemoryBroker()
        async with make_agent(transport=broker.transport(), spool=path) as joe:
            await joe.flush()
        assert [codec.decode_value(bytes(m.data)) for m in broker.stored("g/c")] == list(range(100))


class TestFile:
    async def test_one_file_for_each_agent(self, path: Path) -> None:
        spool, _ = await Spool.open(path, "joe", Stats())
        with pytest.raises(SpoolError, match="open in another agent"):
            await Spool.open(path, "joe", Stats())
        await spool.close()
        await spool.close()
        with pytest.raises(SpoolError, match="the spool of agent joe, not of ann"):
            await Spool.open(path, "ann", Stats())
        spool, rows = await Spool.open(path, "joe", Stats(), "normal")
        assert rows == []
        await spool.close()

    async def test_what_is_no_spool_is_refused(self, path: Path, no_spool: Path) -> None:
        with pytest.raises(SpoolError, match=r"no\.spool can't be opened"):
            await Spool.open(no_spool, "joe", Stats())
        with pytest.raises(SpoolError, match="can't be opened"):
            await Spool.open(path / "no" / "folder", "joe", Stats())
        with pytest.raises(ValueError, match="synchronous"):
            await Spool.open(path, "joe", Stats(), "maybe")  # type: ignore[arg-type]

    async def test_a_spool_of_another_format_is_refused(self, path: Path) -> None:
        spool, _ = await Spool.open(path, "joe", Stats())
        await spool.close()
        database = sqlite3.connect(path)
        database.execute("UPDATE about SET value = '9' WHERE key = 'format'")
        database.commit()
        database.close()
        with pytest.raises(SpoolError, match="format 9"):
            await Spool.open(path, "joe", Stats())

    async def test_an_agent_whose_spool_cannot_be_opened_does_not_open(self, make_agent: Any, no_spool: Path) -> None:
        joe = make_agent(spool=no_spool)
        with pytest.raises(SpoolError):
            await joe.open()
        with pytest.raises(Closed):
            await joe.publish("c", 1)

    async def test_many_rows_and_their_order(self, path: Path) -> None:
        loop = asyncio.get_running_loop()
        spool, _ = await Spool.open(path, "joe", Stats())
        entries = []
        for number in range(3 * ROWS_PER_STATEMENT + 7):
            entry = Entry("g/c", str(number), codec.encode(Pub(topic="g/c", id=str(number))), loop.create_future())
            entry.position = number + 1
            spool.keep(entry, urgent=False)
            entries.append(entry)
        await spool.flush()
        for entry in entries[::2]:
            spool.settled(entry)
        await spool.close()
        spool, rows = await Spool.open(path, "joe", Stats())
        assert [row.id for row in rows] == [str(number) for number in range(1, len(entries), 2)]
        again = entry_of(rows[0], loop)
        assert (again.id, again.topic, again.body) == ("1", "g/c", entries[1].body)
        await spool.close()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([], []), ([5], [(5, 5)]), ([1, 2, 3, 7, 8, 10], [(1, 3), (7, 8), (10, 10)])],
)
def test_ranges(numbers: list[int], expected: list[tuple[int, int]]) -> None:
    assert list(ranges(numbers)) == expected


async def test_expired_is_an_error_of_its_own() -> None:
    assert issubclass(Expired, Exception)
