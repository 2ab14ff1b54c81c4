"""`python bench`: which scenarios, how long, on what, and where the figures go."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from hubbub_protocol import __version__

from .drivers.connection import DriverError
from .peers import Address, BadAddress, PeerError
from .report import Machine, Report, Result
from .report.table import number, render
from .runner import NotHere, Runner
from .scenario import BadScenario, ClosedLoop, OpenLoop, Scenario, load, load_all

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command. SIGTERM ends it as Ctrl-C does: the broker is stopped and its directory removed."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app()


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(help="Only this scenario; may be given again.")] = None,
    scenario: Annotated[
        list[Path] | None, typer.Option(help="A scenario file instead of those that come along.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Length of each measured window.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Runs of each scenario; the median counts.")] = None,
    json: Annotated[Path, typer.Option(help="Where the figures go as JSON.")] = RESULTS / "latest.json",
    url: Annotated[str | None, typer.Option(help="A broker that is running: ws://HOST:PORT.")] = None,
    pid: Annotated[int | None, typer.Option(help="With --url: its process, for processor time and memory.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where brokers keep their data while they are measured.")] = RESULTS,
    list_: Annotated[bool, typer.Option("--list", help="Say which scenarios there are.")] = False,
) -> None:
    """Measure a Hubbub broker on this machine: start one for each run, load it, and print what came of it.

    Exits with 1 if a message was lost, duplicated or out of order anywhere, 2 if something was asked for that can't be.

    Examples:
      python bench
      python bench --only fan-out-durable --runs 5
      python bench --url ws://127.0.0.1:8091 --only latency-durable --seconds 30
    """
    try:
        chosen = [_adjusted(one, seconds, runs) for one in _choose(only or [], scenario or [])]
        address = Address.parse(url) if url is not None else None
    except (BadScenario, BadAddress) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    if list_:
        for one in chosen:
            typer.echo(f"{one.name:24} {one.title}")
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    json.parent.mkdir(parents=True, exist_ok=True)
    report = _run(chosen, Runner(data_dir, address, pid))
    json.write_bytes(report.json())
    typer.echo(render(report))
    typer.echo(f"All of it: {json}", err=True)
    if not report.good:
        raise typer.Exit(1)


def _choose(only: list[str], files: list[Path]) -> list[Scenario]:
    there = [load(path) for path in files] or load_all()
    unknown = set(only) - {one.name for one in there}
    if unknown:
        raise BadScenario(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in there)}")
    return [one for one in there if not only or one.name in only]


def _adjusted(scenario: Scenario, seconds: float | None, runs: int | None) -> Scenario:
    changes: dict[str, float] = {}
    if seconds is not None and isinstance(scenario, ClosedLoop | OpenLoop):
        changes["seconds"] = seconds
    if runs is not None:
        changes["runs"] = runs
    return msgspec.structs.replace(scenario, **changes)


def _run(scenarios: list[Scenario], runner: Runner) -> Report:
    loop_name, new_loop = _event_loop()
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
        async for run in runner.runs(scenario):
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


def _event_loop() -> tuple[str, type[asyncio.AbstractEventLoop] | None]:
    try:
        import uvloop  # noqa: PLC0415 - where there is none, the driver runs on asyncio's own, and says so
    except ImportError:
        return "asyncio", None
    return f"uvloop {version('uvloop')}", uvloop.Loop
