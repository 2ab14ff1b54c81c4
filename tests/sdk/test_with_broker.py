"""The same agents against the real broker, in a process that can be killed."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.broker import BrokerProcess
from hubbub import Agent, BadRequest, Message
from hubbub.subscription import Subscription

pytestmark = [pytest.mark.real_time, pytest.mark.slow]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One broker for all these tests: starting one takes longer than most of them."""
    broker = BrokerProcess(tmp_path_factory.mktemp("broker") / "data", heartbeat=5)
    yield broker
    broker.kill()


@pytest.fixture
async def real(process: BrokerProcess) -> BrokerProcess:
    if process._process is None:
        process.start()
    await process.wait_ready()
    return process


@pytest.fixture
def make(real: BrokerProcess, request: pytest.FixtureRequest) -> Any:
    """An agent in a group of the test's own."""
    group = request.node.name.removeprefix("test_")

    def make(name: str, **options: Any) -> Agent:
        url = f"ws://127.0.0.1:{real.port}"
        return Agent(name, **{"group": group, "url": url, "local": False, **options})

    return make


async def take(subscription: Subscription, count: int) -> list[Message]:
    async with asyncio.timeout(30):
        return [(await anext(subscription)) for _ in range(count)]


async def restart(real: BrokerProcess) -> None:
    real.kill()
    real.start()
    await real.wait_ready()


async def test_the_first_example(make: Any) -> None:
    async with make("librarian", group="research") as librarian, make("joe", group="research") as joe:

        @librarian.on("research/@librarian")
        async def answer_questions(msg: Message) -> None:
            await msg.reply({"a": msg.data["q"]})

        await librarian.wait_for("online", timeout=10)
        conv = joe.topic("conv-42")
        receipt = await conv.publish({"text": "hello"})
        assert receipt.seq == 1
        async for msg in conv.subscribe(start="all"):
            reply = await msg.reply({"text": "hi"})
            assert reply.seq == 2
            break
        answer = await joe.request("research/@librarian", {"q": "..."}, timeout=20)
        assert answer.data == {"a": "..."}


async def test_bytes_headers_signals_and_refusals(make: Any) -> None:
    async with make("joe") as joe, make("ann") as ann:
        subscription = ann.subscribe("c")
        async with asyncio.timeout(10):
            await subscription.caught_up()
        await joe.submit("c", b"\0\1\n", headers={"k": [1]})
        await joe.submit("c", "now", ephemeral=True)
        refused = await joe.submit("c", "x", type="t" * 300)
        await joe.submit("c", "after")
        one, two, three = await take(subscription, 3)
        assert (one.data, one.headers, one.seq) == (b"\0\1\n", {"k": [1]}, 1)
        assert (two.data, two.ephemeral, two.seq) == ("now", True, None)
        assert (three.data, three.seq) == ("after", 2)
        with pytest.raises(BadRequest, match="type"):
            await refused


async def test_iterators_of_one_topic_at_different_places(make: Any) -> None:
    async with make("joe") as joe, make("ann") as ann:
        for number in range(300):
            await joe.submit("c", number)
        await joe.flush()
        subscriptions = {
            start: ann.subscribe("c", start="all" if start else "new", buffer=buffer)
            for start, buffer in ((0, 50), (1, 50), (2, 1000))
        }
        async with asyncio.timeout(10):
            await subscriptions[0].caught_up()
        pattern = ann.subscribe("*", start="all")
        for number in range(300, 900):
            await joe.submit("c", number)
        for start, subscription in (*subscriptions.items(), (3, pattern)):
            first = 1 if start else 301
            assert [m.seq for m in await take(subscription, 901 - first)] == list(range(first, 901))


