"""What became of tracked messages."""

import asyncio
import gc
from typing import Any

import pytest

from harness.until import until
from hubbub import Agent, Closed, Delivery, Outcome, Reject
from hubbub.outcomes import OUTCOMES_MAX, Tracked
from hubbub.testing import MemoryBroker


async def test_delivered_working_done(joe: Agent, ann: Agent) -> None:
    @joe.on("tasks", consumer="w", ack_wait=10)
    async def work(msg: Delivery) -> None:
        await asyncio.sleep(5)

    await joe.consumption("tasks", "w").ready()
    tracked = await ann.topic("tasks").publish_tracked(1)
    assert tracked.receipt is not None
    assert tracked.receipt.seq == 1
    states = [(outcome.state, outcome.by, outcome.consumer, outcome.seq) async for outcome in tracked]
    assert states == [(state, "joe", "w", 1) for state in ("delivered", "working", "done")]
    last = await tracked.done(timeout=1)
    assert (last.state, last.is_final) == ("done", True)


async def test_dead_and_why(joe: Agent, ann: Agent) -> None:
    @joe.on("tasks", consumer="w")
    async def work(msg: Delivery) -> None:
        raise Reject("nonsense")

    await joe.consumption("tasks", "w").ready()
    outcome = await (await ann.publish_tracked("tasks", 1)).done(timeout=10)
    assert (outcome.state, outcome.reason) == ("dead", "nonsense")


async def test_several_consumers_are_waited_for(joe: Agent, ann: Agent) -> None:
    slow, quick = joe.consume("tasks", "slow"), joe.consume("tasks", "quick")
    await slow.ready()
    await quick.ready()
    tracked = await ann.publish_tracked("tasks", 1, consumers=2)
    await (await anext(quick)).ack()
    with pytest.raises(TimeoutError):
        await tracked.done(timeout=10)
    await (await anext(slow)).ack()
    assert (await tracked.done(timeout=10)).consumer == "slow"
    with pytest.raises(ValueError, match="consumers"):
        await ann.publish_tracked("tasks", 1, consumers=0)


async def test_what_was_missed_comes_after_a_reconnect(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    tasks = joe.consume("tasks", "w")
    await tasks.ready()
    tracked = await ann.publish_tracked("tasks", 1)
    message = await anext(tasks)
    broker.cut("ann")
    await message.ack()
    assert (await tracked.done(timeout=60)).state == "done"


async def test_the_next_life_hears_through_its_hook(joe: Agent, make_agent: Any) -> None:
    tasks = joe.consume("tasks", "w")
    await tasks.ready()
    async with make_agent("ann") as ann:
        tracked = await ann.publish_tracked("tasks", 1, id="mine")
    with pytest.raises(Closed):
        await tracked.done()
    await (await anext(tasks)).ack()
    heard: list[Outcome] = []
    ann = make_agent("ann")
    ann.on_outcome(heard.append)
    async with ann:
        await until(lambda: [outcome.state for outcome in heard] == ["done"])
    assert heard[0].id == "mine"


async def test_a_receipt_that_comes_again_is_dropped() -> None:
    tracked = Tracked("g/tasks", "1")
    delivered = Outcome(id="1", topic="g/tasks", state="delivered", consumer="w", ts=1.0)
    done = Outcome(id="1", topic="g/tasks", state="done", consumer="w", ts=2.0)
    assert [tracked.take(one) for one in (delivered, delivered, done, delivered, done)] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert [outcome async for outcome in tracked] == [delivered, done]


async def test_what_is_kept_is_bounded(ann: Agent) -> None:
    tracked = Tracked("g/tasks", "1")
    for number in range(3 * OUTCOMES_MAX):
        tracked.take(Outcome(id="1", topic="g/tasks", state="working", consumer="w", ts=float(number)))
    assert len(tracked._waiting) == len(tracked._known) == OUTCOMES_MAX
    for number in range(10):
        await ann.publish_tracked("tasks", number)
    gc.collect()
    assert len(ann._outcomes._tracked) == 0


async def test_a_listener_that_fails_hurts_nobody(joe: Agent, ann: Agent) -> None:
    def fails(_outcome: Outcome) -> None:
        raise ValueError

    ann.on_outcome(fails)
    tasks = joe.consume("tasks", "w")
    await tasks.ready()
    tracked = await ann.publish_tracked("tasks", 1)
    await (await anext(tasks)).ack()
    assert (await tracked.done(timeout=10)).state == "done"
    assert ann.stats.outcomes == 2
