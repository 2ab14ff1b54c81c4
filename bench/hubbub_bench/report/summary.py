"""Runs to figures: the median of each reading, and how far the runs lie apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hubbub_bench.measurement import Run


@dataclass(frozen=True)
class Figure:
    """One reading over all runs."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    shown: bool

    @property
    def spread(self) -> float:
        """How far the runs lie apart, as a share of the median: the noise."""
        return (self.high - self.low) / self.median if self.median else 0.0


def summarize(runs: Sequence[Run]) -> list[Figure]:
    """The figures of some runs of one scenario, in the order of their readings."""
    figures = []
    for first in runs[0].readings if runs else ():
        values = [reading.value for run in runs for reading in run.readings if reading.name == first.name]
        figures.append(Figure(first.name, first.unit, median(values), min(values), max(values), first.shown))
    return figures
