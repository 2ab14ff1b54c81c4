"""The report: all results, and their JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import msgspec

from hubbub_bench.measurement import Limit, Run
from hubbub_bench.scenario import Scenario

from .machine import Machine
from .summary import Figure, summarize

FORMAT = 1
"""Changes when a program that reads the JSON has to."""


@dataclass
class Result:
    """A scenario with its runs, or the reason why there are none."""

    scenario: Scenario
    runs: list[Run] = field(default_factory=list)
    skipped: str = ""
    """Why it can't be measured here."""
    failed: str = ""
    """What went wrong."""

    @property
    def figures(self) -> list[Figure]:
        """What the runs came to."""
        return summarize(self.runs)

    @property
    def wrong(self) -> list[str]:
        """What was wrong with messages, run by run."""
        return [f"run {number}: {run.verdict}" for number, run in enumerate(self.runs, 1) if not run.verdict.good]

    @property
    def good(self) -> bool:
        """Whether every run took place and nothing was lost, duplicated or out of order."""
        return not (self.failed or self.wrong)

    @property
    def limits(self) -> list[Limit]:
        """What held the runs back, each reason once."""
        return list(dict.fromkeys(run.limit for run in self.runs if run.limit is not None))

    def cores(self, whose: str) -> float | None:
        """Median over the runs of the cores that `broker`, `driver` or `other` used; None where it is not known."""
        used = [getattr(run.usage, f"{whose}_cores") for run in self.runs if run.usage is not None]
        known = [one for one in used if one is not None]
        return median(known) if known else None


@dataclass(frozen=True)
class Report:
    """All results of one go."""

    version: str
    """Of Hubbub."""
    at: str
    """When, as ISO 8601."""
    machine: Machine
    results: list[Result]

    @property
    def good(self) -> bool:
        """Whether every result is."""
        return all(result.good for result in self.results)

    def json(self) -> bytes:
        """Everything, for programs."""
        content = {
            "format": FORMAT,
            "hubbub": self.version,
            "at": self.at,
            "machine": asdict(self.machine),
            "scenarios": [_result(result) for result in self.results],
        }
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _result(result: Result) -> dict[str, Any]:
    return {
        "name": result.scenario.name,
        "scenario": result.scenario,
        "skipped": result.skipped,
        "failed": result.failed,
        "good": result.good,
        "limits": result.limits,
        "figures": [asdict(figure) for figure in result.figures],
        "runs": [{**asdict(run), "limit": run.limit} for run in result.runs],
    }
