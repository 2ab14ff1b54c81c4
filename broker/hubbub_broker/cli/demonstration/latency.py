"""How long messages took, from their publisher's call to a member's handler. The crash's stretch is told apart.

A delivery belongs to the crash if the broker was down, or agents were still without it, at any time between its publish
and its handling. Those before were over when the broker was killed; those after began when the last agent was back.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Sample = tuple[float, float]
"""When a message was published and when it was handled, in seconds by the same clock."""


@dataclass(frozen=True, slots=True)
class Outage:
    """From the kill of the broker until the last agent was online again, in seconds by that clock."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of how many deliveries, and how long they took, in seconds."""

    count: int
    p50: float
    p90: float
    p99: float
    largest: float


def percentiles(durations: Iterable[float]) -> Percentiles | None:
    """By the nearest-rank method: each is the duration of an actual delivery. None of nothing."""
    ordered = sorted(durations)
    if not ordered:
        return None
    return Percentiles(len(ordered), rank(ordered, 0.5), rank(ordered, 0.9), rank(ordered, 0.99), ordered[-1])


def rank(ordered: Sequence[float], share: float) -> float:
    """The smallest of some sorted values such that `share` of them are at most that."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def by_stretch(samples: Iterable[Sample], outage: Outage | None) -> dict[str, Percentiles]:
    """Percentiles of each stretch that has deliveries: `before`, `crash`, `after`; or of the `whole` run."""
    stretches: dict[str, list[float]] = {"whole": []} if outage is None else {"before": [], "crash": [], "after": []}
    for published, handled in samples:
        stretches[stretch_of(published, handled, outage)].append(handled - published)
    found = {name: percentiles(durations) for name, durations in stretches.items()}
    return {name: figures for name, figures in found.items() if figures is not None}


def stretch_of(published: float, handled: float, outage: Outage | None) -> str:
    """Which stretch a delivery belongs to."""
    if outage is None:
        return "whole"
    if handled < outage.start:
        return "before"
    return "after" if published > outage.end else "crash"
