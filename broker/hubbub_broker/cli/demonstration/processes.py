"""Processes that end with this one."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from hubbub_broker.cli.exit_code import Failure

END_SECONDS = 10.0
"""How long a process may take to end when it is told to, before it is killed."""

LINE_BYTES_MAX = 1 << 20

LOG_TAIL_CHARS = 1500


class Child:
    """A Python module in a process of its own, held by a pipe to its stdin.

    It is in a session of its own, so that Ctrl-C in the terminal reaches only whoever started it.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(cls, name: str, module: str, *arguments: str, log: Path) -> "Child":
        """Start `module`; what it says on stderr is appended to `log`."""
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env=environment(),
                limit=LINE_BYTES_MAX,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    def tell(self, order: str) -> None:
        """Write one line to its stdin."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            self.process.stdin.write(order.encode() + b"\n")

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL if it takes too long. Returns the exit code. Idempotent."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self.kill()
            return await self.process.wait()

    def failure(self) -> Failure:
        """Why it ended, from its own log."""
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()
        return Failure(f"{self.name} ended with code {self.process.returncode}; the end of its log:\n{tail}")


def environment() -> dict[str, str]:
    """The environment without settings for other brokers, and without a proxy on the way to this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
