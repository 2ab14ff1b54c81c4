"""What an iterator sees: each message once, in order, wherever it began and whatever the connection did."""

import asyncio
import gc
import random
from itertools import pairwise
from typing import Any

import pytest

from hubbub import Agent, Forbidden, Gap, Message, MessageDecodeError
from hubbub.subscription import start_of
from hubbub.testing import MemoryBroker
from hubbub_protocol.frames import Err, From, Sub


async def take(subscription: Any, count: int) -> list[Message]:
    return [(await anext(subscription)) for _ in range(count)]


async def seqs(subscription: Any, count: int) -> list[int | None]:
    return [message.seq for message in await take(subscription, count)]


async def fill(agent: Agent, topic: str, count: int) -> None:
    for number in range(count):
        await agent.submit(topic, number)
    await agent.flush()


class TestStart:
    @pytest.mark.parametrize(
        ("start", "first"),
        [("new", 11), ("all", 1), ({"seq": 4}, 4), ({"seq": 11}, 11), ({"last": 3}, 8), ({"last": 0}, 11)],
    )
    async def test_each_form(self, joe: Agent, ann: Agent, start: Any, first: int) -> None:
        await fill(joe, "c", 10)
        subscription = ann.subscribe("c", start=start)
        await subscription.caught_up()
        await fill(joe, "c", 2)
        assert await seqs(subscription, 13 - first) == list(range(first, 13))

    async def test_since(self, joe: Agent, ann: Agent) -> None:
        await fill(joe, "c", 3)
        await asyncio.sleep(10)
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(10)
        await fill(joe, "c", 2)
        assert await seqs(ann.subscribe("c", start={"since": now}), 2) == [4, 5]

    @pytest.mark.parametrize(
        "start", ["newest", {}, {"seq": 0}, {"seq": 1, "last": 1}, {"last": -1}, {"since": "x"}, {"seq": "1"}, None, 3]
    )
    async def test_anything_else_is_refused(self, joe: Agent, start: Any) -> None:
        with pytest.raises(ValueError, match="start is"):
            joe.subscribe("c", start=start)

    def test_the_wire_form(self) -> None:
        assert start_of({"since": 3}) == From(since=3.0)


