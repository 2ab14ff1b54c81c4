"""`python -m hubbub_bench growth`: cost as topics, connections and history grow."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from hubbub_bench.documents import write_part
from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.loops import event_loop
from hubbub_bench.peers import PeerError
from hubbub_bench.report import Machine
from hubbub_bench.runner import NotHere

from . import points
from .page import draw, page


def growth(
    most_topics: Annotated[int, typer.Option(min=0, help="Go no further; 0 leaves topics out.")] = max(points.TOPICS),
    most_connections: Annotated[int, typer.Option(min=0, help="Likewise connections.")] = max(points.CONNECTIONS),
    most_history: Annotated[int, typer.Option(min=0, help="Likewise messages of history.")] = max(points.HISTORY),
    folder: Annotated[Path, typer.Option(help="Where brokers keep their data meanwhile, and the figures go.")] = Path(
        "bench/results"
    ),
    write: Annotated[Path | None, typer.Option(help="The project's folder: write tables and pictures there.")] = None,
) -> None:
    """Measure what a message costs at sizes ten times apart, what a start takes and what the broker holds."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = Machine.here(folder, event_loop()[0])
    at = datetime.now(UTC).strftime("%Y-%m-%d")
    try:
        topics = points.by_topics(folder, [size for size in points.TOPICS if size <= most_topics], _tell)
        connections = points.by_connections(
            folder, [size for size in points.CONNECTIONS if size <= most_connections], _tell
        )
        history = points.by_history(folder, [size for size in points.HISTORY if size <= most_history], _tell)
    except (DriverError, NotHere, PeerError) as error:
        _tell(str(error))
        raise typer.Exit(1) from None
    found = {"topics": topics, "connections": connections, "history": history}
    (folder / "growth.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    text = page(topics, connections, history, machine, at)
    typer.echo(text)
    if write is not None:
        draw(topics, connections, history, write / "docs" / "pictures")
        write_part(write / "docs" / "benchmarks.md", "growth", text)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
