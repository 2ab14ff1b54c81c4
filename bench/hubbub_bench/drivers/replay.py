"""Replay: one reader that comes late and reads a topic's whole history."""

from collections.abc import AsyncIterator

from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import Address
from hubbub_bench.scenario import Replay
from hubbub_bench.usage import Meter, Usage

from .checker import Checker
from .filling import fill
from .fleet import Fleet
from .load import Load, judge


async def runs(scenario: Replay, address: Address, meter: Meter) -> AsyncIterator[Run]:
    """One run for each reader, all on the same history.

    Raises:
        DriverError: if the broker refuses or hangs up.
    """
    topic = await fill(address, scenario.name, messages=scenario.messages, payload=scenario.payload)
    for _ in range(scenario.runs):
        yield await read(scenario, address, meter, topic)


async def read(scenario: Replay, address: Address, meter: Meter, topic: str) -> Run:
    """One reader, timed from its `sub` to the last message."""
    load = Load(goal=scenario.messages)
    async with Fleet(address, load, scenario.name) as fleet:
        (reader,) = await fleet.connect(1, "reader")
        checker = Checker()
        reader.checkers = {0: checker}
        before = meter.read()
        await reader.subscribe(topic, "all")
        await load.goal_met()
        usage = Usage.between(before, meter.read())
        await reader.settle()
    rate = scenario.messages / usage.seconds
    verdict = judge(load, iter([(checker, scenario.messages)]), iter(()))
    return Run([Reading("replay", rate, "messages/s")], verdict, usage)
