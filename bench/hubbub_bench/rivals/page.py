"""What bouts came to, as tables: all of it for docs/benchmarks.md, the marks alone for the README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hubbub_bench.report import Machine
from hubbub_bench.report.table import number

from .bout import Bout, Standing
from .work import Figure

COMMAND = "make bench-peers DRIVER=… ARGS='--only {name}'"


def page(bouts: Sequence[Bout], machine: Machine, at: str, how: str) -> str:
    """Every bout with every side, its spread, the ratios and the marks."""
    parts = [f"{at}. {machine}. {how}", _servers(bouts)]
    for bout in bouts:
        parts += [f"#### {bout.work.title[0].upper()}{bout.work.title[1:]}", "\n".join(_table(bout)), *_remarks(bout)]
        parts.append(f"`{COMMAND.format(name=bout.work.name)}`")
    return "\n\n".join(part for part in parts if part)


def summary(bouts: Sequence[Bout], machine: Machine, at: str) -> str:
    """One line for each mark."""
    rows = ["| work | Hubbub | beside | | ratio | mark |", "| --- | --- | --- | --- | --- | --- |"]
    for bout in bouts:
        rows += _marks(bout)
    return f"{at}, {machine}:\n\n" + "\n".join(rows)


def as_json(bouts: Sequence[Bout]) -> list[dict[str, Any]]:
    """Everything, for programs."""
    return [
        {
            "name": bout.work.name,
            "work": bout.work,
            "sides": [
                {
                    "label": one.side.label,
                    "server": one.title,
                    "skipped": one.skipped,
                    "failed": one.failed,
                    "figures": {figure.key: one.figure(figure) for figure in bout.work.figures},
                    "ratios": {figure.key: bout.ratio(one, figure) for figure in bout.work.figures},
                    "runs": one.runs,
                }
                for one in bout.standings
            ],
        }
        for bout in bouts
    ]


def _servers(bouts: Sequence[Bout]) -> str:
    titles = dict.fromkeys(one.title for bout in bouts for one in bout.standings if one.title)
    return f"Measured: {', '.join(titles)}." if titles else ""


def _table(bout: Bout) -> Iterator[str]:
    yield "| server | figure | median | lowest to highest | Hubbub ÷ it | mark |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for standing in bout.standings:
        label = standing.side.label
        if not standing.runs:
            yield f"| {label} | not measured: {_one_line(standing.skipped or standing.failed[-1])} | | | | |"
            continue
        for figure in bout.work.figures:
            found = standing.figure(figure)
            assert found is not None
            low, high = standing.spread(figure)
            ours = standing is bout.standings[0]
            ratio = None if ours else bout.ratio(standing, figure)
            yield (
                f"| {label} | {figure.name} | {number(found, figure.unit)} | {_plain(low, figure)} to "
                f"{_plain(high, figure)} of {len(standing.runs)} | {'' if ratio is None else f'{ratio:.2f} ×'} | "
                f"{_own_mark(figure, found) if ours else _mark(standing, figure, ratio)} |"
            )
            label = ""


def _remarks(bout: Bout) -> Iterator[str]:
    for standing in bout.standings:
        if standing.failed:
            last = _one_line(standing.failed[-1])
            yield f"{standing.side.label}: {len(standing.failed)} runs came to nothing, last: {last}"
        if standing.driver_busy:
            yield f"{standing.side.label}: the driver had no time to spare, so that the server may do more."


def _marks(bout: Bout) -> Iterator[str]:
    ours = bout.standings[0]
    title = bout.work.title
    for figure in bout.work.figures:
        own = ours.figure(figure)
        if own is not None and figure.at_most is not None:
            yield f"| {title} | {number(own, figure.unit)} | | | | {_own_mark(figure, own)} |"
            title = ""
        for other in bout.standings[1:]:
            theirs, ratio = other.figure(figure), bout.ratio(other, figure)
            if own is None or theirs is None or ratio is None or figure.key not in other.side.marks:
                continue
            what = f"{title}: {figure.name}" if title and len(bout.work.figures) > 1 else title or figure.name
            yield (
                f"| {what} | {number(own, figure.unit)} | {other.side.label} | {number(theirs, figure.unit)} | "
                f"{ratio:.2f} × | {_mark(other, figure, ratio)} |"
            )
            title = ""


def _mark(standing: Standing, figure: Figure, ratio: float | None) -> str:
    mark = standing.side.marks.get(figure.key)
    if mark is None or ratio is None:
        return ""
    reached = ratio >= mark if figure.better == "more" else ratio <= mark
    return (
        f"{'at least' if figure.better == 'more' else 'at most'} {mark:g} ×: {'reached' if reached else 'not reached'}"
    )


def _own_mark(figure: Figure, value: float) -> str:
    if figure.at_most is None:
        return ""
    reached = "reached" if value <= figure.at_most else "not reached"
    return f"at most {figure.at_most:g} {figure.unit}: {reached}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _plain(value: float, figure: Figure) -> str:
    return number(value, figure.unit).removesuffix(f" {figure.unit}")
