"""`python -m hubbub_bench peers`: Hubbub beside its peers."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from hubbub_bench.documents import write_part
from hubbub_bench.loops import event_loop
from hubbub_bench.report import Machine
from hubbub_bench.runner import raise_file_limit

from . import driver as external
from .bout import Ring
from .page import as_json, page, summary
from .server import NotThere
from .work import BadWork, load_all

FILES = 20_000


def peers(
    driver: Annotated[
        Path | None, typer.Option(help=f"The program that makes the load; or {external.VARIABLE}.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this work; may be given again.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each measured window.")] = 1.5,
    warmup: Annotated[float, typer.Option(min=0.0, help="Seconds under load before it.")] = 0.4,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each side; the median counts.")] = 5,
    folder: Annotated[Path, typer.Option(help="Where servers keep their data meanwhile, and the figures go.")] = Path(
        "bench/results"
    ),
    write: Annotated[Path | None, typer.Option(help="The project's folder: write its tables there.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what work there is.")] = False,
) -> None:
    """Let Hubbub and its peers do the same work in turns, and print the ratios."""
    try:
        works = [work for work in load_all() if not only or work.name in only]
        if list_:
            for work in works:
                typer.echo(f"{work.name:20} {work.title}")
            return
        if any(work.kind == "driver" for work in works):
            external.find(driver)
    except (BadWork, NotThere) as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    folder.mkdir(parents=True, exist_ok=True)
    raise_file_limit(FILES)
    at = datetime.now(UTC).strftime("%Y-%m-%d")
    machine = Machine.here(folder, event_loop()[0])
    ring = Ring(driver, folder, seconds=seconds, warmup=warmup, runs=runs)
    bouts = [ring.hold(work, lambda text: print(text, file=sys.stderr, flush=True)) for work in works]
    how = f"Median of {runs} runs of {seconds:g} s in turns, a server on an empty directory for each."
    text = page(bouts, machine, at, how)
    (folder / "peers.json").write_bytes(msgspec.json.format(msgspec.json.encode(as_json(bouts)), indent=1))
    typer.echo(text)
    ours = all(bout.standings[0].runs for bout in bouts)
    if write is not None and ours and not only:  # a part of the table would stand for the whole
        write_part(write / "docs" / "benchmarks.md", "peers", text)
        write_part(write / "README.md", "marks", summary(bouts, machine, at))
    if any(standing.failed for bout in bouts for standing in bout.standings):
        raise typer.Exit(1)
