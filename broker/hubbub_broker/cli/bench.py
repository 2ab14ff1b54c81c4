"""`hubbub bench`: load on a broker, and what comes of it as figures."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .exit_code import ExitCode, Failure, ends_well
from .output import emit, note

_FOLDER = Path("hubbub-bench")


@ends_well
def bench(
    only: Annotated[list[str] | None, typer.Option(help="Only this scenario; may be given again.")] = None,
    scenario: Annotated[
        list[Path] | None, typer.Option(help="A scenario file instead of those that come along.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Length of each measured window.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Runs of each scenario; the median counts.")] = None,
    json: Annotated[Path, typer.Option(help="Where the figures go as JSON.")] = _FOLDER / "latest.json",
    url: Annotated[str | None, typer.Option(help="A broker that is running: ws://HOST:PORT.")] = None,
    pid: Annotated[int | None, typer.Option(help="With --url: its process, for processor time and memory.")] = None,
    plot: Annotated[Path | None, typer.Option(help="A folder for pictures (SVG) of latencies and throughput.")] = None,
    token: Annotated[
        str, typer.Option(help="With --url: a token, where the broker wants one.", envvar="HUBBUB_TOKEN")
    ] = "",
    agent: Annotated[str, typer.Option(help="With --token: the agent that it is for, if it is for one.")] = "",
    data_dir: Annotated[Path, typer.Option(help="Where brokers keep their data while they are measured.")] = _FOLDER,
    list_: Annotated[bool, typer.Option("--list", help="Say which scenarios there are.")] = False,
) -> None:
    """Measure a broker: start one for each run, or take one that is there; load it, check every message, print a table.

    Every message carries its number and its time. The exit code is 1 if one was lost, duplicated or out of order
    anywhere: a fast wrong answer is not a result.

    Examples:
      hubbub bench
      hubbub bench --list
      hubbub bench --only team-restless --plot pictures
      hubbub bench --only fan-out-durable --runs 5
      hubbub bench --scenario mine.toml --seconds 30 --json mine.json
      hubbub bench --url ws://127.0.0.1:8091 --pid 4711 --only latency-durable
    """
    try:
        from hubbub_bench.measuring import adjusted, choose, run
        from hubbub_bench.peers import Address, BadAddress
        from hubbub_bench.report.plot import plot as pictures
        from hubbub_bench.report.table import render
        from hubbub_bench.runner import Runner
        from hubbub_bench.scenario import BadScenario
    except ModuleNotFoundError as missing:
        raise Failure(f"measuring needs {missing.name}: pip install 'hubbub[bench]'") from None

    try:
        chosen = [adjusted(one, seconds, runs) for one in choose(only or [], scenario or [])]
        address = replace(Address.parse(url), token=token, agent=agent) if url is not None else None
    except (BadScenario, BadAddress) as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    if list_:
        for one in chosen:
            emit(f"{one.name:24} {one.title}")
        return
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # brokers and directories go first
    data_dir.mkdir(parents=True, exist_ok=True)
    json.parent.mkdir(parents=True, exist_ok=True)
    report = run(chosen, Runner(data_dir, address, pid))
    json.write_bytes(report.json())
    emit(render(report))
    note(f"All of it: {json}")
    if plot is not None:
        for path in pictures(report, plot):
            note(f"Picture: {path}")
    if not report.good:
        raise typer.Exit(ExitCode.FAILED)
