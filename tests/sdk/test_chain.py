"""The header `hops`: filled in where the SDK knows what caused a message, and nowhere else."""

import asyncio
from typing import Any

import pytest

from hubbub import Agent, Message


async def heard(subscription: Any) -> Message:
    async with asyncio.timeout(5):
        message: Message = await anext(subscription)
        return message


async def test_what_a_handler_publishes_says_how_far_it_is_from_the_first(joe: Agent, ann: Agent) -> None:
    out = ann.subscribe("out")
    await out.ready()

    @joe.on("in")
    async def relay(message: Message) -> None:
        await joe.publish("middle", message.data)

    @joe.on("middle")
    async def relay_on(message: Message) -> None:
        await asyncio.create_task(joe.submit("out", message.data, headers={"k": 1}))

    await ann.publish("in", "x")
    message = await heard(out)
    cause = message.headers["cause"]
    assert message.headers == {"hops": 2, "k": 1, "cause": {"topic": "g/middle", "id": cause["id"]}}
    assert message.hops == 2
    await ann.publish("in", "x", headers={"hops": 7})
    assert (await heard(out)).hops == 9


@pytest.mark.real_time
async def test_a_plain_handler_in_a_thread_counts_too(joe: Agent, ann: Agent) -> None:
    out = ann.subscribe("out")
    await out.ready()
    loop = asyncio.get_running_loop()

    @joe.on("in")
    def relay(message: Message) -> None:
        asyncio.run_coroutine_threadsafe(joe.publish("out", message.data), loop).result(5)

    await ann.publish("in", "x")
    assert (await heard(out)).hops == 1


async def test_an_answer_says_so_outside_of_a_handler(joe: Agent, ann: Agent) -> None:
    mine, its = ann.subscribe("c"), joe.subscribe("c")
    await mine.ready()
    await its.ready()
    await ann.publish("c", 1)
    await (await heard(its)).reply(2)
    await heard(mine)
    answer = await heard(mine)
    assert (answer.hops, answer.parent is not None) == (1, True)
    await answer.reply(3, headers={"hops": 0})
    assert (await heard(mine)).hops == 0


async def test_who_reads_one_thing_and_publishes_another_begins_anew(joe: Agent, ann: Agent) -> None:
    mine, its = ann.subscribe("out"), joe.subscribe("in")
    await mine.ready()
    await its.ready()
    await ann.publish("in", 1, headers={"hops": 3})
    assert (await heard(its)).hops == 3
    await joe.publish("out", 2)  # a loop that reads and publishes: what led to what, only its author knows
    assert (await heard(mine)).headers == {}


async def test_a_handler_may_begin_something_new(joe: Agent, ann: Agent) -> None:
    out = ann.subscribe("out")
    await out.ready()

    @joe.on("in")
    async def begin(message: Message) -> None:
        await joe.publish("out", 1, headers={"hops": 0})

    await ann.publish("in", 1, headers={"hops": 30})
    assert (await heard(out)).headers == {"hops": 0}


async def test_a_header_that_is_no_count_is_none(ann: Agent) -> None:
    mine = ann.subscribe("c")
    await mine.ready()
    for odd in ("9", -1, 1.5, None):
        await ann.publish("c", 1, headers={"hops": odd})
        assert (await heard(mine)).hops == 0


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.real_time
async def test_a_consumer_s_handler_counts_too(joe: Agent, ann: Agent, threaded: bool) -> None:
    out = ann.subscribe("out")
    await out.ready()
    loop = asyncio.get_running_loop()
    if threaded:

        @joe.on("in", consumer="workers", start="all")
        def work(message: Message) -> None:
            asyncio.run_coroutine_threadsafe(joe.publish("out", message.data), loop).result(5)
    else:

        @joe.on("in", consumer="workers", start="all")
        async def work_on(message: Message) -> None:
            await joe.publish("out", message.data)

    await ann.publish("in", 1, headers={"hops": 4})
    assert (await heard(out)).hops == 5
