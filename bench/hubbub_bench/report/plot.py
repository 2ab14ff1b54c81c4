"""A report's pictures: latencies by percentile, and throughput over time."""

from __future__ import annotations

from pathlib import Path

from .report import Report, Result
from .svg import Axis, Points, chart

_PERCENTS = ((0.0, "0"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %"), (99.999, "99.999 %"))


def plot(report: Report, folder: Path) -> list[Path]:
    """Write a picture of each distribution and each course of a report's last runs; return which.

    Raises:
        OSError: if they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for result in report.results:
        for name, text in _pictures(result).items():
            path = folder / f"{result.scenario.name}-{name}.svg"
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def _pictures(result: Result) -> dict[str, str]:
    if not result.runs:
        return {}
    run = result.runs[-1]
    found = {}
    curves = {name: _tail(curve) for name, curve in run.distributions.items() if curve}
    if curves:
        ticks = tuple((_nines(percent), text) for percent, text in _PERCENTS)
        across = Axis("of all messages", log=True, ticks=ticks)
        found["latency"] = chart(result.scenario.title, across, Axis("milliseconds", log=True), curves)
    if run.timeline:
        across = Axis("seconds since the load began")
        found["throughput"] = chart(result.scenario.title, across, Axis("messages a second"), {"rate": run.timeline})
    return found


def _tail(curve: Points) -> Points:
    return [(_nines(percent), milliseconds) for percent, milliseconds in curve]


def _nines(percent: float) -> float:
    """So that each further nine takes as much room as the one before."""
    return 1.0 / (1.0 - percent / 100.0)
