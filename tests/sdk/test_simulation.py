"""Whole courses of misfortune, each told by a seed: publishers and readers on a bad network, a broker that crashes.

What must hold, whatever happens:
  - every accepted publish is confirmed, once, with the seq that it has in the broker's log;
  - a topic's log has each publisher's messages in the order in which they were accepted, each once;
  - every iterator sees what the log has from its start on: each once, in order, no hole.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.proxy import Cut, Delay, Duplicate, Fault, FaultyTransport, Silence
from hubbub import Agent, Message, Receipt
from hubbub.subscription import Subscription
from hubbub.testing import MemoryBroker
from hubbub_protocol import codec
from hubbub_protocol.frames import Err, Pub

TOPICS = ["a", "b", "c"]
PATTERNS = ["g/*", "g/**", "**"]
RETRYABLE = ["overloaded", "rate_limited", "read_only", "internal", "shutting_down"]

NETWORKS: dict[str, list[Fault]] = {
    "good": [],
    "slow": [Delay(0.0, 0.3)],
    "cut": [Delay(0.0, 0.05), Cut(0.03)],
    "silent": [Delay(0.0, 0.05), Silence(0.01)],
    "twice": [Duplicate(0.1)],
    "bad": [Delay(0.0, 0.2), Cut(0.02), Silence(0.003), Duplicate(0.03)],
}


class Reader:
    """An iterator, and what it saw."""

    def __init__(self, name: str, subscription: Subscription, start: Any, pause: Callable[[], float]) -> None:
        self.name = name
        self.start = start
        self.subscription = subscription
        self.seen: list[Message] = []
        self._pause = pause
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.subscription:
            self.seen.append(message)
            seconds = self._pause()
            if seconds:
                await asyncio.sleep(seconds)

    def check(self, broker: MemoryBroker) -> None:
        by_topic: dict[str, list[int]] = {}
        for message in self.seen:
            assert message.seq is not None
            by_topic.setdefault(message.topic, []).append(message.seq)
            stored = broker.stored(message.topic)[message.seq - 1]
            assert (stored.id, stored.sender) == (message.id, message.sender)
        for topic, seqs in by_topic.items():
            head = len(broker.stored(topic))
            assert seqs == list(range(seqs[0], head + 1)), f"{self.name}: {topic} from {seqs[0]} to {head}"
        if self.start == "all":
            assert dict.fromkeys(by_topic, 1) == {topic: seqs[0] for topic, seqs in by_topic.items()}
            wanted = self.subscription._box
            matching = [t for t in broker.topics if broker.stored(t) and (t == wanted.topic or "*" in wanted.topic)]
            assert set(matching) == set(by_topic)
        assert self.subscription.gaps == 0


class World:
    """A broker, a network, agents."""

    def __init__(self, seed: int, faults: Sequence[Fault]) -> None:
        self.source = random.Random(seed)
        self.broker = MemoryBroker(clock=asyncio.get_running_loop().time)
        self.broker.commit_delay = self.source.choice([0.0, 0.01, 0.2])
        self.networks: list[FaultyTransport] = []
        self.faults = faults
        self.refusals = 0.0
        self.broker.verdict = self._verdict
        self.publishers = [self._agent(f"p{number}", window=self.source.choice([3, 50, 4096])) for number in range(3)]
        self.listeners = [self._agent(f"l{number}") for number in range(3)]
        self.readers: list[Reader] = []
        self.accepted: list[tuple[str, str, int, asyncio.Future[Receipt]]] = []

    def _agent(self, name: str, **options: Any) -> Agent:
        refuse = 0.1 if self.faults else 0.0
        network = FaultyTransport(self.broker.transport(), self.source, self.faults, refuse=refuse)
        self.networks.append(network)
        return Agent(name, group="g", transport=network, source=self.source, local=False, **options)

    def _verdict(self, pub: Pub) -> Err | None:
        if self.source.random() < self.refusals:
            code = self.source.choice(RETRYABLE)
            retry_after = self.source.choice([None, 0.0, 0.3])
            return Err(code=code, message="the world is bad", retry_after=retry_after)
        return None

    async def run(self, steps: int) -> None:
        for agent in (*self.publishers, *self.listeners):
            await agent.open()
        for step in range(steps):
            await self._publish()
            if step < steps // 2 and self.source.random() < 0.3:
                self._listen()
            await self._misfortune()
            await asyncio.sleep(self.source.random() * 0.5)
        await self._end_well()

    async def _publish(self) -> None:
        for _ in range(self.source.randrange(12)):
            agent = self.source.choice(self.publishers)
            topic = self.source.choice(TOPICS)
            number = len(self.accepted)
            data = number if self.source.random() < 0.9 else str(number).encode()
            self.accepted.append((agent.name, f"g/{topic}", number, await agent.submit(topic, data)))

    def _listen(self) -> None:
        agent = self.source.choice(self.listeners)
        topic = self.source.choice(TOPICS + PATTERNS)
        starts: list[Any] = ["new", "all", {"last": 5}]
        start = self.source.choice(starts)
        slow = self.source.random() < 0.3
        reader = Reader(
            f"{agent.name} {topic} {start} {len(self.readers)}",
            agent.subscribe(topic, start=start, buffer=self.source.choice([3, 30, 1000])),
            start,
            lambda: self.source.random() * 0.2 if slow and self.source.random() < 0.2 else 0.0,
        )
        self.readers.append(reader)

    async def _misfortune(self) -> None:
        step = self.source.random()
        if step < 0.05:
            self.broker.crash()
            await asyncio.sleep(self.source.random() * 2)
            self.broker.start()
        elif step < 0.08:
            self.broker.stop(reconnect_after=self.source.random())
            self.broker.start()
        elif step < 0.15 and self.broker.sessions:
            self.source.choice(self.broker.sessions).close(self.source.choice([1006, 1001, 4008, 4012]))
        elif step < 0.2:
            self.refusals = self.source.choice([0.0, 0.3])

    async def _end_well(self) -> None:
        """The network heals, and everything comes to its end."""
        for network in self.networks:
            network.healed = True
        self.refusals = 0.0
        self.broker.start()
        for agent in self.publishers:
            await agent.flush()
        for topic in TOPICS:  # one last message shows that every reader is there still
            self.accepted.append(("p0", f"g/{topic}", -1, await self.publishers[0].submit(topic, -1)))
        await self.publishers[0].flush()
        for _ in range(1000):
            if all(self._is_done(reader) for reader in self.readers):
                break
            await asyncio.sleep(1)
        for agent in (*self.publishers, *self.listeners):
            await agent.close()
        await asyncio.gather(*(reader.task for reader in self.readers))

    def _is_done(self, reader: Reader) -> bool:
        topic = reader.subscription.topic
        topics = [f"g/{name}" for name in TOPICS] if "*" in topic else [topic]
        heads = {message.topic: message.seq for message in reader.seen}
        return all(heads.get(name) == len(self.broker.stored(name)) for name in topics)

    def check(self) -> None:
        for name, topic, _, future in self.accepted:
            receipt = future.result()
            assert receipt.seq is not None
            stored = self.broker.stored(topic)[receipt.seq - 1]
            assert (stored.id, stored.sender, stored.topic) == (receipt.id, name, topic)
        for agent in self.publishers:
            for topic in (f"g/{name}" for name in TOPICS):
                ids = [f.result().id for name, t, _, f in self.accepted if (name, t) == (agent.name, topic)]
                assert [stored.id for stored in self.broker.stored(topic) if stored.sender == agent.name] == ids
            assert agent.stats.confirmed == agent.stats.published
        for reader in self.readers:
            reader.check(self.broker)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(12))
async def test_any_course(seed: int, network: str) -> None:
    world = World(seed, NETWORKS[network])
    await world.run(steps=60)
    world.check()
    assert codec.decode_value(bytes(world.broker.stored("g/a")[-1].data)) == -1


@pytest.mark.soak
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("seed", range(1000, 1100))
async def test_many_more_courses(seed: int, network: str) -> None:
    world = World(seed, NETWORKS[network])
    await world.run(steps=200)
    world.check()
