"""The measured part of a run: warm-up, the window itself, and the wait for what is still under way."""

from time import monotonic_ns

from hubbub_bench.histogram import Latencies
from hubbub_bench.measurement import Reading
from hubbub_bench.usage import Meter, Usage

from .fleet import Fleet
from .flow import Flow
from .load import Load, Verdict, judge

PICTURED = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999)
"""Percentages of a distribution that its picture shows."""
SAMPLE_SECONDS = 0.25


async def measure(load: Load, meter: Meter, warmup: float, seconds: float) -> tuple[Usage, int, int]:
    """Let a load that is on warm up, then measure it: what was used, messages delivered, publishes answered."""
    began = monotonic_ns()
    await _sampled(load, began, warmup)
    load.record_from = monotonic_ns()
    before, delivered, acked = meter.read(), load.delivered, load.acked
    await _sampled(load, began, seconds)
    after = meter.read()
    load.record_to = monotonic_ns()
    return Usage.between(before, after), load.delivered - delivered, load.acked - acked


async def _sampled(load: Load, began: int, seconds: float) -> None:
    """Let the load go on for so long, noting on the way how far it is."""
    end = monotonic_ns() + int(seconds * 1e9)
    while (left := (end - monotonic_ns()) / 1e9) > 0:
        at, before = monotonic_ns(), load.delivered or load.acked
        await load.last(min(SAMPLE_SECONDS, left))
        now = monotonic_ns()
        rate = ((load.delivered or load.acked) - before) * 1e9 / (now - at)
        load.timeline.append(((now - began) / 1e9, rate))


async def finish(fleet: Fleet, readers_of: dict[str, int]) -> Verdict:
    """Stop sending, wait for all that is under way, and judge. `readers_of` is how many readers each topic has."""
    load, flows = fleet.load, fleet.flows
    load.sending = False
    await load.until(sum(flow.published * readers_of.get(flow.topic, 0) for flow in flows.values()), load.published)
    await fleet.each(lambda agent: agent.settle())  # a duplicate may come after all the others
    return verdict(fleet, flows)


def verdict(fleet: Fleet, flows: dict[int, Flow]) -> Verdict:
    """What is wrong with what all agents have got by now."""
    return judge(
        fleet.load,
        ((checker, flows[id].published) for agent in fleet.agents for id, checker in agent.checkers.items()),
        ((flow.acked, flow.published) for flow in flows.values()),
    )


def distribution(nanoseconds: Latencies) -> list[tuple[float, float]]:
    """A histogram for a picture: percentages, and milliseconds that so many did not exceed."""
    return [(percent, nanoseconds.percentile(percent)) for percent in PICTURED] if nanoseconds.count else []


def percentiles(name: str, nanoseconds: Latencies, *, shown: bool = True) -> list[Reading]:
    """The readings of a histogram."""
    return [
        Reading(f"{name} p50", nanoseconds.percentile(50), "ms", shown),
        Reading(f"{name} p90", nanoseconds.percentile(90), "ms", shown=False),
        Reading(f"{name} p99", nanoseconds.percentile(99), "ms", shown),
        Reading(f"{name} p99.9", nanoseconds.percentile(99.9), "ms", shown=False),
        Reading(f"{name} max", nanoseconds.max_ms, "ms", shown=False),
        Reading(f"{name} count", nanoseconds.count, "samples", shown=False),
    ]
