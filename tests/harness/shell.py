"""The commands as a user runs them: processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

WAIT = 30.0
"""Seconds that any step may take on a busy machine."""


class Shell:
    """Runs `hubbub` against one broker, and leaves no process behind."""

    def __init__(self, url: str, home: Path) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")},
            "HUBBUB_URL": url,
            "HUBBUB_AGENT": "joe",
            "HOME": str(home),
            "PYTHONUNBUFFERED": "1",
        }
        self._started: list[Process] = []

    async def start(self, *arguments: str, **options: Any) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hubbub_broker",
            *arguments,
            env=self._environment,
            stdout=PIPE,
            stderr=PIPE,
            **options,
        )
        self._started.append(process)
        return process

    async def run(self, *arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        process = await self.start(*arguments, stdin=PIPE if stdin is not None else asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(WAIT):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        assert "Traceback" not in err.decode()
        return process.returncode, out.decode(), err.decode()

    async def end(self) -> None:
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]
