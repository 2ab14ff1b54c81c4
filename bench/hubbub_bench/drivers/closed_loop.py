"""Closed loop: every publisher keeps its window full. What comes out is what broker and driver can do."""

from itertools import product

from hubbub_bench.histogram import Latencies
from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import Address
from hubbub_bench.scenario import ClosedLoop
from hubbub_bench.usage import Meter, Usage

from .agent import LastFrame
from .checker import Checker
from .fleet import Fleet, in_turn
from .flow import Flow
from .load import Load
from .window import distribution, finish, measure, percentiles


async def run(scenario: ClosedLoop, address: Address, meter: Meter) -> Run:
    """One run.

    Raises:
        DriverError: if the broker refuses or hangs up.
    """
    load = Load()
    async with Fleet(address, load, scenario.name, scenario.groups) as fleet:
        await connect(fleet, scenario)
        load.sending = True
        for flow in fleet.flows.values():
            flow.fill()
        usage, delivered, acked = await measure(load, meter, scenario.warmup, scenario.seconds)
        verdict = await finish(fleet, {fleet.topic(number): scenario.subscribers for number in range(scenario.topics)})
    acks = Latencies(load.ack_latencies)
    readings = _readings(scenario, acks, usage, delivered, acked)
    return Run(readings, verdict, usage, distributions={"ack": distribution(acks)}, timeline=load.timeline)


async def connect(fleet: Fleet, scenario: ClosedLoop) -> None:
    """Publishers, and the subscribers of all topics, who must be there before the first message."""
    publishers = await fleet.connect(scenario.publishers, "publisher")
    for id, publisher in enumerate(publishers):
        fleet.flows[id] = publisher.flow = Flow(
            fleet.load,
            id,
            fleet.topic(id % scenario.topics),
            payload=scenario.payload,
            durable=scenario.durable,
            write=publisher.write,
            readers=scenario.subscribers,
            window=scenario.window,
            until=scenario.until,
            lines_per_frame=scenario.lines_per_frame,
        )
    shared = [LastFrame() for _ in range(scenario.topics)]

    async def connect_reader(number: int, index: int) -> None:
        reader = await fleet.connect_one(f"reader-{number}-{index}", shared[number])
        reader.checkers = {id: Checker() for id in range(number, scenario.publishers, scenario.topics)}
        await reader.subscribe(fleet.topic(number))

    await in_turn(connect_reader(*one) for one in product(range(scenario.topics), range(scenario.subscribers)))


def _readings(scenario: ClosedLoop, acks: Latencies, usage: Usage, delivered: int, acked: int) -> list[Reading]:
    publishes, deliveries = acked / usage.seconds, delivered / usage.seconds
    readings = [Reading("publishes", publishes, "publishes/s", shown=not scenario.subscribers)]
    if scenario.subscribers:
        readings.insert(0, Reading("deliveries", deliveries, "deliveries/s"))
    if usage.broker_cores:
        first = readings[0]
        name = f"{first.name} per broker CPU second"
        readings.insert(1, Reading(name, first.value / usage.broker_cores, first.unit))
    return readings + percentiles("ack", acks, shown=not scenario.subscribers)