async def test_the_broker_is_killed_again_and_again(real: BrokerProcess, make: Any) -> None:
    source = random.Random(4)
    publishers = [make(f"p{number}") for number in range(4)]
    reader = make("reader")
    for agent in (*publishers, reader):
        await agent.open()
        await agent.wait_for("online", timeout=20)
    topics = ["a", "b", "c"]
    subscriptions = {topic: reader.subscribe(topic, start="all", buffer=100) for topic in (*topics, "*")}
    for subscription in subscriptions.values():
        async with asyncio.timeout(10):
            await subscription.ready()
    sent: list[tuple[str, str, int, Any]] = []
    stop = asyncio.Event()

    async def publish(agent: Agent) -> None:
        while not stop.is_set():
            topic = source.choice(topics)
            number = len(sent)
            entry = (agent.name, f"{reader.group}/{topic}", number)
            future = await agent.submit(topic, number)
            sent.append((*entry, future))
            if number % 5 == 0:
                await asyncio.sleep(0.005)  # the load, not a wait

    received: dict[str, list[Message]] = {topic: [] for topic in subscriptions}

    complete = asyncio.Event()

    def is_complete() -> bool:
        return stop.is_set() and sum(map(len, received.values())) == 2 * len(sent)

    async def read(topic: str) -> None:
        async for message in subscriptions[topic]:
            received[topic].append(message)
            if is_complete():
                complete.set()

    readers = [asyncio.create_task(read(topic)) for topic in subscriptions]
    tasks = [asyncio.create_task(publish(agent)) for agent in publishers]
    for _ in range(3):
        await asyncio.sleep(source.random() * 0.4)
        await restart(real)
    stop.set()
    await asyncio.gather(*tasks)
    for agent in publishers:
        async with asyncio.timeout(30):
            await agent.flush()
    receipts = [future.result() for *_, future in sent]
    total = {
        f"{reader.group}/{topic}": sum(1 for _, t, *_ in sent if t == f"{reader.group}/{topic}") for topic in topics
    }
    async with asyncio.timeout(30):
        if not is_complete():
            await complete.wait()
    for topic in topics:
        assert [m.seq for m in received[topic]] == list(range(1, total[f"{reader.group}/{topic}"] + 1))
        in_pattern = [m for m in received["*"] if m.topic == f"{reader.group}/{topic}"]
        assert [(m.seq, m.id) for m in in_pattern] == [(m.seq, m.id) for m in received[topic]]
    place = {(m.topic, m.seq): m.id for m in received["*"]}
    for (name, topic, _, _), receipt in zip(sent, receipts, strict=True):
        assert place[topic, receipt.seq] == receipt.id, name
    for agent in publishers:
        own = [m.data for m in received["a"] if m.sender == agent.name]
        assert own == sorted(own)
    for agent in (*publishers, reader):
        await agent.close()
    await asyncio.gather(*readers)


async def test_what_was_spooled_by_a_former_life(real: BrokerProcess, make: Any, tmp_path: Path) -> None:
    real.kill()
    joe = make("joe", spool=tmp_path / "joe.spool")
    await joe.open()
    for number in range(50):
        await joe.submit("c", number)
    await joe.close(drain=0)
    real.start()
    await real.wait_ready()
    async with make("joe", spool=tmp_path / "joe.spool") as joe:
        assert [m.data for m in await take(joe.subscribe("c", start="all"), 50)] == list(range(50))


async def test_sigterm_is_a_pause(real: BrokerProcess, make: Any) -> None:
    async with make("joe") as joe:
        subscription = joe.subscribe("c", start="all")
        for number in range(100):
            await joe.submit("c", number)
        await joe.wait_for("online", timeout=10)
        assert await asyncio.to_thread(real.terminate) == 0
        await joe.wait_for("degraded", timeout=10)
        await joe.submit("c", 100)
        real.start()
        await real.wait_ready()
        assert [m.data for m in await take(subscription, 101)] == list(range(101))


async def test_a_filtered_subscription_over_crashes_of_the_broker(make: Any, real: BrokerProcess) -> None:
    async with make("joe") as joe, make("ann") as ann:
        subscription = ann.subscribe("c", "all", where={"type": "odd", "data.n": {">": 2}}, select=["data.n"])
        for round in range(3):
            numbers = range(round * 300, round * 300 + 300)
            futures = [await joe.submit("c", {"n": n, "x": "y"}, type="odd" if n % 2 else "even") for n in numbers]
            await asyncio.gather(*futures)
            await restart(real)
        messages = await take(subscription, 449)
        assert [m.data for m in messages] == [{"n": n} for n in range(3, 900, 2)]
        assert [m.seq for m in messages] == [n + 1 for n in range(3, 900, 2)]
        assert subscription.gaps == 0
