"""Consumers against a broker in memory, in virtual time: settling, leases, draining, reconnects."""

import asyncio
import gc
from typing import Any

import pytest

from harness.until import until
from hubbub import (
    Agent,
    Closed,
    Conflict,
    Delivery,
    InvalidName,
    LeaseLost,
    Message,
    Refused,
    Reject,
    Rejected,
    Retry,
)
from hubbub.testing import MemoryBroker
from hubbub_protocol import codec
from hubbub_protocol.frames import Err, Sub


def dead_letters(broker: MemoryBroker) -> list[dict[str, Any]]:
    return [codec.decode_value(bytes(one.headers))["dead"] for one in broker.stored("g/_dead")]


def open_messages(broker: MemoryBroker) -> int:
    """What some consumer was given and has not settled."""
    consumers = broker._consumers._consumers
    return sum(len(place.open) for one in consumers for place in one.places.values())


class TestHandlers:
    async def test_each_message_is_one_members_and_returning_acks(self, make_agent: Any, broker: MemoryBroker) -> None:
        seen: list[tuple[str, Any]] = []
        agents = [make_agent(f"w{number}") for number in range(3)]
        for agent in agents:

            @agent.on("tasks", consumer="workers", max_unacked=4)
            async def work(msg: Delivery, name: str = agent.name) -> None:
                await asyncio.sleep(0.1)
                seen.append((name, msg.data))

        async with agents[0], agents[1], agents[2], make_agent("boss") as boss:
            for agent in agents:
                await agent.consumption("tasks", "workers").ready()
            for number in range(30):
                await boss.submit("tasks", number)
            await until(lambda: sum(agent.stats.acked for agent in agents) == 30)
        assert sorted(data for _, data in seen) == list(range(30))
        assert {name for name, _ in seen} == {"w0", "w1", "w2"}
        assert open_messages(broker) == 0

    async def test_no_more_run_than_concurrency_says(self, joe: Agent, ann: Agent) -> None:
        running = most = 0

        @joe.on("tasks", consumer="workers", max_unacked=8, concurrency=3)
        async def work(msg: Delivery) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        await joe.consumption("tasks", "workers").ready()
        for number in range(20):
            await ann.submit("tasks", number)
        await until(lambda: joe.stats.acked == 20)
        assert most == 3

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"max_unacked": 0}, "max_unacked"),
            ({"ack_wait": 0}, "ack_wait"),
            ({"max_deliver": -1}, "max_deliver"),
            ({"backoff": []}, "backoff"),
            ({"backoff": [-1]}, "backoff"),
            ({"concurrency": 17}, "concurrency"),
            ({"ack": "never"}, "never"),
            ({"exclusive": True, "ordered": "k"}, "exclude"),
        ],
    )
    async def test_options_out_of_range_are_told_at_once(self, joe: Agent, options: Any, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            joe.on("tasks", consumer="workers", **options)

    async def test_a_bad_name_and_options_without_a_consumer(self, joe: Agent) -> None:
        with pytest.raises(InvalidName):
            joe.on("tasks", consumer="a b")
        with pytest.raises(ValueError, match="consumer=NAME"):
            joe.on("tasks", max_unacked=3)

    async def test_options_reach_the_broker(self, make_agent: Any, broker: MemoryBroker) -> None:
        subs: list[Sub] = []

        def note(sub: Sub) -> Err | None:
            subs.append(sub)
            return None

        broker.subscription_verdict = note
        async with make_agent("joe") as joe:
            tasks = joe.consume(
                "tasks", "w", start="all", ack_wait=7, max_unacked=3, max_deliver=2, backoff=[1, 2], ordered="k"
            )
            await tasks.ready()
            await joe.consume("others", "w", exclusive=True).ready()
        one, two = subs
        assert (one.consumer, one.start, one.ack_wait, one.max_unacked, one.max_deliver) == ("w", "all", 7, 3, 2)
        assert (one.backoff, one.ordered, one.exclusive, two.exclusive) == ([1, 2], "k", False, True)

    async def test_an_agent_is_in_a_consumer_once(self, joe: Agent) -> None:
        tasks = joe.consume("tasks", "w")
        with pytest.raises(Conflict, match="already"):
            joe.consume("*", "w")
        joe.consume("tasks", "other")
        await tasks.close()
        await joe.consume("*", "w").close()

    async def test_two_handlers_of_one_consumer_are_told_before_the_agent_is_open(self, make_agent: Any) -> None:
        def work(msg: Delivery) -> None: ...

        joe = make_agent("joe")
        joe.on("tasks", consumer="w")(work)
        joe.on("tasks", consumer="other")(work)
        joe.on("tasks")(work)
        with pytest.raises(Conflict, match="already"):
            joe.on("*", consumer="w")(work)
        async with joe:
            await joe.consumption("tasks", "w").ready()
            await joe.consumption("tasks", "w").drain()
            joe.on("*", consumer="w")(work)

    async def test_a_refused_consumer_says_why(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.subscription_verdict = lambda _sub: Err(code="forbidden", message="not yours")
        tasks = joe.consume("tasks", "w")
        with pytest.raises(Rejected, match="not yours"):
            await anext(tasks)
        with pytest.raises(Rejected, match="not yours"):
            await tasks.ready()
        broker.subscription_verdict = None
        await joe.consume("tasks", "w").ready()

    async def test_a_consumer_that_is_put_off_comes_later(self, joe: Agent, broker: MemoryBroker) -> None:
        answers = [Err(code="overloaded", message="later", retry_after=5.0), None]
        broker.subscription_verdict = lambda _sub: answers.pop(0)
        await joe.consume("tasks", "w").ready()
        assert asyncio.get_running_loop().time() >= 5

    async def test_ordered_messages_of_a_key_follow_one_another(self, joe: Agent, ann: Agent) -> None:
        running: list[str] = []
        seen: list[tuple[str, int]] = []

        @joe.on("tasks", consumer="w", ordered="key", max_unacked=8)
        async def work(msg: Delivery) -> None:
            key = msg.headers["key"]
            assert key not in running
            running.append(key)
            await asyncio.sleep(0.5)
            running.remove(key)
            seen.append((key, msg.data))

        await joe.consumption("tasks", "w").ready()
        for number in range(12):
            await ann.submit("tasks", number, headers={"key": "ab"[number % 2]})
        await until(lambda: joe.stats.acked == 12)
        for key in "ab":
            assert [data for other, data in seen if other == key] == sorted(d for other, d in seen if other == key)

    async def test_an_ephemeral_message_is_handled_and_not_settled(self, joe: Agent, ann: Agent) -> None:
        seen: list[Any] = []

        @joe.on("tasks", consumer="w", ack="manual")
        async def work(msg: Delivery) -> None:
            seen.append(msg.data)
            await msg.ack()
            await msg.extend()

        await joe.consumption("tasks", "w").ready()
        await ann.publish("tasks", 1, ephemeral=True)
        await until(lambda: seen == [1])
        assert joe.stats.acked == 0
        assert joe.consumption("tasks", "w").unsettled == 0

    async def test_bytes_and_replies(self, joe: Agent, ann: Agent) -> None:
        @joe.on("tasks", consumer="w")
        async def work(msg: Delivery) -> None:
            await msg.reply(msg.data[::-1])

        await joe.consumption("tasks", "w").ready()
        answer = await ann.request("tasks", b"abc", timeout=10)
        assert answer.data == b"cba"

    async def test_a_plain_subscription_beside_a_consumer_of_the_same_topic(self, joe: Agent, ann: Agent) -> None:
        for number in range(300):
            await ann.submit("tasks", number)
        await ann.flush()
        plain = joe.subscribe("tasks", start="all")
        tasks = joe.consume("tasks", "w")  # its `live` comes while the plain one is replayed
        await tasks.caught_up()
        assert plain._box.live.is_set() is False
        for number in range(300, 303):
            await ann.publish("tasks", number)
        assert [(await anext(plain)).data for _ in range(303)] == list(range(303))
        assert [(await anext(tasks)).data for _ in range(3)] == [300, 301, 302]


class TestHowAHandlerEnds:
    async def test_an_exception_nacks_and_tells(self, make_agent: Any, ann: Agent, broker: MemoryBroker) -> None:
        told: list[tuple[BaseException, Message]] = []
        attempts: list[int] = []
        async with make_agent("joe", on_error=lambda error, msg: told.append((error, msg))) as joe:

            @joe.on("tasks", consumer="w", max_deliver=3, backoff=[1.0, 10.0])
            async def work(msg: Delivery) -> None:
                attempts.append(msg.attempt)
                raise ZeroDivisionError("no")

            await joe.consumption("tasks", "w").ready()
            await ann.publish("tasks", 1)
            await until(lambda: dead_letters(broker))
        assert attempts == [1, 2, 3]
        assert asyncio.get_running_loop().time() >= 11
        assert [type(error) for error, _ in told] == [ZeroDivisionError] * 3
        assert joe.stats.handler_errors == joe.stats.nacked == 3
        (dead,) = dead_letters(broker)
        assert (dead["reason"], dead["attempts"], dead["consumer"]) == ("ZeroDivisionError: no", 3, "w")

    async def test_retry_says_when(self, joe: Agent, ann: Agent) -> None:
        loop = asyncio.get_running_loop()
        times: list[float] = []

        @joe.on("tasks", consumer="w")
        async def work(msg: Delivery) -> None:
            times.append(loop.time())
            if msg.attempt == 1:
                raise Retry("busy", after=77.0)

        await joe.consumption("tasks", "w").ready()
        await ann.publish("tasks", 1)
        await until(lambda: joe.stats.acked == 1, seconds=100)
        assert times[1] - times[0] == pytest.approx(77, abs=1)
        assert joe.stats.handler_errors == 0

    async def test_reject_is_the_end(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        @joe.on("tasks", consumer="w")
        async def work(msg: Delivery) -> None:
            raise Reject("makes no sense")

        await joe.consumption("tasks", "w").ready()
        await ann.publish("tasks", {"the": "data"})
        await until(lambda: dead_letters(broker))
        assert dead_letters(broker)[0]["reason"] == "makes no sense"
        assert bytes(broker.stored("g/_dead")[0].data) == b'{"the":"data"}'
        await until(lambda: joe.stats.terminated == 1)

    async def test_a_poison_message_holds_nobody_up(self, joe: Agent, ann: Agent) -> None:
        seen: list[int] = []

        @joe.on("tasks", consumer="w", concurrency=1, max_unacked=2)
        async def work(msg: Delivery) -> None:
            if msg.data == 0:
                raise ValueError("poison")
            seen.append(msg.data)

        await joe.consumption("tasks", "w").ready()
        for number in range(10):
            await ann.publish("tasks", number)
        await until(lambda: joe.stats.acked == 9)
        assert sorted(seen) == list(range(1, 10))

    async def test_acks_are_confirmed_before_the_handler_with_receipt(self, joe: Agent, broker: MemoryBroker) -> None:
        at_work: list[int] = []

        @joe.on("tasks", consumer="w", ack="receipt")
        async def work(msg: Delivery) -> None:
            at_work.append(open_messages(broker))
            raise ValueError("too late")

        await joe.consumption("tasks", "w").ready()
        await joe.publish("tasks", 1)
        await until(lambda: joe.stats.handler_errors == 1)
        await asyncio.sleep(100)
        assert at_work == [0]
        assert (joe.stats.acked, joe.stats.nacked) == (1, 0)

    async def test_manual_settling(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        @joe.on("tasks", consumer="w", ack="manual", backoff=[1.0])
        async def work(msg: Delivery) -> None:
            if msg.data == "later" and msg.attempt == 1:
                await msg.nack(delay=3, reason="later")
            elif msg.data == "never":
                await msg.term("never")
            elif msg.data == "fails" and msg.attempt == 1:
                raise ValueError("x")
            else:
                await msg.extend()
                await msg.ack()
                assert open_messages(broker) < 4
                await msg.ack()
                with pytest.raises(Conflict, match="settled already"):
                    await msg.nack()

        await joe.consumption("tasks", "w").ready()
        for data in ("now", "later", "never", "fails"):
            await ann.publish("tasks", data)
        await until(lambda: open_messages(broker) == 0)
        assert joe.stats.acked == 3
        assert dead_letters(broker)[0]["reason"] == "never"


class TestLeases:
    async def test_a_handler_of_an_hour_needs_no_tuning(self, make_agent: Any, ann: Agent) -> None:
        begun: list[str] = []
        one, two = make_agent("one"), make_agent("two")
        for agent in (one, two):

            @agent.on("tasks", consumer="w", ack_wait=30)
            async def work(msg: Delivery, name: str = agent.name) -> None:
                begun.append(name)
                await asyncio.sleep(3600)

        async with one, two:
            for agent in (one, two):
                await agent.consumption("tasks", "w").ready()
            await ann.publish("tasks", 1)
            await until(lambda: one.stats.acked + two.stats.acked == 1, step=1, seconds=4000)
        assert len(begun) == 1
        assert 300 <= one.stats.extended + two.stats.extended <= 480

    async def test_what_waits_for_its_turn_is_kept_too(self, joe: Agent, ann: Agent) -> None:
        attempts: list[int] = []

        @joe.on("tasks", consumer="w", ack_wait=10, max_unacked=5, concurrency=1)
        async def work(msg: Delivery) -> None:
            attempts.append(msg.attempt)
            await asyncio.sleep(60)

        await joe.consumption("tasks", "w").ready()
        for number in range(5):
            await ann.publish("tasks", number)
        await until(lambda: joe.stats.acked == 5, step=1, seconds=400)
        assert attempts == [1] * 5

    async def test_a_lease_that_the_broker_gave_to_another_ends_the_handler(
        self, make_agent: Any, ann: Agent, broker: MemoryBroker
    ) -> None:
        told: list[BaseException] = []
        cancelled: list[Delivery] = []
        async with make_agent("joe", on_error=lambda error, _msg: told.append(error)) as joe:

            @joe.on("tasks", consumer="w", ack_wait=30)
            async def work(msg: Delivery) -> None:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    cancelled.append(msg)
                    raise

            await joe.consumption("tasks", "w").ready()
            await ann.publish("tasks", 1)
            await until(lambda: open_messages(broker) == 1)
            other = ann.consume("tasks", "w")
            await other.ready()
            consumer = broker._consumers._consumers[0]
            place = consumer.places["g/tasks"]
            broker._consumers._run_out(consumer, place, 1)  # the broker's clock ran ahead
            msg = await anext(other)
            assert msg.attempt == 2
            await until(lambda: cancelled)
            assert [type(error) for error in told] == [LeaseLost]
            assert joe.stats.leases_lost == 1
            assert cancelled[0].lost.is_set()
            await msg.ack()
            await other.close()
        assert joe.stats.acked == 0

    async def test_a_long_disconnect_ends_the_handler_when_its_lease_would(
        self, make_agent: Any, broker: MemoryBroker
    ) -> None:
        loop = asyncio.get_running_loop()
        ended: list[float] = []
        async with make_agent("joe") as joe:

            @joe.on("tasks", consumer="w", ack_wait=30)
            async def work(msg: Delivery) -> None:
                try:
                    await asyncio.sleep(1000)
                finally:
                    ended.append(loop.time())

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", 1)
            await asyncio.sleep(100)
            cut_at = loop.time()
            broker.crash()
            await until(lambda: ended, seconds=40)
            assert 15 <= ended[0] - cut_at <= 30.1
            assert joe.stats.leases_lost == 1

    async def test_what_comes_again_after_a_reconnect_is_not_begun_twice(
        self, make_agent: Any, broker: MemoryBroker
    ) -> None:
        begun: list[int] = []
        async with make_agent("joe") as joe:

            @joe.on("tasks", consumer="w", ack_wait=30, backoff=[1.0])
            async def work(msg: Delivery) -> None:
                begun.append(msg.attempt)
                await asyncio.sleep(300)

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", 1)
            for _ in range(3):
                await asyncio.sleep(20)
                broker.cut("joe")
                await joe.wait_for("online")
            await until(lambda: joe.stats.acked == 1, step=1, seconds=400)
        assert begun == [1]
        assert joe.stats.adopted == 3
        assert joe.stats.conflicts == 0
        assert open_messages(broker) == 0

    async def test_an_ack_that_was_not_answered_is_said_again(self, make_agent: Any, broker: MemoryBroker) -> None:
        begun: list[Any] = []
        async with make_agent("joe") as joe:

            @joe.on("tasks", consumer="w", dedup=None)
            async def work(msg: Delivery) -> None:
                begun.append(msg.data)
                broker.crash()

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", 1)
            await until(lambda: begun)
            await asyncio.sleep(5)
            assert joe.stats.acked == 0
            broker.start()
            await until(lambda: joe.stats.acked == 1)
        assert begun == [1]
        assert joe.stats.received == 1, "the ack was there before the subscription: it was not even delivered again"
        assert open_messages(broker) == 0

    async def test_an_ack_that_comes_too_late_is_counted_and_no_error(
        self, make_agent: Any, ann: Agent, broker: MemoryBroker
    ) -> None:
        release = asyncio.Event()
        async with make_agent("joe") as joe:

            @joe.on("tasks", consumer="w", ack_wait=1000)
            async def work(msg: Delivery) -> None:
                await release.wait()

            await joe.consumption("tasks", "w").ready()
            other = ann.consume("tasks", "w", max_unacked=1)
            await other.ready()
            await joe.publish("tasks", 1)
            await joe.publish("tasks", 2)
            msg = await anext(other)
            broker._running = False
            broker.cut("joe")
            await msg.ack()
            again = await anext(other)
            assert again.attempt == 2
            release.set()
            await asyncio.sleep(1)
            broker.start()
            await until(lambda: joe.stats.conflicts == 1)
            assert joe.stats.handler_errors == 0
            await again.ack()
            await other.close()

    async def test_acks_of_one_turn_leave_together(self, joe: Agent, broker: MemoryBroker) -> None:
        go = asyncio.Event()

        @joe.on("tasks", consumer="w", max_unacked=50)
        async def work(msg: Delivery) -> None:
            await go.wait()

        await joe.consumption("tasks", "w").ready()
        for number in range(50):
            await joe.submit("tasks", number)
        await until(lambda: open_messages(broker) == 50)
        acks: list[Any] = []
        settle = broker.settle

        def note(session: Any, frame: Any) -> None:
            acks.append(frame)
            settle(session, frame)

        broker.settle = note  # type: ignore[method-assign]
        go.set()
        await until(lambda: joe.stats.acked == 50)
        assert len(acks) == 1
        assert sorted(acks[0].seqs) == list(range(1, 51))

    async def test_one_conflict_among_many_acks_hurts_only_itself(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        go = asyncio.Event()

        @joe.on("tasks", consumer="w", max_unacked=5)
        async def work(msg: Delivery) -> None:
            await go.wait()

        await joe.consumption("tasks", "w").ready()
        for number in range(5):
            await joe.submit("tasks", number)
        await until(lambda: open_messages(broker) == 5)
        other = ann.consume("tasks", "w")
        await other.ready()
        consumer = broker._consumers._consumers[0]
        place = consumer.places["g/tasks"]
        place.open[3].last = None
        broker._consumers._fail(consumer, place, 3, "test", 0.0)
        msg = await anext(other)
        go.set()
        await until(lambda: joe.stats.acked == 4)
        await until(lambda: joe.stats.conflicts == 1)
        await msg.ack()
        await other.close()


class TestIterating:
    async def test_messages_are_taken_and_settled(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        async with joe.consume("tasks", consumer="w", ack_wait=5) as tasks:
            await tasks.ready()
            await ann.publish("tasks", 1)
            await ann.publish("tasks", 2)
            one, two = await anext(tasks), await anext(tasks)
            await asyncio.sleep(100)
            assert (one.attempt, one.lost.is_set(), tasks.unsettled) == (1, False, 2)
            await one.ack()
            await two.nack(delay=0)
            again = await anext(tasks)
            assert (again.seq, again.attempt) == (2, 2)
            await again.term("enough")
        assert open_messages(broker) == 0
        with pytest.raises(StopAsyncIteration):
            await anext(tasks)

    async def test_what_nobody_holds_any_more_goes_to_another(self, joe: Agent, ann: Agent) -> None:
        async with joe.consume("tasks", consumer="w", ack_wait=5, max_unacked=1) as tasks:
            await tasks.ready()
            await ann.publish("tasks", 1)
            message: Delivery | None = await anext(tasks)
            assert message is not None
            other = ann.consume("tasks", consumer="w")
            await other.ready()
            message = None
            gc.collect()
            again = await anext(other)
            assert again.attempt == 2
            await again.ack()
            await other.close()

    async def test_what_nobody_held_is_handed_out_when_it_comes_again(self, joe: Agent, broker: MemoryBroker) -> None:
        async with joe.consume("tasks", consumer="w", ack_wait=1000) as tasks:
            await tasks.ready()
            await joe.publish("tasks", 1)
            message: Delivery | None = await anext(tasks)
            assert message is not None
            message = None
            gc.collect()
            broker.cut("joe")
            again = await anext(tasks)
            assert again.attempt == 2
            await again.ack()

    async def test_an_ack_after_the_lease_was_lost_raises_and_is_not_sent(
        self, joe: Agent, broker: MemoryBroker
    ) -> None:
        tasks = joe.consume("tasks", consumer="w", ack_wait=5)
        await tasks.ready()
        await joe.publish("tasks", 1)
        message = await anext(tasks)
        broker.crash()
        await until(message.lost.is_set)
        with pytest.raises(LeaseLost):
            await message.ack()
        with pytest.raises(LeaseLost):
            await message.extend()
        broker.start()
        again = await anext(tasks)
        assert again.attempt == 2
        await again.ack()

    async def test_closing_gives_back_what_was_not_taken(self, joe: Agent, ann: Agent) -> None:
        async with joe.consume("tasks", consumer="w") as tasks:
            await tasks.ready()
            for number in range(5):
                await ann.publish("tasks", number)
            first = await anext(tasks)
            await first.ack()
        await until(lambda: joe.stats.returned == 4)
        other = ann.consume("tasks", consumer="w")
        assert [((await anext(other)).data) for _ in range(4)] == [1, 2, 3, 4]
        assert ann.stats.acked == 0

    async def test_it_ends_with_the_agent(self, make_agent: Any) -> None:
        async with make_agent("joe") as joe:
            tasks = joe.consume("tasks", consumer="w")
            await tasks.ready()
        with pytest.raises(StopAsyncIteration):
            await anext(tasks)
        with pytest.raises(Closed):
            joe.consume("tasks", consumer="w")


class TestTheEnd:
    async def test_an_agent_that_is_refused_stops_its_handlers_and_tells_its_iterators(
        self, make_agent: Any, broker: MemoryBroker
    ) -> None:
        cancelled: list[Delivery] = []
        joe = make_agent("joe")
        await joe.open()

        @joe.on("tasks", consumer="w")
        async def work(msg: Delivery) -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled.append(msg)
                raise

        tasks = joe.consume("others", "w")
        await joe.consumption("tasks", "w").ready()
        await tasks.ready()
        await joe.publish("tasks", 1)
        await joe.publish("others", 1)
        held = await anext(tasks)
        broker.cut("joe", code=4503)
        await joe.wait_for("closed")
        for asking in (anext(tasks), held.ack(), tasks.ready()):
            with pytest.raises(Refused):
                await asking
        await until(lambda: len(cancelled) == 1)
        assert cancelled[0].lost.is_set()
        await joe.close()

    async def test_an_ack_that_waits_is_told_when_the_agent_ends(self, make_agent: Any, broker: MemoryBroker) -> None:
        async with make_agent("joe", drain=1) as joe:
            tasks = joe.consume("tasks", "w", ack_wait=1000)
            await tasks.ready()
            await joe.publish("tasks", 1)
            message = await anext(tasks)
            broker.mute = True
            acking = asyncio.create_task(message.ack())
            await asyncio.sleep(0.1)
        with pytest.raises(Closed):
            await acking


class TestDraining:
    async def test_what_runs_is_finished_and_the_rest_is_given_back(
        self, make_agent: Any, ann: Agent, broker: MemoryBroker
    ) -> None:
        done: list[int] = []
        async with make_agent("joe") as joe:

            @joe.on("tasks", consumer="w", max_unacked=6, concurrency=2)
            async def work(msg: Delivery) -> None:
                await asyncio.sleep(5)
                done.append(msg.data)

            await joe.consumption("tasks", "w").ready()
            for number in range(6):
                await ann.publish("tasks", number)
            await until(lambda: open_messages(broker) == 6)
            await joe.consumption("tasks", "w").drain(60)
            assert done == [0, 1]
            assert (joe.stats.acked, joe.stats.returned) == (2, 4)
            assert joe.state == "online"
            other = ann.consume("tasks", "w")
            taken = [await anext(other) for _ in range(4)]
            assert [(msg.data, msg.attempt) for msg in taken] == [(2, 1), (3, 1), (4, 1), (5, 1)]
            await other.close()

    async def test_closing_the_agent_drains(self, make_agent: Any, ann: Agent, broker: MemoryBroker) -> None:
        done: list[int] = []
        async with make_agent("joe", drain=60) as joe:

            @joe.on("tasks", consumer="w", max_unacked=4, concurrency=1)
            async def work(msg: Delivery) -> None:
                await asyncio.sleep(5)
                await joe.publish("results", msg.data)
                done.append(msg.data)

            await joe.consumption("tasks", "w").ready()
            for number in range(4):
                await ann.publish("tasks", number)
            await until(lambda: open_messages(broker) == 4)
        assert done == [0]
        assert (joe.stats.acked, joe.stats.returned) == (1, 3)
        assert len(broker.stored("g/results")) == 1
        assert open_messages(broker) == 3

    async def test_what_does_not_finish_in_time_is_cancelled_and_left(
        self, make_agent: Any, ann: Agent, broker: MemoryBroker
    ) -> None:
        loop = asyncio.get_running_loop()
        cancelled: list[bool] = []
        async with make_agent("joe", drain=3) as joe:

            @joe.on("tasks", consumer="w")
            async def work(msg: Delivery) -> None:
                try:
                    await asyncio.sleep(500)
                except asyncio.CancelledError:
                    cancelled.append(msg.lost.is_set())
                    raise

            await joe.consumption("tasks", "w").ready()
            await ann.publish("tasks", 1)
            await until(lambda: open_messages(broker) == 1)
            before = loop.time()
        assert loop.time() - before == pytest.approx(3, abs=0.1)
        assert cancelled == [True]
        assert (joe.stats.acked, joe.stats.nacked, joe.stats.leases_lost) == (0, 0, 0)
        other = ann.consume("tasks", "w")
        assert (await anext(other)).attempt == 2
        await other.close()

    async def test_draining_while_the_broker_is_away_ends_in_time(self, make_agent: Any, broker: MemoryBroker) -> None:
        loop = asyncio.get_running_loop()
        async with make_agent("joe", drain=3) as joe:
            release = asyncio.Event()

            @joe.on("tasks", consumer="w")
            async def work(msg: Delivery) -> None:
                await release.wait()

            await joe.consumption("tasks", "w").ready()
            await joe.publish("tasks", 1)
            await until(lambda: open_messages(broker) == 1)
            broker.crash()
            await joe.wait_for("degraded")
            release.set()
            before = loop.time()
        assert loop.time() - before <= 3.1
