"""One worker of four is killed again and again under load. Its agents resume; those of the others notice nothing."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import pytest

from harness.until import until
from harness.workers import WorkersProcess, workers_process
from hubbub import Agent, Backoff
from hubbub_protocol.routing import worker_of

WORKERS = 4
PERIOD = 0.02
"""Seconds between the messages of each pair: a pace, not a load that a busy machine can't carry."""

HOME = worker_of("_hubbub", 16, WORKERS)


class Pair:
    """A publisher and a reader in one group: the publisher waits for each receipt, the reader for each message."""

    def __init__(self, group: str, url: str) -> None:
        options: dict[str, Any] = {"group": group, "url": url, "backoff": Backoff(base=0.02, cap=0.2), "local": False}
        self.writer = Agent(f"writer-{group}", **options)
        self.reader = Agent(f"reader-{group}", **options)
        self.topic = f"{group}/t"
        self.confirmed: list[int] = []
        self.received: list[int] = []
        self.seqs: list[int | None] = []
        self.gaps: list[Any] = []
        self.latencies: list[float] = []
        self._sent: dict[int, float] = {}
        self._count = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pair"]:
        async with self.reader, self.writer:
            feed = self.reader.subscribe(self.topic, start="all", on_gap=self.gaps.append)
            await feed.ready()
            await self.writer.wait_for("online", timeout=30)
            self._reading = asyncio.create_task(self._read(feed))
            self._writing = asyncio.create_task(self._write())
            try:
                yield self
                self._writing.cancel()
                await asyncio.wait([self._writing])
                await self.writer.flush()
                await until(lambda: set(self.confirmed) <= set(self.received))
            finally:
                self._reading.cancel()
                self._writing.cancel()

    async def _write(self) -> None:
        while True:
            number = self._count
            self._count += 1
            self._sent[number] = perf_counter()
            await self.writer.publish(self.topic, number)
            self.confirmed.append(number)
            await asyncio.sleep(PERIOD)  # the pace

    async def _read(self, feed: Any) -> None:
        async for message in feed:
            self.latencies.append(perf_counter() - self._sent[message.data])
            self.received.append(message.data)
            self.seqs.append(message.seq)

    async def measure(self, messages: int) -> list[float]:
        """The latencies of the next messages."""
        begin = len(self.latencies)
        await until(lambda: len(self.latencies) >= begin + messages, seconds=60)
        return self.latencies[begin:]

    def check(self) -> None:
        """Everything confirmed has come, once and in order."""
        assert self.received == list(range(len(self.received)))
        assert self.seqs == list(range(1, len(self.seqs) + 1))
        assert self.gaps == []


def nine_in_ten(latencies: list[float]) -> float:
    return sorted(latencies)[int(len(latencies) * 0.9)]


async def kill_again_and_again(tmp_path: Path, victim: int, kills: int) -> None:
    async with workers_process(tmp_path / "data", WORKERS) as broker, AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(Pair(broker.group_of(worker), broker.url).running())
            for worker in range(WORKERS)
            if worker != victim
        ]
        hit = await stack.enter_async_context(Pair(broker.group_of(victim), broker.url).running())
        calm = [latency for found in await gather(others, 100) for latency in found]
        before = [(pair.writer.stats.connections, pair.reader.stats.connections) for pair in others]
        rough: list[float] = []
        away: list[float] = []
        for kill in range(kills):
            measured = len(hit.received)
            begins = [len(pair.latencies) for pair in others]
            broker.kill_worker(victim)
            killed = perf_counter()
            await broker.worker_back(victim, kill + 2)
            away.append(perf_counter() - killed)
            for pair, begin in zip(others, begins, strict=True):
                rough += pair.latencies[begin:]
            await until(lambda: len(hit.received) > measured + 5)  # noqa: B023 - its agents have resumed
        for pair in others:
            assert pair.writer.state == pair.reader.state == "online"
        after = [(pair.writer.stats.connections, pair.reader.stats.connections) for pair in others]
        assert after == before, "an agent of another worker was disconnected"
        assert hit.writer.stats.reconnects >= kills
        print(
            f"calm: p90 {nine_in_ten(calm) * 1000:.1f} ms, max {max(calm) * 1000:.0f} ms; "
            f"with {kills} kills: p90 {nine_in_ten(rough) * 1000:.1f} ms, max {max(rough) * 1000:.0f} ms; "
            f"away {', '.join(f'{seconds:.1f}' for seconds in away)} s"
        )
        # A process that starts takes a processor for a second, so that others are slower on a machine of two. What must
        # not be is that anybody waits for the worker that is away.
        assert nine_in_ten(rough) <= 5 * nine_in_ten(calm) + 0.05
        assert max(rough) < max(1.0, min(away) / 2)
        await stack.aclose()
        for pair in (*others, hit):
            pair.check()
        await check_history(broker, hit)


