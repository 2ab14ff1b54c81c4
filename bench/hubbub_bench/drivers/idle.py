"""Idle: what a connection that is subscribed and silent costs in memory."""

from itertools import count

from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import Address
from hubbub_bench.scenario import Idle
from hubbub_bench.usage import Meter, Usage

from .agent import Agent
from .connection import DriverError
from .fleet import Fleet
from .load import Load

_WARM = 50
"""Connections that come and go first, so that what the broker makes but once is not charged to those that count."""
_KIB = 1024


async def run(scenario: Idle, address: Address, meter: Meter) -> Run:
    """One run.

    Raises:
        DriverError: if the broker refuses or hangs up, or its memory can't be read.
    """
    load = Load()
    async with Fleet(address, load, scenario.name) as fleet:
        await _subscribe(fleet, scenario, _WARM)
    await load.last(scenario.settle)
    async with Fleet(address, load, scenario.name, scenario.groups) as fleet:
        before = meter.read()
        await _subscribe(fleet, scenario, scenario.connections)
        await load.last(scenario.settle)
        after = meter.read()
        await fleet.each(lambda agent: agent.settle())  # they are all there still
    if before.broker_rss is None or after.broker_rss is None:
        raise DriverError("the broker's memory is not known: give its process with --pid")
    grown = after.broker_rss - before.broker_rss
    return Run(
        [
            Reading("memory per connection", grown / scenario.connections / _KIB, "KiB"),
            Reading("memory before", before.broker_rss / _KIB / _KIB, "MiB", shown=False),
            Reading("memory with all", after.broker_rss / _KIB / _KIB, "MiB", shown=False),
        ],
        usage=Usage.between(before, after),
        paced=True,
    )


async def _subscribe(fleet: Fleet, scenario: Idle, connections: int) -> None:
    numbers = count()

    async def subscribe(agent: Agent) -> None:
        await agent.subscribe(fleet.topic(next(numbers) % scenario.topics))

    await fleet.each(subscribe, await fleet.connect(connections, "agent"))
