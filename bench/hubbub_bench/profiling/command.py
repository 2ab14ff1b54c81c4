"""`python -m hubbub_bench profile`: where the microseconds go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from hubbub_bench.documents import write_part
from hubbub_bench.loops import event_loop
from hubbub_bench.report import Machine
from hubbub_bench.scenario import FOLDER, ClosedLoop, OpenLoop, load
from hubbub_protocol import __version__

from .page import page
from .run import NoProfiler, find
from .run import profile as run_profiled

SCENARIOS = ("publish-64", "topics-durable", "topics-ephemeral", "fan-out-ephemeral", "latency-durable")


def profile(
    only: Annotated[list[str] | None, typer.Option(help="Only this scenario; may be given again.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each is watched.")] = 6.0,
    folder: Annotated[Path, typer.Option(help="Where brokers keep their data meanwhile.")] = Path("bench/results"),
    part: Annotated[str, typer.Option(help="Which part of the page is written: `now` or `before`.")] = "now",
    write: Annotated[Path | None, typer.Option(help="The project's folder: write the tables there.")] = None,
) -> None:
    """Look 400 times a second what a broker is doing while it is under load, and say where its time goes."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        find()
        profiles = []
        for name in only or SCENARIOS:
            scenario = load(FOLDER / f"{name}.toml")
            if not isinstance(scenario, ClosedLoop | OpenLoop):
                raise NoProfiler(f"{name} can't be profiled: it is neither a closed nor an open loop")
            profiles.append(run_profiled(msgspec.structs.replace(scenario, seconds=seconds), folder))
    except NoProfiler as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from None
    at = datetime.now(UTC).strftime("%Y-%m-%d")
    text = page(profiles, __version__, at, str(Machine.here(folder, event_loop()[0])))
    typer.echo(text)
    if write is not None and not only:
        write_part(write / "docs" / "performance.md", f"profile-{part}", text)
