"""Whole courses of misfortune for consumers, each told by a seed: a bad network, a broker that crashes, members that
come, drain and are cut off, handlers that fail.

What must hold, whatever happens:
  - every message is settled in the end: acked, or in the dead letters;
  - a message is never acked before a handler returned for it;
  - in one agent, a message is never at work twice at the same time, and a lease is begun once;
  - no more than `max_unacked` are at work in one membership;
  - with a store of what was done that all share, no handler begins with a message after another has returned for it.
"""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from harness.proxy import Cut, Delay, Duplicate, Fault, FaultyTransport, Silence
from harness.until import until
from hubbub import Agent, Delivery, MemorySeen, Reject, Retry
from hubbub.testing import MemoryBroker
from hubbub_protocol import codec
from hubbub_protocol.frames import Ack

NETWORKS: dict[str, list[Fault]] = {
    "good": [],
    "slow": [Delay(0.0, 0.5)],
    "cut": [Delay(0.0, 0.05), Cut(0.03)],
    "bad": [Delay(0.0, 0.2), Cut(0.02), Silence(0.003), Duplicate(0.03)],
}

MAX_UNACKED = 4


class Worker:
    """An agent in the consumer, and what its handler did."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        network = FaultyTransport(world.broker.transport(), world.source, world.faults, refuse=0.1)
        self.network = network
        self.agent = Agent(name, group="g", transport=network, source=world.source, local=False, drain=world.drain)
        self.at_work: set[int] = set()
        self.leases: set[tuple[int, int]] = set()
        self.wrong: list[str] = []
        options: Any = {"ack_wait": 20.0, "max_unacked": MAX_UNACKED, "max_deliver": 0, "backoff": [0.5, 2.0]}
        self.agent.on("tasks", consumer="w", start="all", dedup=world.seen, **options)(self.work)

    async def work(self, msg: Delivery) -> None:
        world, source = self.world, self.world.source
        number = msg.data
        if number in self.at_work:
            self.wrong.append(f"{number} is at work twice in {self.name}")
        if (number, msg.attempt) in self.leases:
            self.wrong.append(f"attempt {msg.attempt} of {number} was begun twice in {self.name}")
        if world.returned[number]:
            self.wrong.append(f"{number} was done, and is begun again in {self.name}")
        self.leases.add((number, msg.attempt))
        self.at_work.add(number)
        if len(self.at_work) > MAX_UNACKED:
            self.wrong.append(f"{len(self.at_work)} at work in {self.name}")
        try:
            await asyncio.sleep(source.choice([0.0, 0.1, 1.0, 30.0, 90.0]))
            fate = source.random()
            if fate < 0.1:
                raise ValueError("fails")
            if fate < 0.2:
                raise Retry("later", after=source.random())
            if fate < 0.23:
                world.rejected.add(number)
                raise Reject("never")
        finally:
            self.at_work.discard(number)
        world.returned[number] += 1


class World:
    """A broker, a network, workers."""

    def __init__(self, seed: int, faults: list[Fault]) -> None:
        self.source = random.Random(seed)
        self.broker = MemoryBroker(clock=asyncio.get_running_loop().time)
        self.faults = faults
        self.drain = self.source.choice([0.0, 5.0, 200.0])
        self.seen = MemorySeen(clock=asyncio.get_running_loop().time)
        self.returned: Counter[int] = Counter()
        self.rejected: set[int] = set()
        self.early: list[int] = []
        self.workers: list[Worker] = []
        self.published = 0
        self.healed = False
        settle = self.broker.settle

        def watch(session: Any, frame: Any) -> None:
            if isinstance(frame, Ack):
                for seq in frame.seqs or [frame.seq or 0]:
                    number = codec.decode_value(bytes(self.broker.stored("g/tasks")[seq - 1].data))
                    if not self.returned[number]:
                        self.early.append(number)
            settle(session, frame)

        self.broker.settle = watch  # type: ignore[method-assign]

    async def run(self, steps: int) -> None:
        boss = Agent("boss", group="g", transport=self.broker.transport(), source=self.source, local=False)
        async with boss:
            await self._join()
            for _ in range(steps):
                for _ in range(self.source.randrange(4)):
                    await boss.submit("tasks", self.published)
                    self.published += 1
                await self._misfortune()
                await asyncio.sleep(self.source.random() * 20)
            self._heal()
            await boss.flush()
            if not self.workers:
                await self._join()
            await until(self._settled, step=1, seconds=20_000)
        await asyncio.gather(*(worker.agent.close() for worker in self.workers))

    async def _misfortune(self) -> None:
        fate = self.source.random()
        if fate < 0.1 and len(self.workers) < 4:
            await self._join()
        elif fate < 0.17 and self.workers:
            worker = self.workers.pop(self.source.randrange(len(self.workers)))
            await worker.agent.close()
            self._check(worker)
        elif fate < 0.3 and self.workers:
            self.broker.cut(self.source.choice(self.workers).name)
        elif fate < 0.35:
            self.broker.crash()
            await asyncio.sleep(self.source.choice([0.1, 5.0, 60.0]))
            self.broker.start()

    async def _join(self) -> None:
        worker = Worker(self, f"w{self.source.randrange(10**9)}")
        self.workers.append(worker)
        await worker.agent.open()

    def _heal(self) -> None:
        for worker in self.workers:
            worker.network.healed = True

    def _settled(self) -> bool:
        consumers = self.broker._consumers._consumers
        places = [place for one in consumers for place in one.places.values()]
        return bool(places) and all(place.next > place.log.head and not place.open for place in places)

    def _check(self, worker: Worker) -> None:
        assert worker.wrong == []

    def check(self) -> None:
        for worker in self.workers:
            self._check(worker)
        assert self.early == []
        dead = {codec.decode_value(bytes(one.data)) for one in self.broker.stored("g/_dead")}
        assert dead <= self.rejected
        assert {number for number, times in self.returned.items() if times} | dead == set(range(self.published))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(8))
async def test_every_message_is_worked_on_and_settled(seed: int, network: str) -> None:
    world = World(seed, NETWORKS[network])
    await world.run(steps=40)
    world.check()
    assert world.published > 20
