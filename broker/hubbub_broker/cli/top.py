"""`hubbub top`: the slowest consumers and agents, live."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exit_code import ends_well
from .http import get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url
from .output import colourful, emit
from .when import ago, lasting

if TYPE_CHECKING:
    from rich.console import RenderableType

Sample = dict[str, Any]

_STYLES = {"deaf": "bold red", "slow": "yellow", "gone": "red", "busy": "cyan", "working": "green", "idle": "dim"}

PIPED_WIDTH = 160
"""Columns where there is no terminal to ask: enough for every column whole."""


@ends_well
def top(
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.1, help="Seconds between two looks.")] = 1.0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Consumers, and agents, at most.")] = 20,
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, print that, and end.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show who is behind and who is slow: consumers and agents with their rates and times, as they change.

    Those come first that need a look: consumers that are furthest behind; agents that are deaf (connected, but take
    nothing), slow (late with a message, or much slower than the others), gone (were here within the hour), busy (say
    that they are at work). Times are of the newest messages: wait is from sequenced to sent, work from sent to acked.

    Examples:
      hubbub top
      hubbub top --once --json | jq '.agents[] | select(.state == "slow") | .agent'
    """
    before = get(url, "/v1/top", {"limit": limit}, timeout, token)
    if once or as_json or not sys.stdout.isatty():
        while True:
            time.sleep(interval)
            sample = get(url, "/v1/top", {"limit": limit}, timeout, token)
            _print(with_rates(before, sample), as_json)
            before = sample
            if once:
                return
    _live(before, interval, limit, url, token, timeout)


def with_rates(before: Sample, now: Sample) -> Sample:
    """A sample with `rate`: messages a second that each acked since the one before; null for who was not in that."""
    seconds = now["now"] - before["now"]
    return {
        **now,
        "consumers": [
            {**row, "rate": _rate(row, before["consumers"], ("topic", "name"), seconds)} for row in now["consumers"]
        ],
        "agents": [
            {**row, "rate": _rate(row, before["agents"], ("agent", "consumer", "topic"), seconds)}
            for row in now["agents"]
        ],
    }


def _rate(row: Sample, earlier: list[Sample], key: tuple[str, ...], seconds: float) -> float | None:
    for other in earlier:
        if all(other[name] == row[name] for name in key):
            return max(0.0, (row["acked"] - other["acked"]) / seconds) if seconds > 0 else None
    return None


def _print(sample: Sample, as_json: bool) -> None:
    if as_json:
        emit(json.dumps(sample))
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(file=sys.stdout, width=width, no_color=not colourful(sys.stdout)).print(render(sample))
    sys.stdout.flush()


def _live(before: Sample, interval: float, limit: int, url: str, token: str | None, timeout: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(no_color=not colourful(sys.stdout))
    with Live(render(with_rates(before, before)), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            sample = get(url, "/v1/top", {"limit": limit}, timeout, token)
            live.update(render(with_rates(before, sample)), refresh=True)
            before = sample


def render(sample: Sample) -> RenderableType:
    """Two tables."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    now = sample["now"]
    consumers = Table(box=box.SIMPLE_HEAD, title=_title("consumers", sample), title_justify="left")
    for head, left in (("consumer", True), ("topic", True), ("", True)):
        consumers.add_column(head, justify="left" if left else "right", overflow="ellipsis", no_wrap=True)
    for head in ("members", "behind", "oldest", "out", "waiting", "dead", "a second", "wait", "work", "total p50/p99"):
        consumers.add_column(head, justify="right", no_wrap=True)
    for row in sample["consumers"]:
        consumers.add_row(
            Text(row["name"]),
            Text(row["topic"]),
            Text("paused" if row["paused"] else "", style="yellow"),
            str(row["members"]),
            "?" if row["lag"] is None else str(row["lag"]),
            ago(row["oldest"], now),
            str(row["outstanding"]),
            str(row["waiting"]),
            str(row["dead"]),
            _figure(row["rate"]),
            _spread(row["wait"]),
            _spread(row["work"]),
            _spread(row["total"]),
        )
    agents = Table(box=box.SIMPLE_HEAD, title=_title("agents", sample), title_justify="left")
    for head in ("agent", "state", "for", "on", "consumer"):
        agents.add_column(head, overflow="ellipsis", no_wrap=True)
    for head in ("out", "a second", "work p50/p99"):
        agents.add_column(head, justify="right", no_wrap=True)
    for row in sample["agents"]:
        agents.add_row(
            Text(row["agent"]),
            Text(row["state"], style=_STYLES.get(row["state"], "")),
            ago(row["since"], now),
            Text(row["on"] or ""),
            Text(f"{row['consumer']} of {row['topic']}"),
            str(row["outstanding"]),
            _figure(row["rate"]),
            _spread(row["work"]),
        )
    return Group(consumers, agents)


def _title(what: str, sample: Sample) -> str:
    shown, total = len(sample[what]), sample[f"{what}_total"]
    return f"{total} {what}" if shown == total else f"{shown} of {total} {what}"


def _figure(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.4g}"


def _spread(spread: dict[str, float]) -> str:
    return f"{lasting(spread['p50'])}/{lasting(spread['p99'])}" if spread["p99"] else "-"
