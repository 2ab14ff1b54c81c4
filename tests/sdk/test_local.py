"""Agents of one process while the broker is away: they go on hearing one another, once and in order."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubbub import Agent, Backoff, Message
from hubbub.local import _hubs
from hubbub.testing import MemoryBroker

URL = "ws://local.test"


@pytest.fixture
def make_local(make_agent: Any) -> Any:
    return lambda name, **options: make_agent(name, **{"local": True, "url": URL, **options})


async def take(subscription: Any, count: int) -> list[Message]:
    return [(await anext(subscription)) for _ in range(count)]


async def degraded(*agents: Agent) -> None:
    for agent in agents:
        await agent.wait_for("degraded")


@asynccontextmanager
async def outage(make_local: Any, broker: MemoryBroker) -> AsyncIterator[tuple[Agent, Agent]]:
    """The broker is away, after it has taken a message of joe's. He will be back at once, and ann much later."""
    async with make_local("joe") as joe, make_local("ann", backoff=Backoff(base=30.0, cap=30.0)) as ann:
        for agent in (joe, ann):
            await agent.wait_for("online")
        await joe.publish("c", "long before")
        broker.crash()
        await degraded(joe, ann)
        yield joe, ann


async def test_they_hear_one_another_at_once_and_the_rest_once_it_is_back(
    make_local: Any, broker: MemoryBroker
) -> None:
    async with make_local("joe") as joe, make_local("ann") as ann, make_local("far", local=False) as far:
        for agent in (joe, ann, far):
            await agent.wait_for("online")
        near, own, distant = ann.subscribe("c"), joe.subscribe("c"), far.subscribe("c")
        for subscription in (near, own, distant):
            await subscription.caught_up()
        await joe.publish("c", "stored")
        broker.crash()
        await degraded(joe, ann, far)
        futures = [await joe.submit("c", "one"), await joe.submit("c", b"two"), await ann.submit("c", "three")]
        for subscription in (near, own):
            heard = await take(subscription, 4)
            assert [m.data for m in heard] == ["stored", "one", b"two", "three"]
            assert [m.local for m in heard] == [False, True, True, True]
            assert [m.seq for m in heard] == [1, None, None, None]
            assert heard[1].lc > heard[0].lc
        assert distant.buffered == 1
        broker.start()
        receipts = [await future for future in futures]
        assert sorted(r.seq or 0 for r in receipts) == [2, 3, 4]
        assert sorted(str(m.data) for m in await take(distant, 4)) == ["b'two'", "one", "stored", "three"]
        await joe.publish("c", "live again")
        for subscription in (near, own, distant):
            message = await anext(subscription)
            assert (message.data, message.seq, message.local) == ("live again", 5, False)
        assert ann.stats.local == 3
    assert _hubs == {}


async def test_before_the_first_connection_too(make_local: Any, broker: MemoryBroker) -> None:
    broker.crash()
    async with make_local("joe") as joe, make_local("ann") as ann:
        subscription = ann.subscribe("g/*")
        await joe.submit("c", "while connecting")
        await degraded(joe, ann)
        await joe.submit("c", "while degraded")
        assert [m.data for m in await take(subscription, 2)] == ["while connecting", "while degraded"]
        broker.start()
        await joe.flush()
        await subscription.ready()
        await joe.publish("c", "after")
        assert (await anext(subscription)).data == "after"


async def test_a_reader_of_history_gets_it_from_the_broker_in_its_order(make_local: Any, broker: MemoryBroker) -> None:
    async with make_local("joe") as joe, make_local("ann") as ann:
        await joe.wait_for("online")
        await joe.publish("c", 1)
        broker.crash()
        await degraded(joe, ann)
        await joe.submit("c", 2)
        subscription = ann.subscribe("c", start="all")
        await joe.submit("c", 3)
        assert subscription.buffered == 0
        broker.start()
        received = await take(subscription, 3)
        assert [(m.data, m.seq, m.local) for m in received] == [(1, 1, False), (2, 2, False), (3, 3, False)]


async def test_who_missed_the_publishers_last_message_waits_for_the_broker(
    make_local: Any, broker: MemoryBroker
) -> None:
    """ann lost her connection before she got joe's second message; his third must not come before it."""
    async with make_local("joe") as joe, make_local("ann") as ann:
        await joe.wait_for("online")
        subscription = ann.subscribe("c")
        await subscription.caught_up()
        await joe.publish("c", 1)
        assert (await anext(subscription)).data == 1
        broker.cut("ann")
        await joe.publish("c", 2)
        broker.crash()
        await degraded(joe, ann)
        await joe.submit("c", 3)
        assert subscription.buffered == 0
        broker.start()
        assert [(m.data, m.seq) for m in await take(subscription, 2)] == [(2, 2), (3, 3)]


async def test_a_new_reader_in_the_middle_of_an_outage_hears_what_is_new(make_local: Any, broker: MemoryBroker) -> None:
    broker.crash()
    async with make_local("joe") as joe, make_local("ann") as ann:
        await degraded(joe, ann)
        await joe.submit("c", "before its time")
        subscription = ann.subscribe("c")
        await joe.submit("c", "heard")
        assert (await anext(subscription)).data == "heard"
        broker.start()
        await joe.flush()
        await subscription.ready()
        await joe.publish("c", "after")
        assert (await anext(subscription)).data == "after"


