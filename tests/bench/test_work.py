"""How many steps a fixed amount of work takes inside the broker: the same on every machine, however busy.

Counted are the calls of the broker's functions, and those that they make of others, on the event loop. Each round of
work is one frame, answered before the next is sent, so that nothing depends on how fast anything is; of several rounds
the least counts, so that a timer in between does not. The bounds stand a little above what was counted when they were
written (in brackets): who makes the broker do more for a message has to raise one, and say why.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from harness.broker import serving
from hubbub_bench.drivers.frame import FrameSplitter, text_frame, upgrade_request
from hubbub_broker.server import Server

ROUNDS = 6
OURS = (f"{os.sep}hubbub_broker{os.sep}", f"{os.sep}hubbub_protocol{os.sep}")


class Client:
    """A socket that speaks frames; what it does itself is not counted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._splitter = FrameSplitter()

    def send(self, *lines: str) -> None:
        self._writer.write(text_frame([line.encode() for line in lines]))

    async def hear(self, what: bytes, count: int) -> None:
        """Wait until so many lines with that in them have come."""
        while count > 0:
            data = await self._reader.read(1 << 20)
            assert data, "the broker hung up"
            for _, text in self._splitter.feed(data):
                assert b'"op":"err"' not in text, text
                count -= text.count(what)
        assert count == 0

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def client(server: Server, name: str, *topics: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 24)
    writer.write(upgrade_request("127.0.0.1", server.port, "/v1/ws", 1))
    await reader.readuntil(b"\r\n\r\n")
    made = Client(reader, writer)
    made.send(f'{{"op":"hello","agent":"{name}"}}')
    await made.hear(b'"op":"welcome"', 1)
    for topic in topics:
        made.send(f'{{"op":"sub","topic":"{topic}","rid":1}}')
        await made.hear(b'"op":"ok"', 1)
    try:
        yield made
    finally:
        made.close()


def ours(frame: Any) -> bool:
    """Whether a function is the broker's."""
    return any(part in frame.f_code.co_filename for part in OURS)


class Steps:
    """Counts calls in the broker's code while its block runs."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._on_event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: Any, event: str, _: object) -> None:
        if event == "c_call":
            self.count += ours(frame)
        elif event == "call":
            self.count += ours(frame) or (frame.f_back is not None and ours(frame.f_back))


class Work:
    """Publishes in rounds. Every id is new."""

    def __init__(self, publisher: Client, readers: list[Client]) -> None:
        self._publisher = publisher
        self._readers = readers
        self._id = 0

    async def round(self, lines: int, topic: str = "g/t", more: str = "") -> int:
        """One frame of so many messages, answered and read by all: the steps that it took."""
        pubs = []
        for _ in range(lines):
            self._id += 1
            pubs.append(f'{{"op":"pub","topic":"{topic}","id":"i{self._id:08d}","data":"{"x" * 64}"{more}}}')
        with Steps() as steps:
            self._publisher.send(*pubs)
            for reader in self._readers:
                await reader.hear(b'"op":"msg"', lines)
            await self._publisher.hear(b'"op":"ok"', lines)
        return steps.count

    async def least(self, lines: int, more: str = "") -> int:
        """The least of some rounds."""
        return min([await self.round(lines, more=more) for _ in range(ROUNDS)])


@asynccontextmanager
async def working(directory: Path, readers: int) -> AsyncIterator[tuple[Server, Work]]:
    """A broker, a publisher, and so many readers of one topic."""
    async with serving(directory) as server, client(server, "publisher") as publisher:
        there = [client(server, f"reader-{number}", "g/t") for number in range(readers)]
        opened = [await one.__aenter__() for one in there]
        yield server, Work(publisher, opened)
        for one in there:
            await one.__aexit__(None, None, None)
        publisher.close()
        async with asyncio.timeout(10):
            while server.broker.gauges().connections:  # noqa: ASYNC110 - the broker gives no sign
                await asyncio.sleep(0.01)


pytestmark = pytest.mark.skipif(
    sys.getprofile() is not None or sys.gettrace() is not None,
    reason="a profiler or debugger is on, and what it does would be counted",
)


@pytest.fixture(autouse=True)
def turns_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the loop ends by the clock: here a frame is one turn, however slow counting makes it."""
    monkeypatch.setattr("hubbub_broker.session.intake.TURN_SECONDS", 3600.0)


@pytest.mark.parametrize(("more", "bound"), [("", 46), (',"ephemeral":true', 28)], ids=["durable", "ephemeral"])
async def test_a_publish_takes_no_more_steps_than_it_did(tmp_path: Path, more: str, bound: int) -> None:
    async with working(tmp_path / "data", 0) as (_, work):
        few, many = await work.least(10, more), await work.least(60, more)
    assert 10 < (many - few) / 50 <= bound  # (43 durable, 26 ephemeral)


async def test_another_reader_costs_a_few_steps_for_each_flush_and_none_for_each_message(tmp_path: Path) -> None:
    found: dict[tuple[int, int], int] = {}
    for readers in (5, 45):
        async with working(tmp_path / str(readers), readers) as (_, work):
            for lines in (10, 60):
                found[readers, lines] = await work.least(lines)
    few = (found[45, 10] - found[5, 10]) / 40
    many = (found[45, 60] - found[5, 60]) / 40
    assert 0.5 < few <= 3  # (1: the write)
    assert many <= few + 3, "a reader pays for a flush, not for the messages in it"


async def test_a_frame_of_publishes_is_one_write_to_the_log_and_one_sync(tmp_path: Path) -> None:
    async with working(tmp_path / "data", 3) as (server, work):
        found = []
        for _ in range(ROUNDS):
            before = writes_and_syncs(server)
            await work.round(50)
            after = writes_and_syncs(server)
            found.append((after[0] - before[0], after[1] - before[1]))
    assert min(found) == (1, 1)


def writes_and_syncs(server: Server) -> tuple[int, int]:
    """How often the logs of all shards were written to and synced."""
    logs = [shard.log for shard in server.broker.shard_gauges()]
    return sum(sum(log.write_histogram.buckets) for log in logs), sum(sum(log.sync_histogram.buckets) for log in logs)


async def test_topics_connections_and_history_add_no_steps(tmp_path: Path) -> None:
    async with working(tmp_path / "data", 1) as (server, work):
        before = await work.least(20)
        for number in range(300):
            await work_elsewhere(work, number)
        idle = [client(server, f"idle-{number}", f"g/other-{number}") for number in range(30)]
        for one in idle:
            await one.__aenter__()
        after = await work.least(20)
        for one in idle:
            await one.__aexit__(None, None, None)
    assert after <= before + 60  # (none: what a timer does in between may be counted)


async def work_elsewhere(work: Work, number: int) -> None:
    readers, work._readers = work._readers, []
    await work.round(5, topic=f"g/other-{number}")
    work._readers = readers
