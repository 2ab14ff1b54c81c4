"""The program that puts the load on all of them alike.

It is not part of Hubbub: any program will do that takes these flags and prints one JSON object of figures as its last
line. bench/README.md lists them.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .server import NotThere, Running

VARIABLE = "HUBBUB_BENCH_DRIVER"
PATIENCE = 240.0
"""Seconds for one run, at most."""


class DriverFailed(Exception):
    """A run came to nothing; the message says why."""


def find(path: Path | None) -> Path:
    """The driver: as given, or as the environment says.

    Raises:
        NotThere: if there is none.
    """
    named = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        raise NotThere(f"the peers are measured by a driver that speaks to all of them: --driver PATH, or {VARIABLE}")
    if not os.access(named, os.X_OK):
        raise NotThere(f"{named}: the driver is no program that can be run")
    return named.resolve()


def run(driver: Path, server: Running, flags: Sequence[str]) -> dict[str, Any]:
    """Let it work, and return its report.

    Raises:
        DriverFailed: if it fails, or says that anything was lost, duplicated or out of order.
    """
    command = [str(driver), *server.flags, "--port", str(server.port), "--server-pid", str(server.pid), *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise DriverFailed(f"not done in {PATIENCE:.0f} s: {shlex.join(command)}") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise DriverFailed(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return checked(msgspec.json.decode(lines[-1]))


def checked(report: dict[str, Any]) -> dict[str, Any]:
    """The report, if it is of a run in which nothing went wrong.

    Raises:
        DriverFailed: else.
    """
    wrong = {name: report[name] for name in ("missing", "dup", "ooo", "stray", "errors", "lost") if report.get(name)}
    if wrong or report.get("ok") is False:
        raise DriverFailed(f"the count is wrong: {wrong or 'not ok'} {report.get('first_error', '')}".strip())
    return report


def value(report: Mapping[str, Any], key: str) -> float:
    """A figure of a report.

    Raises:
        DriverFailed: if it has none of that name.
    """
    found: Any = report
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, int | float):
        raise DriverFailed(f"the driver's report has no {key}")
    return float(found)
