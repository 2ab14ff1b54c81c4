"""SIGKILL of the broker under load, again and again, at moments drawn from a seed.

Workload: publishers in pipelined form, readers of topics and patterns, some that join late, one that is slow; through
the SDK, and (apart from that) with nothing but the protocol.
Fault: the broker process is killed, sometimes while it is still starting, and started again on its directory.
Checker: what was answered `ok` is there, once, in order, with the same seq, as an independent replay finds; every
reader has every message exactly once and in order.

A failing run prints its seed: HUBBUB_TEST_SEED=N repeats its choices (not the operating system's).
"""

import asyncio
import os
import random
from collections.abc import Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.broker import BrokerProcess, broker_process
from harness.checkers import check, explain
from harness.history import Answer, History, Hole, Message, Reading
from harness.reaper import Progress, Reaper
from harness.resuming_client import ResumingPublisher, ResumingReader, read_all
from hubbub import Agent, Backoff, Receipt, Subscription
from hubbub_protocol.names import matcher

SETTLE_SECONDS = 60.0
"""How long everything may take to arrive when the last kill is over."""

TOPICS = ("red/one", "red/two", "blue/one", "blue/two", "green/one")
MANY = int(os.environ.get("HUBBUB_TEST_KILLS", "25"))
BROKER = {"segment_bytes": "256KiB", "dedup_entries": 50_000}
"""Small segments, so that kills also hit while one is being sealed."""


def drawn_seed() -> int:
    return int(os.environ.get("HUBBUB_TEST_SEED") or random.SystemRandom().randrange(2**32))


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, wait, and let nothing that went wrong in one go unseen."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


# Through the SDK ------------------------------------------------------------------------------------------------------


class SdkLoad:
    """Agents that talk for as long as the broker is being killed."""

    def __init__(self, url: str, source: random.Random, *, local: bool) -> None:
        self.history = History()
        self.answers = Progress()
        self.seen = Progress()
        self.source = source
        self._url = url
        self._local = local
        self._stack = AsyncExitStack()
        self._publishing: list[asyncio.Task[None]] = []
        self._reading: list[asyncio.Task[None]] = []
        self._publishers: list[Agent] = []
        self._subscriptions: list[Subscription] = []
        self.agents: list[Agent] = []
        self._stopping = False

    async def agent(self, name: str) -> Agent:
        backoff = Backoff(base=0.02, cap=0.2)
        drawn = random.Random(f"{name} {self.source.random()}")
        agent = Agent(name, url=self._url, backoff=backoff, source=drawn, local=self._local)
        self.agents.append(agent)
        return await self._stack.enter_async_context(agent)

    async def publisher(self, name: str, topics: tuple[str, ...], pause: float) -> None:
        agent = await self.agent(name)
        self._publishers.append(agent)
        self._publishing.append(asyncio.create_task(self._publish(agent, topics, pause), name=name))

    async def reader(
        self, name: str, pattern: str, start: Any = "all", *, first: int | None = 1, slow: bool = False
    ) -> None:
        agent = await self.agent(name)
        wanted = [topic for topic in TOPICS if matcher(pattern)(topic)]
        reading = self.history.reading(f"{name} on {pattern} from {start}", *wanted, start=first, local=self._local)

        def told(gap: Any) -> None:
            reading.told(Hole(gap.topic, gap.first, gap.last, gap.reason))

        subscription = agent.subscribe(pattern, start, buffer=8 if slow else None, on_gap=told)
        self._subscriptions.append(subscription)
        self._reading.append(asyncio.create_task(self._read(subscription, reading, slow=slow), name=name))

    async def _publish(self, agent: Agent, topics: tuple[str, ...], pause: float) -> None:
        count = 0
        while not self._stopping:
            for _ in range(self.source.randrange(1, 20)):
                count += 1
                await self._submit(agent, self.source.choice(topics), count)
            await asyncio.sleep(self.source.uniform(0, 2 * pause))  # the load, not a wait
        for topic in topics:
            count += 1
            await self._submit(agent, topic, count)

    async def _submit(self, agent: Agent, topic: str, count: int) -> None:
        id = f"{agent.name}-{count}"
        content: Any = count if count % 7 else b"%d" % count
        self.history.publishing(agent.name, topic, id, content)
        receipt = await agent.submit(topic, content, id=id)
        receipt.add_done_callback(lambda done: self._answered(agent.name, done))

    def _answered(self, sender: str, done: asyncio.Future[Receipt]) -> None:
        receipt = done.result()
        assert receipt.seq is not None
        self.history.answered.append(Answer(sender, receipt.topic, receipt.id, receipt.seq, receipt.dup))
        self.answers.step()

    async def _read(self, subscription: Subscription, reading: Reading, *, slow: bool) -> None:
        async for message in subscription:
            reading.saw(Message(message.topic, message.seq, message.id, message.sender, message.data))
            self.seen.step()
            if slow and not self._stopping:
                await asyncio.sleep(0.003)

    async def finish(self) -> None:
        """Let everyone hear something to the end, and wait until everything that was accepted is confirmed."""
        async with asyncio.timeout(SETTLE_SECONDS):
            for subscription in self._subscriptions:
                await subscription.ready()
            for agent in self.agents:
                await agent.wait_for("online")
            self._stopping = True
            await asyncio.gather(*self._publishing)
            for agent in self._publishers:
                await agent.flush()

    async def all_read(self) -> None:
        """Wait until every reader has reached the head of what it reads."""
        await self.seen.reach(lambda: not self.behind(), SETTLE_SECONDS, self.behind)

    def behind(self) -> list[str]:
        """Who lacks what."""
        heads = {topic: len(page) for topic, page in self.history.replay.items()}
        return [
            f"{reading.name} has {reading.head(topic)} of {heads[topic]} in {topic}"
            for reading in self.history.readings
            for topic in reading.topics
            if reading.head(topic) < heads[topic]
        ]

    async def close(self) -> None:
        await cancelled(self._reading)
        await self._stack.aclose()


