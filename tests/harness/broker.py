"""Brokers for tests: one inside the test's own process, and one in a process that can be killed."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.server import Companion, Server

START_SECONDS = 20.0
"""How long a broker process may take to accept connections."""

_AHEAD = """
import runpy, time
now = time.time
time.time = lambda: now() + {}
runpy.run_module("hubbub_broker", run_name="__main__")
"""


def url_of(server: Server) -> str:
    """The WebSocket address of a broker in this process."""
    return f"ws://127.0.0.1:{server.port}/v1/ws"


@asynccontextmanager
async def serving(
    directory: Path, companion: Callable[[Settings], Companion] | None = None, **settings: Any
) -> AsyncIterator[Server]:
    """A broker in this process, on a free port; with what `companion` makes beside it."""
    values: dict[str, Any] = {"port": 0, "data_dir": directory, "shards": 2, "reconnect_spread": 0, "shutdown_grace": 1}
    checked = Settings(**{**values, **settings})
    async with Server(checked, None if companion is None else companion(checked)) as server:
        yield server


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class BrokerProcess:
    """A broker in a process of its own, which a test may kill and start again on the same port and directory."""

    def __init__(
        self, directory: Path, ahead: float = 0.0, files: tuple[int, int] | None = None, **settings: Any
    ) -> None:
        """Its clock is that many seconds `ahead`; it may open so many `files`: at first, and if it asks for more."""
        self._files = files
        self.directory = directory
        self._program = ["-m", "hubbub_broker"] if not ahead else ["-c", _AHEAD.format(ahead)]
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/v1/ws"
        self.starts = 0
        self._settings = {"reconnect_spread": 0, "shards": 2, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory.with_suffix(".log")

    def start(self) -> None:
        """Start it; `wait_ready` tells when it listens."""
        assert self._process is None
        self.starts += 1
        environment = {**os.environ, **{f"HUBBUB_{name.upper()}": str(value) for name, value in self._settings.items()}}
        command = [sys.executable, *self._program, "serve", "--data-dir", str(self.directory)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if self._files is not None:  # it is not yet done with starting Python
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, self._files)

    async def wait_ready(self) -> None:
        """Wait until it accepts connections."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self._process is not None
                assert self._process.poll() is None, f"the broker ended: {self.log.read_text()[-2000:]}"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.01)  # there is no event to wait for: the port is not ours
                    continue
                writer.close()
                return

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has ended by itself. The exit code."""
        process, self._process = self._process, None
        return 0 if process is None else process.wait(timeout=30)

    def _end(self, number: signal.Signals) -> int:
        if self._process is not None:
            self._process.send_signal(number)
        return self.wait()

    @property
    def pid(self) -> int:
        """The process that is running now."""
        assert self._process is not None
        return self._process.pid


@asynccontextmanager
async def broker_process(directory: Path, **settings: Any) -> AsyncIterator[BrokerProcess]:
    """A running broker process, ended with the block however that ends."""
    broker = BrokerProcess(directory, **settings)
    broker.start()
    try:
        await broker.wait_ready()
        yield broker
    finally:
        broker.kill()
