"""A broker of several workers, in processes that can be killed one by one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from harness.broker import BrokerProcess, free_port
from harness.until import until
from hubbub_protocol.routing import worker_of

START_SECONDS = 40.0
"""How long all workers may take to serve, on a machine that is busy."""

SHARDS = 16


class WorkersProcess(BrokerProcess):
    """A supervisor and its workers."""

    def __init__(self, directory: Path, workers: int, verify: ssl.SSLContext | None = None, **settings: Any) -> None:
        super().__init__(directory, workers=workers, log_format="json", **{"shards": SHARDS, **settings})
        self._verify: ssl.SSLContext | bool = True if verify is None else verify
        self.workers = workers
        self.port = _free_ports(workers + 1)
        secure = "" if verify is None else "s"
        self.url = f"ws{secure}://127.0.0.1:{self.port}/v1/ws"
        self.base = f"http{secure}://127.0.0.1:{self.port}"

    async def wait_ready(self) -> None:
        """Wait until every worker serves, and reaches the others."""
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(verify=self._verify) as http:
            while True:
                assert self._process is not None
                assert self._process.poll() is None, f"the broker ended: {self.log.read_text()[-3000:]}"
                if self.workers == 1 or len(self.pids()) == self.workers:
                    with suppress(httpx.ConnectError):
                        answer = await http.get(f"{self.base}/v1/ready", timeout=START_SECONDS)
                        if answer.status_code == 200:
                            return
                await asyncio.sleep(0.05)  # there is no event to wait for: the processes are not ours

    async def ended(self) -> int:
        """Wait until the supervisor ends by itself; its exit code."""
        process = self._process
        assert process is not None
        await until(lambda: process.poll() is not None, seconds=START_SECONDS)
        self._process = None
        return process.returncode

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event, since the supervisor was started last."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        starts = [place for place, line in enumerate(found) if line["event"] == "supervising"]
        return [line for line in found[starts[-1] if starts else 0 :] if line["event"] == event]

    def pids(self) -> dict[int, int]:
        """The newest process of each worker that has ever served."""
        return {line["worker"]: line["process"] for line in self.lines("worker serves")}

    def starts_of(self, worker: int) -> int:
        """How often a worker has begun to serve."""
        return sum(line["worker"] == worker for line in self.lines("worker serves"))

    def kill_worker(self, worker: int) -> None:
        """SIGKILL one of them."""
        os.kill(self.pids()[worker], signal.SIGKILL)

    async def worker_back(self, worker: int, starts: int) -> None:
        """Wait until it has begun to serve so many times."""
        await until(lambda: self.starts_of(worker) >= starts, seconds=START_SECONDS)

    def port_of(self, worker: int) -> int:
        """A worker's own port."""
        return self.port + 1 + worker

    def group_of(self, worker: int, name: str = "g") -> str:
        """A group that a worker owns."""
        return next(
            group for number in range(1000) if worker_of(group := f"{name}{number}", SHARDS, self.workers) == worker
        )


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on now."""
    while True:
        first = free_port()
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return first


@asynccontextmanager
async def workers_process(directory: Path, workers: int, **settings: Any) -> AsyncIterator[WorkersProcess]:
    """A running broker of several workers, ended with the block however that ends."""
    broker = WorkersProcess(directory, workers, **settings)
    broker.start()
    try:
        await broker.wait_ready()
        yield broker
    finally:
        pids = broker.pids().values()
        broker.kill()
        for pid in pids:  # they end by themselves, when they see that the supervisor is gone
            await until(partial(is_gone, pid), seconds=START_SECONDS)


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
