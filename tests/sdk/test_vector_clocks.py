"""Who could have known what: vector clocks in headers, for agents that ask for them."""

from typing import Any

import pytest

from hubbub import Agent, NoVectorClock


async def test_knowledge_flows_along_the_messages_that_were_read(make_agent: Any) -> None:
    async with (
        make_agent("ann", vector_clocks=True) as ann,
        make_agent("bob", vector_clocks=True) as bob,
        make_agent("eve", vector_clocks=True) as eve,
        make_agent("reader") as reader,
    ):
        everything = reader.subscribe("g/*", start="all")
        to_bob = bob.subscribe("questions")
        await to_bob.ready()
        await everything.caught_up()
        await ann.publish("questions", "q", headers={"mine": 1})
        await eve.publish("elsewhere", "meanwhile")
        await (await anext(to_bob)).reply("a")
        received = {message.data: message for message in [await anext(everything) for _ in range(3)]}
        question, answer, meanwhile = received["q"], received["a"], received["meanwhile"]
        assert question.headers["mine"] == 1
        assert question.vector_clock == {"ann": 1}
        assert answer.vector_clock == {"ann": 1, "bob": 1}
        assert question.happened_before(answer)
        assert not answer.happened_before(question)
        assert not question.concurrent_with(answer)
        assert meanwhile.concurrent_with(question)
        assert meanwhile.concurrent_with(answer)


async def test_lamport_timestamps_grow_along_them_too(joe: Agent, ann: Agent) -> None:
    to_ann = ann.subscribe("a")
    await to_ann.ready()
    for _ in range(10):
        await joe.publish("a", 1)
    for _ in range(10):
        await anext(to_ann)
    receipt = await ann.publish("other", 1)
    assert receipt.lc == 11


async def test_without_them_one_is_told(joe: Agent, ann: Agent) -> None:
    subscription = ann.subscribe("c")
    await subscription.ready()
    await joe.publish("c", 1)
    await joe.publish("c", 2, headers={"vc": "nonsense"})
    one, two = await anext(subscription), await anext(subscription)
    with pytest.raises(NoVectorClock, match="vector_clocks=True"):
        one.happened_before(two)
    with pytest.raises(NoVectorClock):
        two.concurrent_with(one)


async def test_a_malformed_one_teaches_nothing(joe: Agent, make_agent: Any) -> None:
    async with make_agent("eve", vector_clocks=True) as eve:
        subscription = eve.subscribe("c")
        await subscription.ready()
        clocks: tuple[Any, ...] = ({"a": -1}, {"a": "1"}, [], {"a": 1.5}, {"a": True})
        for clock in clocks:
            await joe.publish("c", 1, headers={"vc": clock})
            await anext(subscription)
        await eve.publish("c", 2)
        assert (await anext(subscription)).vector_clock in ({"eve": 1}, {"eve": 1, "a": True})
