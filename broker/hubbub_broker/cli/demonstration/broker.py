"""The broker of the demonstration: a process of its own that is killed, and started again on what it left."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from hubbub_broker.cli.exit_code import Failure

from .clock import now
from .processes import Child

START_SECONDS = 30.0
"""How long a broker may take until it listens."""

POLL_SECONDS = 0.01

PORTS = range(18_000, 29_000)
"""Below the ports that systems give to outgoing connections (from 32768 on Linux, 49152 elsewhere): while the broker is
away nobody else, an agent that tries to reach it included, may be given its port."""

PORTS_TRIED = 10

TETHER = "hubbub_broker.cli.demonstration.tether"


class Broker:
    """A broker on a data directory, on a port of its own."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.port = 0
        self.killed_at: float | None = None
        self.up_at = 0.0
        """When it listened last."""
        self._directory = directory
        self._log = log
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where agents reach it."""
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it on a free port, and wait until it listens.

        Raises:
            Failure: if it does not.
        """
        for port in free_ports():
            self.port = port
            try:
                await self.start_again()
            except PortTaken:  # by someone who was quicker
                continue
            return
        raise Failure(f"no free port found between {PORTS.start} and {PORTS.stop}")

    async def start_again(self) -> None:
        """Start it on the port that it had, and wait until it listens.

        Raises:
            Failure: if it does not.
        """
        begin = self._log.stat().st_size if self._log.exists() else 0
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self._directory)]
        self._child = await Child.start(
            "the broker", TETHER, "serve", *options, "--log-format", "json", "--log-level", "info", log=self._log
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._serving(self._child, begin)
        except TimeoutError:
            raise Failure(f"the broker does not listen after {START_SECONDS:g} s; see {self._log}") from None
        self.up_at = now()

    async def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        assert self._child is not None
        self.killed_at = now()
        self._child.kill()
        await self._child.process.wait()

    async def stop(self) -> int:
        """Stop it in order, if it runs; its exit code. Idempotent."""
        return 0 if self._child is None else await self._child.stop()

    async def _serving(self, child: Child, begin: int) -> None:
        """Wait until it says itself that it serves: whoever answers at the port may be another's broker."""
        while not says_serving(self._log_since(begin)):
            if not child.running:
                taken = "Address already in use" in self._log_since(begin)
                raise PortTaken(str(child.failure())) if taken else child.failure()
            await asyncio.sleep(POLL_SECONDS)

    def _log_since(self, begin: int) -> str:
        with self._log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace")


class PortTaken(Failure):
    """Another process listens on the port."""


def says_serving(log: str) -> bool:
    """Whether a broker's log (JSON lines, the last one perhaps not whole yet) has the line that it serves."""
    for line in log.split("\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "serving":
            return True
    return False


def free_ports() -> Iterator[int]:
    """Some ports on which nobody listens now. Not by the seed of the run: two demonstrations at a time would pick the
    same one, and hear one another's agents.
    """
    found = 0
    for port in random.SystemRandom().sample(PORTS, 500):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
        found += 1
        if found == PORTS_TRIED:
            return
