"""Subscriptions and consumers that want only a part of a topic: `where` and `select` in the SDK."""

import asyncio
from typing import Any

import pytest

from hubbub import Agent, Message
from hubbub.testing import MemoryBroker


async def take(subscription: Any, count: int) -> list[Message]:
    async with asyncio.timeout(30):
        return [(await anext(subscription)) for _ in range(count)]


async def publish(agent: Agent, numbers: range) -> None:
    futures = [await agent.submit("c", {"n": n, "text": "t"}, type="even" if n % 2 == 0 else "odd") for n in numbers]
    await asyncio.gather(*futures)


async def test_it_gets_what_it_wants_and_holes_are_no_gaps(joe: Agent, ann: Agent) -> None:
    await publish(joe, range(5))
    subscription = ann.subscribe("c", "all", where={"type": "even"}, select=["data.n"])
    await subscription.caught_up()
    await publish(joe, range(5, 9))
    messages = await take(subscription, 5)
    assert [m.data for m in messages] == [{"n": n} for n in (0, 2, 4, 6, 8)]
    assert [m.seq for m in messages] == [1, 3, 5, 7, 9]
    assert (subscription.gaps, ann.stats.gaps) == (0, 0)


async def test_it_comes_back_behind_what_it_was_told_of(
    joe: Agent, make_agent: Any, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Any] = []
    real = broker.subscribe

    def subscribe(session: Any, sub: Any) -> None:
        starts.append(sub.start)
        real(session, sub)

    monkeypatch.setattr(broker, "subscribe", subscribe)
    async with make_agent("ann") as ann:
        subscription = ann.subscribe("c", where={"type": "odd"})
        pattern = ann.subscribe("d/*", where={"type": "odd"})
        await subscription.caught_up()
        await pattern.caught_up()
        for _ in range(20):
            await joe.publish("c", 0, type="even")
            await joe.publish("d/e", 0, type="even")
        await asyncio.sleep(0.1)
        starts.clear()
        broker.cut("ann")
        await ann.wait_for("degraded")
        await ann.wait_for("online")
        await subscription.ready()
        await publish(joe, range(1, 2))
        await joe.publish("d/e", 1, type="odd")
        assert [m.seq for m in await take(subscription, 1)] == [21]
        assert [m.seq for m in await take(pattern, 1)] == [21]
        assert [getattr(start, "seq", None) for start in starts if start.seq] == [17]
        assert [start.after for start in starts if start.since is not None] == [{"d/e": 16}]


async def test_each_disconnect_repeats_nothing_and_misses_nothing(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    subscription = ann.subscribe("c", "all", where={"data.n": {">=": 10}}, buffer=5)
    for start in range(0, 60, 20):
        await publish(joe, range(start, start + 20))
        broker.cut("ann")
    assert [m.data["n"] for m in await take(subscription, 50)] == list(range(10, 60))


async def test_other_wishes_of_the_same_topic_get_their_own(joe: Agent, ann: Agent) -> None:
    wishes: list[Any] = [{}, {"where": {"type": "odd"}}, {"select": "data.n"}, {"where": {"type": "odd"}}]
    subscriptions = [ann.subscribe("c", "all", **wish) for wish in wishes]
    for subscription in subscriptions:
        await subscription.caught_up()
    await publish(joe, range(4))
    plain, odd, numbers, odd_again = subscriptions
    assert [m.data for m in await take(plain, 4)] == [{"n": n, "text": "t"} for n in range(4)]
    assert [m.data["n"] for m in await take(odd, 2)] == [1, 3]
    assert [m.data["n"] for m in await take(odd_again, 2)] == [1, 3]
    assert [m.data for m in await take(numbers, 4)] == [{"n": n} for n in range(4)]


async def test_agents_of_the_process_hear_what_they_want_while_the_broker_is_away(
    make_agent: Any, broker: MemoryBroker
) -> None:
    options = {"local": True, "url": "ws://wants.test"}
    async with make_agent("joe", **options) as joe, make_agent("ann", **options) as ann:
        for agent in (joe, ann):
            await agent.wait_for("online")
        subscription = ann.subscribe("c", where={"type": "odd"}, select=["data.n"])
        await subscription.caught_up()
        broker.crash()
        await joe.wait_for("degraded")
        await ann.wait_for("degraded")
        futures = [
            await joe.submit("c", {"n": n, "x": 0}, type="odd" if n % 2 else "even", headers={"h": 1}) for n in range(4)
        ]
        heard = await take(subscription, 2)
        assert [(m.local, m.data, m.headers) for m in heard] == [(True, {"n": 1}, {}), (True, {"n": 3}, {})]
        broker.start()
        await asyncio.gather(*futures)
        await joe.publish("c", {"n": 5}, type="odd")
        assert (await anext(subscription)).data == {"n": 5}
        assert subscription.duplicates == 2


async def test_consumers_and_handlers(joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
    done: list[Any] = []
    seen: list[Any] = []
    both = asyncio.Event()

    def note(where: list[Any], data: Any) -> None:
        where.append(data)
        if len(done) == len(seen) == 2:
            both.set()

    @ann.on("c", consumer="w", start="all", where={"type": "odd"}, select=["data.n"])
    async def work(message: Message) -> None:
        note(done, message.data)

    @ann.on("c", start="all", where={"type": "even"})
    async def look(message: Message) -> None:
        note(seen, message.data["n"])

    await publish(joe, range(4))
    await both.wait()
    assert (done, seen) == ([{"n": 1}, {"n": 3}], [0, 2])


@pytest.mark.parametrize(
    "wish", [{"where": {"colour": 1}}, {"where": {"type": {"in": "x"}}}, {"select": ["type"]}, {"where": {"id": {1}}}]
)
async def test_what_makes_no_sense_is_said_at_once(ann: Agent, wish: Any) -> None:
    with pytest.raises(ValueError):
        ann.subscribe("c", **wish)
    with pytest.raises(ValueError):
        ann.on("c", **wish)
    with pytest.raises(ValueError):
        ann.consume("c", consumer="w", **wish)
