"""Open loop: messages are due at times fixed beforehand, and their latency counts from then.

If broker or driver is held up, the messages that were due meanwhile are late, and their latencies say so: waiting for
an answer before sending the next would have left them out (coordinated omission).
"""

from random import Random
from time import monotonic_ns

from hubbub_bench.histogram import Latencies
from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import Address
from hubbub_bench.scenario import OpenLoop
from hubbub_bench.usage import Meter

from .agent import LastFrame
from .checker import Checker
from .clock import Alarm
from .fleet import Fleet, in_turn
from .flow import Flow
from .load import Load
from .schedule import due_times
from .window import distribution, finish, measure, percentiles

_SEED = 1
_HEAD_START = 10_000_000
"""Nanoseconds before the first message is due."""


class Sender:
    """Publishes each message when it is due, the flows taking turns."""

    def __init__(self, load: Load, flows: list[Flow], rate: float, arrivals: str) -> None:
        self.lateness: list[int] = []
        """Nanoseconds between when messages were due and when this process sent them."""
        self._load = load
        self._flows = flows
        self._turn = 0
        self._times = due_times(monotonic_ns() + _HEAD_START, rate, arrivals, Random(_SEED))
        self._due = next(self._times)
        self._alarm = Alarm(self._send)
        self._alarm.set(self._due)

    def stop(self) -> None:
        """Send what is due by now, and no more."""
        self._send()
        self._alarm.close()

    def _send(self) -> None:
        if not self._load.sending:
            return
        now = monotonic_ns()
        while self._due <= now:
            self._flows[self._turn].publish(1, self._due)
            self._turn = (self._turn + 1) % len(self._flows)
            if self._load.record_from <= self._due < self._load.record_to:
                self.lateness.append(now - self._due)
            self._due = next(self._times)
            now = monotonic_ns()
        self._alarm.set(self._due)


async def run(scenario: OpenLoop, address: Address, meter: Meter) -> Run:
    """One run.

    Raises:
        DriverError: if the broker refuses or hangs up.
    """
    load = Load(time_deliveries=True)
    members = scenario.agents // scenario.topics
    async with Fleet(address, load, scenario.name, scenario.groups) as fleet:
        await connect(fleet, scenario, members)
        load.sending = True
        sender = Sender(load, [fleet.flows[id] for id in range(scenario.agents)], scenario.rate, scenario.arrivals)
        try:
            usage, delivered, _ = await measure(load, meter, scenario.warmup, scenario.seconds)
        finally:
            sender.stop()
        verdict = await finish(fleet, {fleet.topic(number): members for number in range(scenario.topics)})
    latencies, acks = Latencies(load.latencies), Latencies(load.ack_latencies)
    readings = [
        *percentiles("end to end", latencies),
        Reading("deliveries", delivered / usage.seconds, "deliveries/s", shown=False),
        *percentiles("ack", acks, shown=False),
        *percentiles("driver late", Latencies(sender.lateness), shown=False),
    ]
    pictures = {"end to end": distribution(latencies), "ack": distribution(acks)}
    return Run(readings, verdict, usage, paced=True, distributions=pictures, timeline=load.timeline)


async def connect(fleet: Fleet, scenario: OpenLoop, members: int) -> None:
    """Agents that each publish and subscribe. Neighbours in turn belong to different topics."""
    shared = [LastFrame() for _ in range(scenario.topics)]

    async def connect_agent(id: int) -> None:
        number = id % scenario.topics
        agent = await fleet.connect_one(f"agent-{id}", shared[number])
        agent.checkers = {heard: Checker() for heard in range(number, scenario.agents, scenario.topics)}
        fleet.flows[id] = agent.flow = Flow(
            fleet.load,
            id,
            fleet.topic(number),
            payload=scenario.payload,
            durable=scenario.durable,
            write=agent.write,
            readers=members,
        )
        await agent.subscribe(fleet.topic(number))

    await in_turn(connect_agent(id) for id in range(scenario.agents))
