"""Presence: who is in a topic, and who comes and goes."""

import asyncio
from typing import Any

import pytest

from hubbub import Agent, HubbubError, InvalidName, PresenceEvent, Unencodable, Will
from hubbub.testing import MemoryBroker
from hubbub_protocol.frames import Gap


async def test_who_is_there_and_who_comes_and_goes(joe: Agent, ann: Agent) -> None:
    async with joe.topic("c").presence() as here:
        assert here.agents == {"joe"}
        assert await anext(here) == PresenceEvent("join", "joe")
        heard: list[PresenceEvent] = []
        here.on_change(heard.append)
        async with ann.topic("c").presence() as theirs:
            assert theirs.agents == {"ann", "joe"}
            assert await anext(here) == ("join", "ann")
            assert here.agents == {"ann", "joe"}
        assert await anext(here) == ("leave", "ann")
        assert (set(here.agents), heard) == ({"joe"}, [PresenceEvent("join", "ann"), PresenceEvent("leave", "ann")])
    with pytest.raises(StopAsyncIteration):
        await anext(here)


async def test_join_and_leave(joe: Agent, ann: Agent) -> None:
    conv, theirs = joe.topic("c"), ann.topic("c")
    assert await conv.join() == {"joe"}
    assert await conv.join() == {"joe"}
    assert await theirs.join() == {"ann", "joe"}
    await conv.leave()
    await conv.leave()
    with pytest.raises(HubbubError, match="join"):
        await conv.present()
    async with joe.topic("c").presence() as here:
        assert here.agents == {"ann", "joe"}
    await theirs.leave()


async def test_who_drops_has_left_and_is_back_with_its_connection(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    async with joe.topic("c").presence() as here, ann.topic("c").presence():
        assert [await anext(here) for _ in range(2)] == [("join", "joe"), ("join", "ann")]
        broker.cut("ann")
        assert [await anext(here) for _ in range(2)] == [("leave", "ann"), ("join", "ann")]


async def test_after_an_outage_it_knows_who_is_there_now(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    async with joe.topic("c").presence() as here:
        theirs = ann.topic("c").presence()
        async with theirs:
            assert [await anext(here) for _ in range(2)] == [("join", "joe"), ("join", "ann")]
            broker.crash()
            await joe.wait_for("degraded")
            assert here.agents == {"ann", "joe"}  # what was known last
        broker.start()
        while "ann" in here.agents:
            await anext(here)
        assert here.agents == {"joe"}


async def test_what_was_missed_is_asked_for(joe: Agent, broker: MemoryBroker) -> None:
    async with joe.topic("c").presence() as here:
        assert await anext(here) == ("join", "joe")
        here.answered(["ghost", "joe"])  # as if its going had been missed
        assert await anext(here) == ("join", "ghost")
        here._missed(Gap(topic="g/c", first=0, last=0, reason="slow", dropped=1))
        assert await anext(here) == ("leave", "ghost")


async def test_messages_of_the_topic_are_no_presence_and_lies_are_not_believed(joe: Agent, ann: Agent) -> None:
    async with joe.topic("c").presence() as here:
        assert await anext(here) == ("join", "joe")
        await ann.publish("c", {"event": "join", "agent": "eve"}, type="presence")
        await ann.publish("c", {"event": "join", "agent": "ann"})
        await ann.publish("c", b"x", type="presence")
        async with ann.topic("c").presence():
            assert await anext(here) == ("join", "ann")
        assert await anext(here) == ("leave", "ann")


async def test_it_ends_with_the_agent(make_agent: Any) -> None:
    async with make_agent("joe") as joe:
        here = joe.topic("c").presence()
        here.open()
        await here.ready()
        waiting = asyncio.create_task(anext(here))
        assert await waiting == ("join", "joe")
    with pytest.raises(StopAsyncIteration):
        await anext(here)


class TestWill:
    async def test_it_goes_with_every_hello(self, make_agent: Any, broker: MemoryBroker) -> None:
        will = Will("g/status", {"gone": True}, delay=3)
        async with make_agent("joe", will=will, capabilities=["a"], description="d") as joe:
            await joe.wait_for("online")
            assert [hello.will is not None for hello in broker.hellos] == [True]
            broker.cut("joe")
            async with asyncio.timeout(60):
                while len(broker.hellos) < 2:  # noqa: ASYNC110 - virtual time
                    await asyncio.sleep(0.01)
        for hello in broker.hellos:
            assert hello.will is not None
            assert (hello.will.topic, bytes(hello.will.data), hello.will.delay) == ("g/status", b'{"gone":true}', 3)
            assert (hello.capabilities, hello.description) == (["a"], "d")

    async def test_what_makes_no_sense_is_refused_at_once(self) -> None:
        for wrong, error in (
            ({"topic": "x"}, InvalidName),
            ({"topic": "g/c", "delay": -1}, ValueError),
            ({"topic": "g/c", "data": object()}, Unencodable),
        ):
            with pytest.raises(error):
                Will(**wrong)
