"""A reader that stops reading while a lot goes by costs the broker nothing to speak of, and then gets every message.

Workload: one publisher at a steady rate with a reader that keeps up, and a pair that measures how long a message takes,
on the same shard; first alone, then beside a reader that has stopped.
Fault: that reader, which takes nothing until all has gone by.
Checker: the broker's memory, the pair's latency with and without, and every seq at the slow reader.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.broker import BrokerProcess, broker_process
from harness.history import History, Reading
from harness.raw_socket import RawSocket, raw_socket
from harness.resuming_client import note
from harness.wire import WireClient, wire_client

MIB = 2**20
BODY = "x" * 4096
PER_FRAME = 8
TOPIC = "load/stream"
PROBE = "load/probe"
GROWTH_MAX = 30 * MIB


@dataclass
class Phase:
    """What was seen while `messages` went by."""

    messages: int
    latencies: list[float] = field(default_factory=list)
    memory: int = 0

    def quantile(self, q: float) -> float:
        return sorted(self.latencies)[int(q * (len(self.latencies) - 1))]


def memory_of(pid: int) -> int:
    """Bytes that the process has asked for and touched. The page cache is not among them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    pytest.skip("the operating system does not tell a process's memory")


class Stream:
    """A publisher at a steady rate, a reader that keeps up with it, and a pair that measures."""

    def __init__(
        self, broker: BrokerProcess, publisher: WireClient, reader: RawSocket, joe: WireClient, ann: WireClient
    ) -> None:
        self._broker = broker
        self._publisher = publisher
        self._reader = reader
        self._joe = joe
        self._ann = ann
        self._sent = 0
        self._heard = 0
        reader.take = self._hear

    def _hear(self, line: dict[str, Any]) -> None:
        if line["op"] == "msg":
            self._heard += 1
            assert line["seq"] == self._heard

    async def run(self, messages: int, rate: float) -> Phase:
        """Let so many messages go by, `rate` bytes a second."""
        phase = Phase(messages)
        probing = asyncio.create_task(self._probe(phase))
        hearing = asyncio.create_task(self._keep_up(self._sent + messages))
        started = time.monotonic()
        for number in range(0, messages, PER_FRAME):
            lines = [
                {"op": "pub", "topic": TOPIC, "id": f"s{self._sent + i}", "data": [self._sent + i, BODY]}
                for i in range(PER_FRAME)
            ]
            self._sent += PER_FRAME
            await self._publisher.socket.send("\n".join(map(json.dumps, lines)))
            if number:
                for _ in range(PER_FRAME):
                    await self._publisher.expect("ok")  # one frame is under way while the next is made
            ahead = started + (number + PER_FRAME) * len(BODY) / rate - time.monotonic()
            await asyncio.sleep(max(0.0, ahead))  # the rate is the workload
        for _ in range(PER_FRAME):
            await self._publisher.expect("ok")
        await hearing
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        return phase

    async def _keep_up(self, upto: int) -> None:
        while self._heard < upto:
            assert await self._reader.receive(MIB)

    async def _probe(self, phase: Phase) -> None:
        while True:
            sent = time.perf_counter()
            await self._joe.send("pub", topic=PROBE, id=f"{sent}", data=None)
            await self._ann.until("msg", id=f"{sent}")
            phase.latencies.append(time.perf_counter() - sent)
            phase.memory = max(phase.memory, memory_of(self._broker.pid))
            await self._joe.until("ok", id=f"{sent}")
            await asyncio.sleep(0.005)  # two hundred probes a second


async def stopped_reader(directory: Path, alone: int, beside: int, rate: float) -> tuple[Phase, Phase, float]:
    """`alone` bytes go by without it, then `beside` bytes with it. Its catching up, in bytes a second, comes last."""
    async with (
        broker_process(directory, write_buffer="64KiB") as broker,
        wire_client(broker.url, "publisher") as publisher,
        raw_socket(broker.port, "keeps-up") as reader,
        wire_client(broker.url, "joe") as joe,
        wire_client(broker.url, "ann") as ann,
        raw_socket(broker.port, "stopped", receive_buffer=64 * 1024) as stopped,
    ):
        await reader.request({"op": "sub", "topic": TOPIC})
        await ann.sub(PROBE)
        stream = Stream(broker, publisher, reader, joe, ann)
        first = await stream.run(alone // len(BODY), rate)

        await stopped.request({"op": "sub", "topic": TOPIC})
        await stopped.until("live")
        second = await stream.run(beside // len(BODY), rate)

        page = Reading("stopped", start=first.messages + 1)
        stopped.take = lambda line: keep(page, line)
        end = first.messages + second.messages
        started = time.monotonic()
        while page.head(TOPIC) < end:
            assert await stopped.receive(MIB)
        catching_up = beside / (time.monotonic() - started)
        history = History(readings=[page])
        assert [m.seq for m in page.entries[TOPIC]] == list(range(first.messages + 1, end + 1)), history  # type: ignore[union-attr]
        assert [m.content for m in page.entries[TOPIC]] == list(range(first.messages, end))  # type: ignore[union-attr]
    return first, second, catching_up


def keep(page: Reading, line: dict[str, Any]) -> None:
    """Note a message without its body."""
    if line["op"] == "msg":
        line = {**line, "data": line["data"][0]}
    note(page, line)


def report(alone: Phase, beside: Phase, catching_up: float) -> str:
    return (
        f"memory {alone.memory / MIB:.0f} -> {beside.memory / MIB:.0f} MiB; "
        f"latency p50 {1000 * alone.quantile(0.5):.1f} -> {1000 * beside.quantile(0.5):.1f} ms, "
        f"p99 {1000 * alone.quantile(0.99):.1f} -> {1000 * beside.quantile(0.99):.1f} ms; "
        f"caught up at {catching_up / MIB:.0f} MiB/s"
    )


async def test_64_mib_go_by(tmp_path: Path) -> None:
    alone, beside, catching_up = await stopped_reader(tmp_path / "d", 32 * MIB, 64 * MIB, 24 * MIB)
    print(report(alone, beside, catching_up))
    assert beside.memory - alone.memory < GROWTH_MAX
    # A busy machine has outliers of its own in two seconds: the median tells whether anybody was held up.
    assert beside.quantile(0.5) < 3 * alone.quantile(0.5) + 0.005


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_gigabyte_goes_by_in_a_minute(tmp_path: Path) -> None:
    alone, beside, catching_up = await stopped_reader(tmp_path / "d", 256 * MIB, 1024 * MIB, 1024 * MIB / 60)
    print(report(alone, beside, catching_up))
    assert beside.memory - alone.memory < GROWTH_MAX
    assert beside.quantile(0.99) < 2 * alone.quantile(0.99) + 0.002
