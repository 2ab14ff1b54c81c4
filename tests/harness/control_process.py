"""A control plane in a process of its own, which a test may kill and start again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from harness.broker import free_port

READY_SECONDS = 30.0
"""How long it may take until it is ready, or is not any more."""


class ControlProcess:
    """`hubbub serve --role control` for the broker at `url`, and its HTTP side."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.port = free_port()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self._url = url
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait_ready` tells when it is connected."""
        environment = {**os.environ, **{f"HUBBUB_{name.upper()}": str(value) for name, value in self._settings.items()}}
        command = [sys.executable, "-m", "hubbub_broker", "serve", "--role", "control", "--broker", self._url]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    async def wait_ready(self, status: int = 200) -> None:
        """Wait until its readiness has that status."""
        async with asyncio.timeout(READY_SECONDS):
            while await self._ready() != status:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def _ready(self) -> int:
        try:
            return (await self.http.get("/v1/ready")).status_code
        except httpx.TransportError:
            return 0

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(timeout=30)


@asynccontextmanager
async def control_process(url: str, **settings: Any) -> AsyncIterator[ControlProcess]:
    """A running control plane, ended with the block however that ends."""
    control = ControlProcess(url, **settings)
    control.start()
    try:
        await control.wait_ready()
        yield control
    finally:
        control.kill()
        await control.http.aclose()