async def gather(pairs: list[Pair], messages: int) -> list[list[float]]:
    return list(await asyncio.gather(*(pair.measure(messages) for pair in pairs)))


async def check_history(broker: WorkersProcess, pair: Pair) -> None:
    """What was confirmed is in the log, once."""
    found: list[int] = []
    async with httpx.AsyncClient(base_url=broker.base, timeout=20) as http:
        after = 0
        while True:
            page = (await http.get(f"/v1/topics/{pair.topic}/messages", params={"after": after, "limit": 1000})).json()
            found += [message["data"] for message in page["messages"]]
            if page["next"] == after or not page["messages"]:
                break
            after = page["next"]
    assert sorted(found) == list(range(len(found)))
    assert set(pair.confirmed) <= set(found)


@pytest.mark.slow
async def test_the_home_worker_dies_and_others_notice_nothing(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, HOME, kills=2)


@pytest.mark.slow
async def test_a_worker_that_hangs_stops_nobody_else(tmp_path: Path) -> None:
    """Its connections are open, and it answers nothing: what needs it is refused in time, the rest goes on."""
    async with workers_process(tmp_path / "data", 2, link_timeout=0.5) as broker, AsyncExitStack() as stack:
        home = worker_of("_hubbub", 16, 2)
        here, there = broker.group_of(home), broker.group_of(1 - home)
        both = await stack.enter_async_context(Agent("both", group=here, url=broker.url, local=False))
        await both.publish(f"{there}/t", 0)
        os.kill(broker.pids()[1 - home], signal.SIGSTOP)
        try:
            late = await both.submit(f"{there}/t", 1)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(home)}", timeout=30) as http:
                for n in range(20):
                    await asyncio.wait_for(both.publish(f"{here}/t", n), 20)
                answer = await http.post("/v1/publish", json={"topic": f"{there}/t", "data": 2})
                assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
                assert (await http.post("/v1/publish", json={"topic": f"{here}/t", "data": 2})).status_code == 200
                assert (await http.get("/v1/topics")).status_code == 503  # all of it or none
                assert (await http.get("/metrics")).status_code == 200
            async with Agent("new", group=here, url=own_ws(broker, home), local=False) as new:
                await asyncio.wait_for(new.publish(f"{here}/t", 3), 20)
            assert not late.done()
        finally:
            os.kill(broker.pids()[1 - home], signal.SIGCONT)
        assert (await asyncio.wait_for(late, 30)).seq == 2
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{broker.port_of(home)}", timeout=30) as http:
            answer = await http.post("/v1/publish", json={"topic": f"{there}/t", "data": 4})  # they are joined again
            assert answer.status_code == 200, answer.text


def own_ws(broker: WorkersProcess, worker: int) -> str:
    return f"ws://127.0.0.1:{broker.port_of(worker)}/v1/ws"


@pytest.mark.kill
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", range(WORKERS))
async def test_a_worker_dies_again_and_again_and_others_notice_nothing(tmp_path: Path, victim: int) -> None:
    await kill_again_and_again(tmp_path, victim, kills=10)
