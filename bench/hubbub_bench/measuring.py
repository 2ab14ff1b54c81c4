"""A go: scenarios one after the other, and what came of them as a report."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hubbub_protocol import __version__

from .drivers.connection import DriverError
from .loops import event_loop
from .peers import PeerError
from .report import Machine, Report, Result
from .report.table import number
from .runner import NotHere, Runner
from .scenario import BadScenario, Scenario, Timed, load, load_all


def choose(only: list[str], files: list[Path]) -> list[Scenario]:
    """The scenarios in `files`, or else those that come along; of them those that are named, if any are.

    Raises:
        BadScenario: if a file can't be used, or there is none of that name.
    """
    there = [load(path) for path in files] or load_all(pattern="**/*.toml" if only else "*.toml")
    unknown = set(only) - {one.name for one in there}
    if unknown:
        raise BadScenario(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in there)}")
    return [one for one in there if not only or one.name in only]


def adjusted(scenario: Scenario, seconds: float | None, runs: int | None) -> Scenario:
    """The scenario with another length of its measured window, or number of runs."""
    changes: dict[str, float] = {}
    if seconds is not None and isinstance(scenario, Timed):
        changes["seconds"] = seconds
    if runs is not None:
        changes["runs"] = runs
    return msgspec.structs.replace(scenario, **changes)


def run(scenarios: list[Scenario], runner: Runner) -> Report:
    """Measure all of them, in order. Progress goes to stderr."""
    loop_name, new_loop = event_loop()
    machine = Machine.here(runner.folder, loop_name)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    results = []
    for scenario in scenarios:
        with asyncio.Runner(loop_factory=new_loop) as loop:
            results.append(loop.run(_measure(runner, scenario)))
    return Report(__version__, at, machine, results)


async def _measure(runner: Runner, scenario: Scenario) -> Result:
    result = Result(scenario)
    try:
        async for run in runner.runs(scenario, lambda text: _progress(scenario, text)):
            result.runs.append(run)
            first = run.readings[0]
            _progress(
                scenario, f"run {len(result.runs)}/{scenario.runs}: {first.name} {number(first.value, first.unit)}"
            )
            if not run.verdict.good:
                _progress(scenario, str(run.verdict))
    except NotHere as reason:
        result.skipped = str(reason)
        _progress(scenario, f"not measured: {reason}")
    except (DriverError, PeerError) as error:
        result.failed = str(error)
        _progress(scenario, f"failed: {error}")
    return result


def _progress(scenario: Scenario, text: str) -> None:
    print(f"{scenario.name:24} {text}", file=sys.stderr, flush=True)
