"""The report for people: a Markdown table that a README can hold, and how each figure was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hubbub_bench.measurement import Limit

from .account import accounts
from .report import Report, Result
from .summary import Figure

OTHERS_MUCH = 0.25
"""Cores in use by others from which on it is told."""
LATE_SHARE = 0.25
"""Share of the p99 latency from which on the driver's own lateness is told."""
HEADINGS = ("What", "Figure", "Median", "Lowest to highest", "Broker", "Driver", "Others", "Held back by")


def render(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [
        f"Hubbub {report.version}, {report.at}",
        str(report.machine),
        "\n".join(_table([HEADINGS, *(row for result in report.results for row in _rows(result))])),
        "Broker, driver, others: cores in use (seconds of processor time a second) while it was measured.",
        "\n".join(accounts(report)),
        "\n".join(f"- **{result.scenario.title}.** {_how(result)}" for result in report.results),
    ]
    parts += list(_warnings(report))
    return "\n\n".join(part for part in parts if part) + "\n"


def number(value: float, unit: str) -> str:
    """A value for reading: three digits that count, and a unit."""
    if unit.endswith("/s"):
        for scale, letter in ((1e6, " M"), (1e3, " k")):
            if value >= scale * 0.9995:
                return f"{_three(value / scale)}{letter} {unit}"
    return f"{_three(value)} {unit}"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    title = result.scenario.title
    if result.skipped or result.failed:
        yield title, "not measured" if result.skipped else "failed", "", "", "", "", "", ""
        return
    cores = [_cores(result.cores(whose)) for whose in ("broker", "driver", "other")]
    limits = ", ".join(result.limits)
    for figure in (one for one in result.figures if one.shown):
        yield title, figure.name, number(figure.median, figure.unit), _range(figure, len(result.runs)), *cores, limits
        title, cores, limits = "", ["", "", ""], ""


def _range(figure: Figure, runs: int) -> str:
    low, high = (number(value, figure.unit).removesuffix(f" {figure.unit}") for value in (figure.low, figure.high))
    return f"{low} to {high} of {runs}"


def _cores(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for index, row in enumerate(rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if index == 0:
            yield "| " + " | ".join("-" * width for width in widths) + " |"


def _how(result: Result) -> str:
    reason = result.skipped or result.failed
    return f"{result.scenario.how} (`{result.scenario.name}`)" + (f" NOT MEASURED: {reason}" if reason else "")


def _warnings(report: Report) -> Iterator[str]:
    yield from _about_machine(report)
    for result in report.results:
        yield from _about_result(result)


def _about_machine(report: Report) -> Iterator[str]:
    others = {result.scenario.name: result.cores("other") or 0.0 for result in report.results}
    busy = [f"{name} {cores:.1f}" for name, cores in others.items() if cores >= OTHERS_MUCH]
    if busy:
        yield (
            f"NOTE: other processes used the machine too, in cores: {', '.join(busy)}. "
            "On a quiet machine rates are higher and latencies lower."
        )
    if report.machine.syncs_are_free:
        yield (
            f"WARNING: {report.machine.file_system} is memory: a sync costs nothing there, and durable figures say "
            "nothing. Give a directory on a disk with --data-dir."
        )


def _about_result(result: Result) -> Iterator[str]:
    name = result.scenario.name
    for wrong in result.wrong:
        yield f"WRONG: {name}, {wrong}"
    if set(result.limits) & {Limit.DRIVER, Limit.BOTH}:
        yield (
            f"NOTE: {name}: the driver had no time to spare in at least one run, so the broker may be able to do more."
        )
    figures = {figure.name: figure for figure in result.figures}
    late, taken = figures.get("driver late p99"), figures.get("end to end p99")
    if late is not None and taken is not None and late.median > LATE_SHARE * taken.median:
        late_text = number(late.median, late.unit)
        yield f"NOTE: {name}: the driver itself was late (p99 {late_text}), which is in the latencies."
