"""The clients for Python: one agent publishing in pipelined form, and one receiving, through each server's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from .driver import PATIENCE, DriverFailed
from .server import Running


def run(rival: str, server: Running, flags: list[str]) -> dict[str, Any]:
    """A client in a process of its own: `published_per_s` and `received_per_s`.

    Raises:
        DriverFailed: if it fails, or not everything came once and in order.
    """
    token = ""
    if "--tokens" in server.flags:
        token = Path(server.flags[server.flags.index("--tokens") + 1]).read_text(encoding="utf-8").split("\n", 1)[0]
    command = [sys.executable, "-m", f"hubbub_bench.rivals.{rival}_client", str(server.port), *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, input=token)
    except subprocess.TimeoutExpired:
        raise DriverFailed(f"the client was not done in {PATIENCE:.0f} s") from None
    if done.returncode:
        raise DriverFailed(f"the client failed: {done.stderr.strip()[-300:]}")
    report: dict[str, Any] = msgspec.json.decode(done.stdout)
    return report
