"""A pair of well-behaved clients that measure what others' misbehaviour does to them.

They are a process of their own, so that what a test does to a broker does not slow them down by itself.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from harness.broker import BrokerProcess
from harness.wire import wire_client

TOPIC = "quiet/street"
PAUSE = 0.002
"""Seconds between two probes: they are not to be a load themselves."""
PATIENCE = 30.0
FACTOR, SLACK = 5.0, 0.02
"""What a median may rise by, as a factor and in seconds: the processor is shared with the attack itself."""


class Neighbours:
    """Joe says something to ann, and waits until she has heard it and he has his `ok`, again and again."""

    def __init__(self, broker: BrokerProcess) -> None:
        path = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
        self._broker = psutil.Process(broker.pid)
        self._process = subprocess.Popen(
            [sys.executable, __file__, broker.url],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        self._latencies: list[float] = []
        self._ended = False
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._came:
                self._latencies.append(float(line))
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def _wait(self, count: int) -> None:
        with self._came:
            enough = self._came.wait_for(lambda: self._ended or len(self._latencies) >= count, PATIENCE)
        assert not self._ended, "the neighbours had a wrong answer, and left"
        assert enough, f"the neighbours heard nothing for {PATIENCE} s"

    async def measure(self, probes: int) -> list[float]:
        """Seconds from his publish to her message, the next so many times."""
        start = len(self._latencies)
        await asyncio.to_thread(self._wait, start + probes)
        return self._latencies[start:]

    async def beside(self, work: Awaitable[object]) -> list[float]:
        """Measure for as long as that takes, and 20 times at least."""
        start = len(self._latencies)
        task = asyncio.ensure_future(work)
        await self.measure(20)
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
    def compare(before: list[float], after: list[float]) -> None:
        """Assert that nobody would have noticed."""
        assert median(after) < FACTOR * median(before) + SLACK, (median(before), median(after), max(after))


@contextmanager
def neighbours(broker: BrokerProcess) -> Iterator[Neighbours]:
    """A pair at work."""
    pair = Neighbours(broker)
    try:
        yield pair
    finally:
        pair.stop()


async def _probe(url: str) -> None:
    async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
        seq = (await ann.sub(TOPIC))["head"]
        await ann.expect("live")
        while True:
            seq += 1
            sent = time.perf_counter()
            await joe.send("pub", topic=TOPIC, id=f"p{seq}", data=seq)
            await ann.expect("msg", seq=seq, data=seq)
            took = time.perf_counter() - sent
            await joe.expect("ok", seq=seq)
            print(took, flush=True)
            await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    asyncio.run(_probe(sys.argv[1]))
