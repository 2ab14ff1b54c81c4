"""A pair of well-behaved clients that measure what others' misbehaviour does to them.

They are a process of their own, so that what a test does to a broker does not slow them down by itself. What it does to
the machine does: so they ask two brokers in turn, the one that is misused and one that nobody else uses, and every
figure is compared with one that was taken a moment before, on as busy a machine.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.broker import BrokerProcess
from harness.wire import WireClient, wire_client

TOPIC = "quiet/street"
PAUSE = 0.002
"""Seconds between two probes: they are not to be a load themselves."""
PATIENCE = 30.0
Limits = tuple[tuple[float, float, float], ...]
"""For each quantile what it may be more than at the quiet broker, as a factor and in seconds."""
UNCHANGED: Limits = ((0.5, 2.0, 0.01), (0.9, 3.0, 0.02))
BUSY: Limits = ((0.5, 3.0, 0.03), (0.9, 4.0, 0.1))
"""The broker's loop has the attack in it, all the time, be it that all of it is refused."""
PROBES_LEAST = 40
"""So many make a distribution that can be compared."""


class Probe(NamedTuple):
    """How long a message took, in seconds."""

    here: float
    """At the broker that is misused."""
    quiet: float
    """At the other one, a moment later."""


class Neighbours:
    """Joe says something to ann, and waits until she has heard it and he has his `ok`, again and again."""

    def __init__(self, broker: BrokerProcess, quiet: BrokerProcess) -> None:
        path = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
        self._broker = psutil.Process(broker.pid)
        self._process = subprocess.Popen(
            [sys.executable, __file__, broker.url, quiet.url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        self._latencies: list[Probe] = []
        self._ended = False
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break  # it was stopped in the middle of one
            with self._came:
                self._latencies.append(Probe(*map(float, line.split())))
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def _wait(self, count: int) -> None:
        with self._came:
            enough = self._came.wait_for(lambda: self._ended or len(self._latencies) >= count, PATIENCE)
        assert not self._ended, "the neighbours had a wrong answer, and left"
        assert enough, f"the neighbours heard nothing for {PATIENCE} s"

    async def measure(self, probes: int) -> list[Probe]:
        """Seconds from his publish to her message, the next so many times."""
        start = len(self._latencies)
        await asyncio.to_thread(self._wait, start + probes)
        return self._latencies[start:]

    async def beside(self, work: Awaitable[object]) -> list[Probe]:
        """Measure for as long as that takes, and often enough to compare it."""
        start = len(self._latencies)
        task = asyncio.ensure_future(work)
        await self.measure(PROBES_LEAST)
        await task
        await self.measure(1)
        return self._latencies[start:]

    def stop(self) -> None:
        """They move out."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def memory(self) -> int:
        """Bytes that the broker has in memory."""
        size: int = self._broker.memory_info().rss
        return size

    @staticmethod
    def compare(probes: list[Probe], limits: Limits = UNCHANGED) -> None:
        """Assert that nobody would have noticed."""
        assert len(probes) >= PROBES_LEAST
        here, quiet = sorted(probe.here for probe in probes), sorted(probe.quiet for probe in probes)
        for quantile, factor, slack in limits:
            place = int(quantile * len(probes))
            assert here[place] < factor * quiet[place] + slack, (quantile, here[place], quiet[place], len(probes))


@contextmanager
def neighbours(broker: BrokerProcess) -> Iterator[Neighbours]:
    """A pair at work, and the broker that they compare with."""
    quiet = BrokerProcess(broker.directory.with_name(f"{broker.directory.name}-quiet"))
    quiet.start()
    try:
        pair = Neighbours(broker, quiet)
        try:
            yield pair
        finally:
            pair.stop()
    finally:
        quiet.kill()


class _Street:
    """Joe and ann at one broker."""

    def __init__(self, joe: WireClient, ann: WireClient) -> None:
        self._joe = joe
        self._ann = ann
        self._seq = 0

    async def begin(self) -> None:
        self._seq = (await self._ann.sub(TOPIC))["head"]
        await self._ann.expect("live")

    async def probe(self) -> float:
        self._seq += 1
        sent = time.perf_counter()
        await self._joe.send("pub", topic=TOPIC, id=f"p{self._seq}", data=self._seq)
        await self._ann.expect("msg", seq=self._seq, data=self._seq)
        took = time.perf_counter() - sent
        await self._joe.expect("ok", seq=self._seq)
        return took


async def _probe(urls: list[str]) -> None:
    async with AsyncExitStack() as stack:
        streets = []
        for url in urls:
            joe = await stack.enter_async_context(_at(url, "joe"))
            streets.append(_Street(joe, await stack.enter_async_context(_at(url, "ann"))))
            await streets[-1].begin()
        while True:
            print(*[await street.probe() for street in streets], flush=True)
            await asyncio.sleep(PAUSE)


@asynccontextmanager
async def _at(url: str, name: str) -> AsyncIterator[WireClient]:
    """A client, as soon as its broker listens."""
    while True:
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(wire_client(url, name))
            except OSError:
                await asyncio.sleep(0.05)  # there is no event to wait for: the port is another process's
                continue
            yield client
            return


if __name__ == "__main__":
    asyncio.run(_probe(sys.argv[1:]))
