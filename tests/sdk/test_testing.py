"""The broker in memory keeps to the protocol, so that a test that passes on it means something."""

import asyncio
from typing import Any

import pytest

from hubbub import Agent, Message
from hubbub.subscription import Subscription
from hubbub.testing import MemoryBroker, any_of, refuse_times
from hubbub_protocol.frames import Pub


async def take(subscription: Subscription, count: int) -> list[Message]:
    return [(await anext(subscription)) for _ in range(count)]


async def test_an_answer_waits_for_what_it_answers(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    answer = await joe.submit("c", "answer", parent="question")
    await asyncio.sleep(1)
    assert broker.stored("g/c") == []
    await ann.publish("c", "question", id="question")
    assert (await answer).seq == 2
    assert not broker.stored("g/c")[1].orphan


async def test_and_goes_out_as_an_orphan_after_its_time(joe: Agent, broker: MemoryBroker) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await joe.publish("c", "answer", parent="never")
    assert loop.time() - before == pytest.approx(broker.hold_seconds, abs=0.1)
    assert broker.stored("g/c")[0].orphan


async def test_what_has_expired_is_not_replayed_and_is_told(joe: Agent, ann: Agent) -> None:
    for data, ttl in [("a", None), ("short", 1.0), ("b", 100.0)]:
        await joe.publish("c", data, ttl=ttl)
    await asyncio.sleep(10)
    subscription = ann.subscribe("c", start="all")
    assert [m.data for m in await take(subscription, 2)] == ["a", "b"]
    assert subscription.gaps == 1


async def test_a_crash_loses_what_was_not_stored_and_nothing_else(joe: Agent, broker: MemoryBroker) -> None:
    await joe.publish("c", 1)
    broker.commit_delay = 5.0
    future = await joe.submit("c", 2)
    await asyncio.sleep(1)
    broker.crash()
    assert len(broker.stored("g/c")) == 1
    broker.start()
    receipt = await future
    assert (receipt.seq, receipt.dup) == (2, False)


async def test_lamport_timestamps(joe: Agent, broker: MemoryBroker) -> None:
    await joe.publish("a", 1)
    await joe.publish("b", 1)
    await joe.publish("a", 1)
    assert [m.lc for m in broker.stored("g/a")] == [1, 3]
    assert broker.topics == ["g/a", "g/b"]


async def test_verdicts() -> None:
    pub = Pub(topic="g/c", id="1")
    verdict = any_of(refuse_times(1, "overloaded"), refuse_times(2, "internal", retry_after=1.0))
    given = [verdict(pub) for _ in range(4)]
    assert [None if err is None else err.code for err in given] == ["overloaded", "internal", "internal", None]


async def test_the_first_word_is_hello(broker: MemoryBroker) -> None:
    end = broker.accept("ws://x", {})
    await end.send(b'{"op":"ping"}')
    await asyncio.sleep(0.1)
    with pytest.raises(Exception, match="4501"):
        await end.receive()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", "bad_request"),
        (b'{"op":"sub","topic":"g","rid":1}', "bad_request"),
        (b'{"op":"unsub","topic":"g/c","rid":1}', "not_found"),
        (b'{"op":"ack","topic":"g/c","consumer":"x","seq":1,"rid":1}', "not_found"),
        (b'{"op":"pub","topic":"nowhere","id":"1","data":1}', "bad_request"),
    ],
)
async def test_refusals(broker: MemoryBroker, line: bytes, code: str) -> None:
    end = broker.accept("ws://x", {})
    await end.send(b'{"op":"hello","agent":"joe"}\n' + line)
    await asyncio.sleep(0.1)
    assert f'"code":"{code}"'.encode() in await end.receive()


async def test_a_subscription_twice_is_a_conflict(broker: MemoryBroker) -> None:
    end = broker.accept("ws://x", {})
    sub: Any = b'{"op":"sub","topic":"g/c","rid":%d}'
    await end.send(b'{"op":"hello","agent":"joe"}\n' + sub % 1 + b"\n" + sub % 2)
    await asyncio.sleep(0.1)
    assert b'"code":"conflict"' in await end.receive()