@pytest.mark.parametrize("topic", ["c", "g/*"])
async def test_a_reader_that_began_in_an_outage_misses_nothing_of_what_follows(
    make_local: Any, broker: MemoryBroker, topic: str
) -> None:
    """It comes back later than those who publish: what the broker has taken meanwhile belongs to it, too."""
    async with outage(make_local, broker) as (joe, ann):
        await joe.submit("c", "before its time")
        await asyncio.sleep(1)  # in virtual time
        subscription = ann.subscribe(topic)
        await joe.submit("c", "heard")
        assert (await anext(subscription)).data == "heard"
        broker.start()
        await joe.wait_for("online")
        await joe.publish("c", "while it is away")
        assert ann.state == "degraded"
        await subscription.ready()
        await joe.publish("c", "live")
        assert [(m.data, m.seq) for m in await take(subscription, 2)] == [("while it is away", 4), ("live", 5)]


@pytest.mark.parametrize("topic", ["c", "g/*"])
async def test_what_was_said_between_two_outages_is_not_overtaken(
    make_local: Any, broker: MemoryBroker, topic: str
) -> None:
    async with outage(make_local, broker) as (joe, ann):
        subscription = ann.subscribe(topic)
        await joe.submit("c", "heard")
        assert (await anext(subscription)).data == "heard"
        broker.start()
        await joe.wait_for("online")
        await joe.publish("c", "between")
        broker.crash()
        await joe.wait_for("degraded")
        await joe.submit("c", "must wait")
        assert ann.state == "degraded"
        assert subscription.buffered == 0
        broker.start()
        assert [m.data for m in await take(subscription, 2)] == ["between", "must wait"]


async def test_signals_are_heard_and_go_nowhere_else(make_local: Any, broker: MemoryBroker) -> None:
    async with make_local("joe") as joe, make_local("ann") as ann:
        subscription = ann.subscribe("c")
        await subscription.caught_up()
        broker.crash()
        await degraded(joe, ann)
        receipt = await joe.publish("c", "now", ephemeral=True)
        assert receipt.dropped
        message = await anext(subscription)
        assert (message.data, message.ephemeral, message.local) == ("now", True, True)


async def test_a_reply_to_a_local_message_finds_its_parent(make_local: Any, broker: MemoryBroker) -> None:
    async with make_local("joe") as joe, make_local("ann") as ann:
        heard, answers = ann.subscribe("c"), joe.subscribe("c")
        await heard.caught_up()
        await answers.caught_up()
        broker.crash()
        await degraded(joe, ann)
        await joe.submit("c", "question")
        replying = asyncio.create_task((await anext(heard)).reply("answer"))
        assert [m.data for m in await take(answers, 2)] == ["question", "answer"]
        broker.start()
        await replying
        await joe.flush()
        question, answer = broker.stored("g/c")
        assert answer.parent == question.id
        assert not answer.orphan


async def test_other_urls_and_those_who_do_not_want_hear_nothing(make_agent: Any, broker: MemoryBroker) -> None:
    broker.crash()
    async with (
        make_agent("joe", local=True, url=URL) as joe,
        make_agent("other", local=True, url="ws://elsewhere") as other,
        make_agent("apart", local=False, url=URL) as apart,
    ):
        await degraded(joe, other, apart)
        subscriptions = [other.subscribe("c"), apart.subscribe("c")]
        await joe.submit("c", 1)
        await asyncio.sleep(1)
        assert [s.buffered for s in subscriptions] == [0, 0]
        broker.start()


@pytest.mark.parametrize("seed", range(20))
async def test_any_course_of_outages(make_local: Any, broker: MemoryBroker, seed: int) -> None:
    """Every reader hears each message once, and each publisher's in order, however the outages fall."""
    source = random.Random(seed)
    agents = [make_local(f"a{number}") for number in range(4)]
    for agent in agents:
        await agent.open()
        await agent.wait_for("online")
    readers = [agent.subscribe(source.choice(["c", "g/*"])) for agent in agents]
    for reader in readers:
        await reader.caught_up()
    sent = 0
    for _ in range(30):
        for _ in range(source.randrange(8)):
            await source.choice(agents).submit("c", sent)
            sent += 1
            if source.random() < 0.3:
                await asyncio.sleep(source.random() * 0.2)
        step = source.random()
        if step < 0.3:
            broker.crash()
        elif step < 0.5:
            broker.cut(source.choice(agents).name)
        else:
            broker.start()
        await asyncio.sleep(source.random())
    broker.start()
    for agent in agents:
        await agent.flush()
    for reader in readers:
        received = await take(reader, sent)
        assert sorted(m.data for m in received) == list(range(sent)), f"seed {seed}"
        for agent in agents:
            own = [m.data for m in received if m.sender == agent.name]
            assert own == sorted(own), f"seed {seed}"
    await asyncio.sleep(1)
    assert [reader.buffered for reader in readers] == [0] * len(readers)
    for agent in agents:
        await agent.close()