@asynccontextmanager
async def load(broker: BrokerProcess, source: random.Random, *, local: bool) -> Any:
    running = SdkLoad(broker.url, source, local=local)
    try:
        yield running
    finally:
        await running.close()


async def kill_under_sdk_load(directory: Path, kills: int, seed: int, *, local: bool = False) -> str:
    source = random.Random(seed)
    async with broker_process(directory, **BROKER) as broker, load(broker, source, local=local) as running:
        for number in range(3):
            await running.reader(f"reader-{number}", TOPICS[number])
        await running.reader("hears-all", "**")
        await running.reader("hears-red", "red/*")
        await running.reader("hears-ones", "*/one")
        await running.reader("slow", "blue/two", slow=True)
        for number in range(4):
            await running.publisher(f"publisher-{number}", TOPICS[number : number + 2], 0.02)
        reaper = Reaper(broker, source, running.answers)
        killing = asyncio.create_task(reaper.run(kills))
        late = 0
        while not killing.done():
            await asyncio.wait([killing], timeout=source.uniform(0.2, 1.0))  # when the next one joins is drawn
            if late < 12:
                late += 1
                await join_late(running, source, late)
        await killing
        await running.finish()
        await read_all(broker.url, running.history, *TOPICS)
        await running.all_read()
        anomalies = check(running.history)
        assert anomalies == [], explain(anomalies, seed)
        reconnects = sum(agent.stats.reconnects for agent in running.agents)
        assert reconnects >= kills
        assert sum(agent.stats.duplicates for agent in running.agents) < running.seen.count
        return (
            f"{reaper.kills} kills, {len(running.history.answered)} messages, {running.seen.count} deliveries, "
            f"{reconnects} reconnects, {sum(answer.dup for answer in running.history.answered)} answered as duplicates"
        )


async def join_late(running: SdkLoad, source: random.Random, number: int) -> None:
    topic = source.choice(TOPICS)
    answered = [answer.seq for answer in running.history.answered if answer.topic == topic]
    place = source.randint(1, max(answered, default=1))
    choice = source.randrange(4)
    if choice == 0:
        await running.reader(f"late-{number}", topic, {"seq": place}, first=place)
    elif choice == 1:
        await running.reader(f"late-{number}", topic, {"last": source.randrange(50)}, first=None)
    elif choice == 2:
        await running.reader(f"late-{number}", "blue/**", "all")
    else:
        await running.reader(f"late-{number}", topic, "new", first=None)


async def test_three_kills_under_load_through_the_sdk(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_sdk_load(tmp_path / "d", 3, seed))


@pytest.mark.soak
@pytest.mark.kill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("local", [False, True], ids=["broker only", "local too"])
async def test_many_kills_under_load_through_the_sdk(tmp_path: Path, *, local: bool) -> None:
    """With `local`, agents hear one another while the broker is away: each message still comes once, and each
    publisher's in its order; only the order between publishers is then theirs to see before the broker decides it."""
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_sdk_load(tmp_path / "d", MANY, seed, local=local))


# With nothing but the protocol ----------------------------------------------------------------------------------------


async def kill_under_wire_load(directory: Path, kills: int, seed: int) -> str:
    source = random.Random(seed)
    history, answers, seen = History(), Progress(), Progress()
    async with broker_process(directory, **BROKER) as broker:
        publishers = [
            ResumingPublisher(history, answers, broker.url, f"publisher-{number}", TOPICS[number % 3])
            for number in range(4)
        ]
        readers = [
            ResumingReader(history.reading(f"reader-{number}", topic), seen, broker.url, topic)
            for number, topic in enumerate(TOPICS[:3])
        ]
        publishing = [asyncio.create_task(publisher.run()) for publisher in publishers]
        reading = [asyncio.create_task(reader.run()) for reader in readers]
        try:
            reaper = Reaper(broker, source, answers)
            killing = asyncio.create_task(reaper.run(kills))
            await asyncio.wait([killing, *publishing, *reading], return_when=asyncio.FIRST_COMPLETED)
            assert killing.done(), [task for task in (*publishing, *reading) if task.done()]
            await killing
            for publisher in publishers:
                publisher.stop()
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.gather(*publishing)
            await read_all(broker.url, history, *TOPICS[:3])
            heads = {topic: len(page) for topic, page in history.replay.items()}
            await seen.reach(
                lambda: all(page.head(topic) >= heads[topic] for page in history.readings for topic in page.topics),
                SETTLE_SECONDS,
                lambda: (heads, [{topic: page.head(topic) for topic in page.topics} for page in history.readings]),
            )
        finally:
            await cancelled([*publishing, *reading])
    anomalies = check(history)
    assert anomalies == [], explain(anomalies, seed)
    resent = sum(publisher.resent for publisher in publishers)
    duplicates = sum(publisher.duplicates for publisher in publishers)
    assert duplicates <= resent
    return (
        f"{reaper.kills} kills, {len(history.answered)} messages, {resent} sent again, {duplicates} were there already"
    )


async def test_three_kills_under_load_on_the_wire(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_wire_load(tmp_path / "d", 3, seed))


@pytest.mark.soak
@pytest.mark.kill
@pytest.mark.timeout(900)
async def test_many_kills_under_load_on_the_wire(tmp_path: Path) -> None:
    seed = drawn_seed()
    print(f"seed {seed}")
    print(await kill_under_wire_load(tmp_path / "d", MANY, seed))