class TestRefusals:
    async def test_what_the_broker_refuses_ends_it(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.subscription_verdict = lambda sub: Err(code="forbidden", message="not yours")
        subscription = joe.subscribe("c")
        for attempt in (anext(subscription), subscription.ready(), subscription.caught_up()):
            with pytest.raises(Forbidden, match="not yours"):
                await attempt
        assert subscription.ended
        broker.subscription_verdict = None
        again = joe.subscribe("c")
        await again.ready()
        assert len(joe._board._serving) == 1

    async def test_what_it_cannot_take_now_is_asked_for_again(self, joe: Agent, broker: MemoryBroker) -> None:
        asked: list[float] = []
        loop = asyncio.get_running_loop()

        def verdict(sub: Sub) -> Err | None:
            asked.append(loop.time())
            if len(asked) < 5:
                return Err(code="overloaded", message="later", retry_after=7.0 if len(asked) == 1 else None)
            return None

        broker.subscription_verdict = verdict
        subscription = joe.subscribe("c")
        await subscription.ready()
        waits = [later - earlier for earlier, later in pairwise(asked)]
        assert waits == pytest.approx([7.0, 2.0, 4.0, 8.0], abs=0.01)
        await joe.publish("c", 1)
        assert (await anext(subscription)).seq == 1

    async def test_closed_while_it_is_put_off(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.subscription_verdict = lambda sub: Err(code="overloaded", message="later", retry_after=7.0)
        subscription = joe.subscribe("c")
        await asyncio.sleep(1)
        await subscription.close()
        broker.subscription_verdict = None
        await asyncio.sleep(20)
        assert [s.subs for s in broker.sessions] == [{}]
        assert len(joe._board.main.feeds) == 0

    async def test_a_disconnect_while_it_is_put_off(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.subscription_verdict = lambda sub: Err(code="overloaded", message="later", retry_after=7.0)
        subscription = joe.subscribe("c")
        await asyncio.sleep(1)
        broker.subscription_verdict = None
        broker.cut()
        await subscription.ready()
        await asyncio.sleep(20)
        await joe.publish("c", 1)
        assert (await anext(subscription)).seq == 1


class TestResume:
    @pytest.mark.parametrize("start", ["new", "all", {"last": 5}, {"seq": 3}])
    async def test_nothing_is_missed_and_nothing_comes_twice(
        self, joe: Agent, ann: Agent, broker: MemoryBroker, start: Any
    ) -> None:
        await fill(joe, "c", 10)
        subscription = ann.subscribe("c", start=start)
        await subscription.ready()
        received: list[int | None] = []
        source = random.Random(repr(start))
        for _ in range(20):
            count = source.randrange(1, 30)
            for number in range(count):
                await joe.submit("c", number)
            await asyncio.sleep(source.random())
            broker.cut(source.choice(["joe", "ann", None]))
        await joe.flush()
        total = broker.stored("g/c")[-1].seq
        while not received or received[-1] != total:
            received.append((await anext(subscription)).seq)
        assert received == list(range(received[0] or 0, (total or 0) + 1))
        assert received[0] == {"new": 11, "all": 1}.get(str(start), 6 if "last" in start else 3)
        assert subscription.gaps == 0

    async def test_a_pattern_resumes_in_every_topic(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        await fill(joe, "old", 3)
        subscription = ann.subscribe("g/*")
        await subscription.ready()
        source = random.Random(5)
        sent = 0
        for _ in range(20):
            for _ in range(source.randrange(1, 20)):
                await joe.submit(source.choice(["old", "a", "b", f"new-{source.randrange(30)}"]), sent)
                sent += 1
            await asyncio.sleep(source.random() * 3)
            broker.cut(source.choice(["joe", "ann", None]))
        await joe.flush()
        received = await take(subscription, sent)
        by_topic: dict[str, list[int | None]] = {}
        for message in received:
            by_topic.setdefault(message.topic, []).append(message.seq)
        for topic, numbers in by_topic.items():
            first = 4 if topic == "g/old" else 1
            assert numbers == list(range(first, first + len(numbers)))
        assert sorted(m.data for m in received) == list(range(sent))

    @pytest.mark.parametrize("start", ["all", {"since": 0}])
    async def test_an_interrupted_replay_of_a_pattern_goes_on(
        self, joe: Agent, ann: Agent, broker: MemoryBroker, start: Any
    ) -> None:
        for topic in range(10):
            await fill(joe, f"t{topic}", 50)
        subscription = ann.subscribe("g/*", start=start, buffer=10_000)
        received: list[Message] = []
        while not received:
            received.append(await anext(subscription))
        broker.cut("ann")
        received += await take(subscription, 499)
        assert len({(m.topic, m.seq) for m in received}) == 500
        await joe.publish("t3", "new")
        assert (await anext(subscription)).data == "new"

    async def test_a_lost_history_begins_again(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        await fill(joe, "c", 5)
        assert await seqs(subscription, 5) == [1, 2, 3, 4, 5]
        broker.reset("g/c")
        broker.cut()
        await joe.publish("c", "again")
        message = await anext(subscription)
        assert (message.seq, message.data) == (1, "again")
        await joe.publish("c", "and on")
        assert (await anext(subscription)).seq == 2
        assert subscription.gaps == 1

    async def test_what_comes_again_after_a_reset_is_dropped_by_its_id(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        subscription = ann.subscribe("c", start="all")
        await subscription.ready()
        await joe.publish("c", "one", id="one")
        assert (await anext(subscription)).data == "one"
        broker.reset("g/c")
        broker.cut("ann")
        await joe.publish("c", "one", id="one")
        await joe.publish("c", "two", id="two")
        assert (await anext(subscription)).data == "two"
        assert subscription.duplicates == 1

    async def test_retention_is_told_as_a_gap(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        told: list[Gap] = []
        subscription = ann.subscribe("c", on_gap=told.append)
        await subscription.ready()
        await fill(joe, "c", 3)
        assert await seqs(subscription, 3) == [1, 2, 3]
        await joe.wait_for("online")
        broker.cut("ann")
        await ann.wait_for("degraded")
        broker._running = False
        broker.start()
        session = next(s for s in broker.sessions if s.agent == "joe")
        assert session.agent == "joe"
        await fill(joe, "c", 10)
        broker.trim("g/c", 8)
        received = [(await anext(subscription)).seq]
        while received[-1] != 13:
            received.append((await anext(subscription)).seq)
        if told:
            assert (told[0].first, told[0].last, told[0].reason) == (4, 7, "retention")
            assert received == list(range(8, 14))
            assert ann.stats.gaps == 1
        else:
            assert received == list(range(4, 14))

    async def test_a_hole_that_nobody_told_of_is_told_as_a_gap(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        subscription = ann.subscribe("c", start="all")
        await subscription.ready()
        await fill(joe, "c", 1)
        assert await seqs(subscription, 1) == [1]
        session = next(s for s in broker.sessions if s.agent == "ann")
        session.subs["g/c"].next["g/c"] += 2
        await fill(joe, "c", 4)
        assert await seqs(subscription, 2) == [4, 5]
        assert subscription.gaps == 1


class TestSharing:
    async def test_live_iterators_of_one_topic_share_a_subscription(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        subscriptions = [ann.subscribe("c")]
        await subscriptions[0].caught_up()
        subscriptions += [ann.subscribe("c") for _ in range(50)]
        await fill(joe, "c", 5)
        for subscription in subscriptions:
            assert await seqs(subscription, 5) == [1, 2, 3, 4, 5]
        assert len(broker.sessions) == 2

    async def test_iterators_that_begin_elsewhere_see_everything_once_too(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        await fill(joe, "c", 300)
        live = ann.subscribe("c")
        everything = ann.subscribe("c", start="all")
        last = ann.subscribe("c", start={"last": 10})
        pattern = ann.subscribe("g/*", start="all")
        await live.ready()
        await everything.ready()
        publisher = asyncio.create_task(fill(joe, "c", 300))
        assert await seqs(everything, 600) == list(range(1, 601))
        assert await seqs(live, 300) == list(range(301, 601))
        assert await seqs(last, 310) == list(range(291, 601))
        assert await seqs(pattern, 600) == list(range(1, 601))
        await publisher
        await asyncio.sleep(20)
        # What stands at the same place has come together; the pattern keeps a connection of its own.
        assert ann._board.side_links == 1
        await fill(joe, "c", 1)
        for subscription in (live, everything, last, pattern):
            assert await seqs(subscription, 1) == [601]

    async def test_the_reconnect_of_a_side_link_loses_nothing(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        one, two = ann.subscribe("c"), ann.subscribe("g/*")
        await one.ready()
        await two.ready()
        source = random.Random(3)
        for _ in range(20):
            await fill(joe, "c", 5)
            source.choice(broker.sessions).close(1006)
            await asyncio.sleep(source.random())
        await fill(joe, "c", 1)
        assert await seqs(one, 101) == list(range(1, 102))
        assert await seqs(two, 101) == list(range(1, 102))

    async def test_a_side_link_is_closed_when_it_is_not_needed(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        one = ann.subscribe("g/*")
        two = ann.subscribe("g/c")
        await one.ready()
        await two.ready()
        assert len(broker.sessions) == 3
        await two.close()
        await asyncio.sleep(5)
        assert len(broker.sessions) == 3  # it lingers
        await asyncio.sleep(20)
        assert len(broker.sessions) == 2
        assert [s.session for s in broker.sessions if s.agent == "ann"] == [ann.session]

    async def test_more_than_the_side_links_wait_their_turn(self, joe: Agent, ann: Agent) -> None:
        held = [ann.subscribe("g/c" + "/x" * number + "/**") for number in range(1)]
        held += [ann.subscribe("**") for _ in range(17)]
        await fill(joe, "g/c/y", 1)
        waiting = [s for s in held if not s._box.ready.is_set()]
        assert ann._board.side_links <= 16
        for subscription in held:
            if subscription not in waiting:
                await subscription.close()
        for subscription in waiting:
            await asyncio.wait_for(subscription.ready(), 60)

    async def test_a_refused_side_link_ends_only_its_own(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        one = ann.subscribe("g/c")
        await one.ready()
        broker.authenticate = lambda agent, token: 4504
        two = ann.subscribe("g/*")
        with pytest.raises(Exception, match="too many connections"):
            await two.ready()
        await joe.publish("c", 1)
        assert (await anext(one)).seq == 1
        assert ann.state == "online"


class TestSlowReader:
    async def test_it_leaves_the_wire_and_goes_on_from_its_place(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        slow = ann.subscribe("c", start="all", buffer=10)
        quick = ann.subscribe("other")
        await slow.ready()
        await fill(joe, "c", 1000)
        await asyncio.sleep(1)
        assert slow.buffered < 500
        assert not any("g/c" in s.subs for s in broker.sessions if s.agent == "ann")
        await fill(joe, "other", 5)
        assert await seqs(quick, 5) == [1, 2, 3, 4, 5]
        assert await seqs(slow, 1000) == list(range(1, 1001))
        assert ann.stats.suspensions > 0
        assert slow.gaps == 0
        await fill(joe, "c", 1)
        assert await seqs(slow, 1) == [1001]

    async def test_it_delays_no_other_iterator_of_its_topic(self, joe: Agent, ann: Agent) -> None:
        quick = ann.subscribe("c")
        await quick.caught_up()
        slow = ann.subscribe("c", buffer=5)
        await fill(joe, "c", 500)
        assert await seqs(quick, 500) == list(range(1, 501))
        assert slow.buffered < 400
        assert await seqs(slow, 500) == list(range(1, 501))
        await fill(joe, "c", 3)
        assert await seqs(slow, 3) == await seqs(quick, 3) == [501, 502, 503]

    async def test_disconnects_while_it_is_away(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        slow = ann.subscribe("c", start="all", buffer=10)
        source = random.Random(9)
        received: list[int | None] = []
        for _ in range(40):
            await fill(joe, "c", source.randrange(1, 40))
            if source.random() < 0.3:
                broker.cut("ann")
            received += await seqs(slow, min(slow.buffered, source.randrange(40)))
        total = len(broker.stored("g/c"))
        received += await seqs(slow, total - len(received))
        assert received == list(range(1, total + 1))

    async def test_bytes_count_too(self, make_agent: Any, joe: Agent, broker: MemoryBroker) -> None:
        async with make_agent("eve", receive_bytes=20_000) as eve:
            slow = eve.subscribe("c", start="all")
            await slow.ready()
            for number in range(100):
                await joe.submit("c", str(number) * 5000)
            await joe.flush()
            await asyncio.sleep(1)
            assert slow.buffered < 100
            assert await seqs(slow, 100) == list(range(1, 101))

    async def test_signals_that_went_by_are_told(self, joe: Agent, ann: Agent) -> None:
        told: list[Gap] = []
        slow = ann.subscribe("c", buffer=4, on_gap=told.append)
        await slow.ready()
        for number in range(200):
            await joe.publish("c", number, ephemeral=True)
        received = [message.data for message in await slow.take(1000)]
        assert received == list(range(len(received)))
        await slow.ready()
        await asyncio.sleep(1)
        await joe.publish("c", "later", ephemeral=True)
        assert (await anext(slow)).data == "later"
        assert [gap.reason for gap in told] == ["slow"]


class TestLife:
    async def test_leaving_a_loop_by_break_leaves_the_wire(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        await fill(joe, "c", 2)
        async for _ in ann.subscribe("c", start="all"):
            break
        gc.collect()
        await asyncio.sleep(1)
        assert [s.subs for s in broker.sessions if s.agent == "ann"] == [{}]

    async def test_close_ends_the_iteration_after_what_was_read(self, joe: Agent, ann: Agent) -> None:
        async with ann.subscribe("c") as subscription:
            await subscription.ready()
            await fill(joe, "c", 3)
            await asyncio.sleep(1)
        assert [message.seq async for message in subscription] == [1, 2, 3]
        await subscription.close()

    async def test_closing_the_agent_ends_it_likewise(self, make_agent: Any, joe: Agent) -> None:
        async with make_agent("eve") as eve:
            subscription = eve.subscribe("c")
            await subscription.ready()
            await fill(joe, "c", 3)
            await asyncio.sleep(1)
        assert [message.seq async for message in subscription] == [1, 2, 3]

    async def test_subscribing_again_at_once_uses_the_same_connection(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        await fill(joe, "c", 3)
        for _ in range(5):
            async with ann.subscribe("c", start="all") as subscription:
                assert await seqs(subscription, 3) == [1, 2, 3]
        assert broker.connects == 2

    async def test_subscribed_and_closed_before_the_connection(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.crash()
        async with make_agent("eve") as eve:
            await eve.subscribe("c").close()
            kept = eve.subscribe("c")
            broker.start()
            await kept.ready()
            assert len(broker.sessions) == 1

    async def test_a_cancelled_read_loses_nothing(self, joe: Agent, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        for number in range(20):
            reading = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0)
            submitted = await joe.submit("c", number)
            for _ in range(number % 7):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                assert reading.result().data == number
            else:
                assert (await anext(subscription)).data == number
            await submitted

    async def test_several_readers_share_the_messages(self, joe: Agent, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        readers = [asyncio.create_task(take(subscription, 10)) for _ in range(5)]
        await asyncio.sleep(0)
        await fill(joe, "c", 50)
        received = [message.seq for taken in await asyncio.gather(*readers) for message in taken]
        assert sorted(n or 0 for n in received) == list(range(1, 51))


class TestHostileMessages:
    async def test_unreadable_data_hurts_only_whoever_reads_it(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        session = next(s for s in broker.sessions if s.agent == "ann")
        head = b'{"op":"msg","topic":"g/c","id":"%d","from":"eve","ts":1,"lc":1,"seq":%d,'
        session.send_line(head % (1, 1) + b'"data":1e999999}')
        session.send_line(head % (2, 2) + b'"data":2,"headers":1e999999}')
        session.send_line(head % (3, 3) + b'"data":3,"headers":[1]}')
        session.send_line(head % (4, 4) + b'"data":4,"headers":{"in_reply_to":7,"vc":{"a":"b"}}}')
        one, two, three, four = await take(subscription, 4)
        with pytest.raises(MessageDecodeError):
            _ = one.data
        assert one.seq == 1
        with pytest.raises(MessageDecodeError):
            _ = two.headers
        assert two.data == 2
        assert three.data == 3
        with pytest.raises(MessageDecodeError):
            _ = three.headers
        assert four.in_reply_to is None
        assert four.vector_clock is None

    async def test_unreadable_lines_are_counted_and_passed_over(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        session = next(s for s in broker.sessions if s.agent == "ann")
        deep = (
            b'{"op":"msg","topic":"g/c","id":"1","from":"eve","ts":1,"lc":1,"data":'
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}"
        )
        for line in (b"nonsense", b'{"op":"msg"}', b"[]", b"", b'{"op":"future"}', deep):
            session.send_line(line)
        await joe.publish("c", 1)
        assert (await anext(subscription)).data == 1
        assert ann.stats.bad_frames == 5
        assert ann.state == "online"
