"""Costs as tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hubbub_bench.report import Machine
from hubbub_bench.report.svg import Axis, Points, chart

from .points import CONNECTIONS_RATE, HISTORY_PAYLOAD, HISTORY_TOPICS, TOPICS_RATE, Cost, Opened

_TOPICS = (
    f"{TOPICS_RATE:,.0f} durable messages of 256 bytes a second, each topic in turn, each read by one agent; the first "
    "message of each topic came before."
)
_CONNECTIONS = (
    f"{CONNECTIONS_RATE:,.0f} durable messages of 256 bytes a second in all, by so many agents in conversations of "
    "five, so that each message is delivered five times."
)
_HISTORY = (
    f"One directory of {HISTORY_TOPICS} topics that fills with messages of {HISTORY_PAYLOAD} bytes. A start is from "
    "that of the process, the interpreter's own included, until it takes requests; the file system's cache is warm. "
    "The cost is of durable publishes at full speed, after that start."
)
_MICROSECONDS = Axis("µs of the broker's processor time")


def page(
    topics: Sequence[Cost], connections: Sequence[Cost], history: Sequence[Opened], machine: Machine, at: str
) -> str:
    """All tables, with their pictures beside them in `pictures/`."""
    parts = [f"{at}. {machine}."]
    if topics:
        parts += [
            "#### Topics",
            _TOPICS,
            "![cost by topics](pictures/growth-topics.svg)",
            _table("topics", topics),
        ]
    if connections:
        parts += [
            "#### Connections",
            _CONNECTIONS,
            "![cost by connections](pictures/growth-connections.svg)",
            _table("connections", connections),
        ]
    if history:
        parts += [
            "#### History",
            _HISTORY,
            "![cost by history](pictures/growth-history.svg)",
            "![start and memory by history](pictures/growth-opening.svg)",
            _opened(history),
        ]
    return "\n\n".join(parts)


def draw(topics: Sequence[Cost], connections: Sequence[Cost], history: Sequence[Opened], folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for name, costs in (("topics", topics), ("connections", connections)):
        if costs:
            curve: Points = [(cost.size, cost.microseconds) for cost in costs]
            pictures[name] = chart(f"Cost of a message by {name}", Axis(name, log=True), _MICROSECONDS, {"": curve})
    if history:
        across = Axis("messages of history", log=True)
        cost: dict[str, Points] = {"a durable publish": [(one.size, one.microseconds) for one in history]}
        pictures["history"] = chart("Cost of a durable publish by history", across, _MICROSECONDS, cost)
        opening: dict[str, Points] = {
            "after a clean stop": [(one.size, one.start_clean) for one in history],
            "after SIGKILL": [(one.size, one.start_killed) for one in history],
            "memory (GiB)": [(one.size, one.memory / 1024) for one in history],
        }
        pictures["opening"] = chart("Start, and memory then, by history", across, Axis("seconds; GiB"), opening)
    for name, text in pictures.items():
        (folder / f"growth-{name}.svg").write_text(text, encoding="utf-8")


def _table(what: str, costs: Sequence[Cost]) -> str:
    rows = [f"| {what} | µs a message | end to end p50 | p99 | the broker holds |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| {cost.size:,} | {cost.microseconds:.1f} | {cost.latency_p50:.2f} ms | {cost.latency_p99:.2f} ms | "
        f"{cost.memory:,.0f} MiB |"
        for cost in costs
    ]
    return "\n".join(rows)


def _opened(history: Sequence[Opened]) -> str:
    rows = [
        "| messages | directory | start after a clean stop | after SIGKILL | the broker holds | µs a publish |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| {one.size:,} | {one.directory:.2f} GiB | {one.start_clean:.2f} s | {one.start_killed:.2f} s | "
        f"{one.memory:,.0f} MiB | {one.microseconds:.2f} |"
        for one in history
    ]
    return "\n".join(rows)
