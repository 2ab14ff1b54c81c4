"""What each scenario's messages came to and what they took, a line each: what the table has no room for."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from hubbub_bench.measurement import Run

from .report import Report, Result

_MIB = 2**20


def accounts(report: Report) -> Iterator[str]:
    """A line for each scenario that was measured."""
    for result in report.results:
        if result.runs:
            yield f"- `{result.scenario.name}`: {'; '.join(_parts(result))}."


def _parts(result: Result) -> Iterator[str]:
    runs = result.runs
    sums = {
        name: sum(_count(run, name) for run in runs) for name in ("published", "delivered", "redelivered", "missed")
    }
    if sums["published"]:
        yield f"{sums['published']:,} published, {sums['delivered']:,} delivered"
    verdicts = [run.verdict for run in runs]
    yield (
        f"{sum(one.lost for one in verdicts):,} lost, {sum(one.duplicated for one in verdicts):,} duplicated, "
        f"{sum(one.out_of_order for one in verdicts):,} out of order"
    )
    if sums["redelivered"]:
        yield f"{sums['redelivered']:,} given to a consumer again, and marked so"
    if sums["missed"]:
        yield f"{sums['missed']:,} ephemeral ones missed by who was away or slow"
    yield from _use(runs)


def _use(runs: list[Run]) -> Iterator[str]:
    used = [run.usage for run in runs if run.usage is not None]
    broker = [one.broker_cores * one.seconds for one in used if one.broker_cores is not None]
    if broker:
        yield f"processor time of a window: broker {median(broker):.2f} s, load {_load(runs):.2f} s"
    memory = [one.broker_rss for one in used if one.broker_rss is not None]
    if memory:
        yield f"the broker holds {median(memory) / _MIB:.0f} MiB"
    logs = [run.log for run in runs if run.log is not None and run.log.records]
    if logs:
        yield (
            f"log {median(one.bytes for one in logs) / _MIB:.1f} MiB in "
            f"{median(one.syncs for one in logs):,.0f} syncs, "
            f"{median(one.batch_mean for one in logs):.1f} records a batch"
        )


def _load(runs: list[Run]) -> float:
    return median(run.usage.driver_cores * run.usage.seconds for run in runs if run.usage is not None)


def _count(run: Run, name: str) -> int:
    return int(next((one.value for one in run.readings if one.name == name), 0))
