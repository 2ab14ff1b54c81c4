"""The public face, against a broker in memory: publish, subscribe, reply, request, handlers, life."""

import asyncio
import math
from typing import Any

import pytest
from msgspec import Raw

from hubbub import (
    Agent,
    BadRequest,
    BufferFull,
    Closed,
    Expired,
    InvalidName,
    NotAllowed,
    Replaced,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    Undelivered,
    Unencodable,
)
from hubbub.testing import MemoryBroker, refuse_times
from hubbub_protocol import codec
from hubbub_protocol.frames import Err, Msg, Pub


async def take(subscription: Any, count: int) -> list[Any]:
    return [(await anext(subscription)) for _ in range(count)]


class TestPublish:
    async def test_the_first_example_works_as_it_is_written(self, broker: MemoryBroker, make_agent: Any) -> None:
        async with make_agent("librarian", group="research") as librarian, make_agent("joe", group="research") as joe:

            @librarian.on("research/@librarian")
            async def answer_questions(msg: Any) -> None:
                await msg.reply({"a": 42})

            conv = joe.topic("conv-42")
            receipt = await conv.publish({"text": "hello"})
            assert (receipt.seq, receipt.lc) == (1, 1)
            async for msg in conv.subscribe(start="all"):
                assert msg.data == {"text": "hello"}
                await msg.reply({"text": "hi"})
                break
            answer = await joe.request("research/@librarian", {"q": "..."}, timeout=30)
            assert answer.data == {"a": 42}
        first, second = broker.stored("research/conv-42")
        assert second.parent == first.id
        assert second.lc > first.lc

    async def test_fields_arrive_as_they_were_given(self, joe: Agent, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        await joe.publish(
            "g/c", [1, None, "é"], id="mine", parent=None, type="note", headers={"k": 1}, reply_to="g/@joe", ttl=60
        )
        message = await anext(subscription)
        assert (message.data, message.id, message.type, message.headers) == ([1, None, "é"], "mine", "note", {"k": 1})
        assert (message.topic, message.seq, message.sender, message.reply_to) == ("g/c", 1, "joe", "g/@joe")
        assert not message.orphan
        assert not message.ephemeral
        assert message.attempt == 1

    async def test_bytes_arrive_as_bytes_in_their_order(self, joe: Agent, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        payload = bytes(range(256))
        for data in ("before", payload, bytearray(b"\n{}"), "after"):
            await joe.submit("c", data)
        assert [m.data for m in await take(subscription, 4)] == ["before", payload, b"\n{}", "after"]

    async def test_the_same_id_is_stored_once(self, joe: Agent, broker: MemoryBroker) -> None:
        first = await joe.publish("c", 1, id="x")
        again = await joe.publish("c", 2, id="x")
        assert (again.seq, again.dup, first.dup) == (first.seq, True, False)
        assert len(broker.stored("g/c")) == 1

    async def test_two_of_one_id_to_different_topics_are_told_apart(self, joe: Agent, broker: MemoryBroker) -> None:
        futures = [await joe.submit(topic, topic, id="x") for topic in ("a", "b", "a", "c")]
        receipts = [await future for future in futures]
        assert [(r.topic, r.seq, r.dup) for r in receipts] == [
            ("g/a", 1, False),
            ("g/b", 1, False),
            ("g/a", 1, True),
            ("g/c", 1, False),
        ]

    async def test_pipelined_publishes_keep_their_order(self, joe: Agent, broker: MemoryBroker) -> None:
        futures = [await joe.submit("c", number) for number in range(500)]
        receipts = [await future for future in futures]
        assert [r.seq for r in receipts] == list(range(1, 501))
        assert [_data(m) for m in broker.stored("g/c")] == list(range(500))

    async def test_what_was_published_before_the_broker_was_there_arrives(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport()) as joe:
            await joe.wait_for("degraded")
            futures = [await joe.submit("c", number) for number in range(10)]
            broker.start()
            assert [(await f).seq for f in futures] == list(range(1, 11))
            assert joe.state == "online"

    async def test_raw_json_with_newlines_is_put_on_one_line(self, joe: Agent, broker: MemoryBroker) -> None:
        await joe.publish("c", Raw(b'{\n "a": 1}'))
        assert bytes(broker.stored("g/c")[0].data) == b'{"a":1}'

    @pytest.mark.parametrize("data", [object(), {1: {2}.__iter__()}, "\ud800", math.nan, {"a": [None, (1, math.inf)]}])
    async def test_what_json_cannot_hold_is_refused_at_once(self, joe: Agent, data: Any) -> None:
        with pytest.raises(Unencodable):
            await joe.publish("c", data)
        assert joe.stats.published == 0

    async def test_none_is_null(self, joe: Agent, broker: MemoryBroker) -> None:
        await joe.publish("c", {"a": [None, "null", 1.5]})
        assert bytes(broker.stored("g/c")[0].data) == b'{"a":[null,"null",1.5]}'

    @pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf])
    async def test_a_time_to_live_is_a_time(self, joe: Agent, ttl: float) -> None:
        with pytest.raises(ValueError, match="ttl"):
            await joe.publish("c", 1, ttl=ttl)

    @pytest.mark.parametrize("topic", ["a b", "g/*", "**", "g//x", "g/" + "x" * 200])
    async def test_a_bad_topic_is_refused_at_once(self, joe: Agent, topic: str) -> None:
        with pytest.raises(InvalidName):
            await joe.publish(topic, 1)

    async def test_a_name_without_group_needs_the_agents(self, make_agent: Any) -> None:
        async with make_agent(group=None) as joe:
            with pytest.raises(InvalidName, match="GROUP/conv"):
                joe.topic("conv")
            assert joe.topic("h/conv").name == "h/conv"
            assert joe.topic("**").name == "**"

    async def test_a_message_beyond_the_brokers_frame_is_too_large_and_alone(self, make_agent: Any) -> None:
        broker = MemoryBroker(max_frame=1000)
        async with make_agent(transport=broker.transport()) as joe:
            futures = [await joe.submit("c", data) for data in ("a", "x" * 1000, "b", b"x" * 1000, "c")]
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert [getattr(r, "seq", type(r)) for r in results] == [1, TooLarge, 2, TooLarge, 3]

    async def test_cancelling_the_wait_does_not_take_the_message_back(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.hold_answers()
        task = asyncio.create_task(joe.publish("c", 1))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        broker.release_answers()
        await joe.flush()
        assert len(broker.stored("g/c")) == 1
        assert joe.stats.confirmed == 1

    async def test_what_expires_in_the_buffer_is_not_sent(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.crash()
        await joe.wait_for("degraded")
        short = await joe.submit("c", "short", ttl=5)
        long = await joe.submit("c", "long", ttl=5000)
        await asyncio.sleep(10)
        broker.start()
        assert (await long).seq == 1
        with pytest.raises(Expired):
            await short

    async def test_the_time_in_the_buffer_counts_for_a_message_s_time_to_live(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        broker.crash()
        await joe.wait_for("degraded")
        question = await joe.submit("c", "of use for a minute", ttl=60)
        await asyncio.sleep(40)
        broker.start()
        await question
        await asyncio.sleep(30)
        await joe.publish("c", "later")
        async with asyncio.timeout(10):
            assert (await anext(ann.subscribe("c", start="all"))).data == "later"

    async def test_flush_waits_for_all_that_was_accepted(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.commit_delay = 3
        for number in range(5):
            await joe.submit("c", number)
        await joe.flush()
        assert joe.stats.confirmed == 5
        await joe.flush()


class TestRefusedPublishes:
    async def test_a_bad_message_does_not_block_its_successors(self, joe: Agent, broker: MemoryBroker) -> None:
        def verdict(pub: Pub) -> Err | None:
            return Err(code="bad_request", message="no") if bytes(pub.data) == b'"bad"' else None

        broker.verdict = verdict
        futures = [await joe.submit("c", data) for data in ("a", "bad", "b", "bad", "c")]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [getattr(r, "seq", type(r)) for r in results] == [1, BadRequest, 2, BadRequest, 3]
        assert [_data(m) for m in broker.stored("g/c")] == ["a", "b", "c"]
        assert joe.stats.rejected == 2

    @pytest.mark.parametrize("code", ["overloaded", "rate_limited", "read_only", "shutting_down", "internal"])
    async def test_what_a_retry_can_cure_is_retried_in_order(self, joe: Agent, broker: MemoryBroker, code: str) -> None:
        broker.verdict = refuse_times(7, code, retry_after=0.5)
        futures = [await joe.submit("c", number) for number in range(20)]
        assert [(await f).seq for f in futures] == list(range(1, 21))
        assert [_data(m) for m in broker.stored("g/c")] == list(range(20))
        assert joe.stats.retried > 0

    async def test_retry_after_is_honoured(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.verdict = refuse_times(1, "rate_limited", retry_after=7.0)
        loop = asyncio.get_running_loop()
        before = loop.time()
        await joe.publish("c", 1)
        assert 7.0 <= loop.time() - before < 7.1

    async def test_duplicate_and_late_answers_do_no_harm(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.duplicate_answers = True
        broker.hold_answers()
        futures = [await joe.submit("c", number) for number in range(30)]
        await asyncio.sleep(0.1)
        broker.cut("joe")
        await joe.wait_for("degraded")
        await joe.wait_for("online")
        await asyncio.sleep(0.1)
        broker.release_answers()
        assert [(await f).seq for f in futures] == list(range(1, 31))
        assert len(broker.stored("g/c")) == 30


class TestBounds:
    async def test_wait_waits(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport(), buffer_messages=3) as joe:
            futures = [await joe.submit("c", number) for number in range(3)]
            waiting = [asyncio.create_task(joe.submit("c", number)) for number in range(3, 9)]
            await asyncio.sleep(1)
            assert not any(task.done() for task in waiting)
            broker.start()
            futures += [await task for task in waiting]
            assert [(await f).seq for f in futures] == list(range(1, 10))

    async def test_a_cancelled_wait_lets_the_next_one_in(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport(), buffer_messages=1) as joe:
            await joe.submit("c", 0)
            first, second = (asyncio.create_task(joe.submit("c", number)) for number in (1, 2))
            await asyncio.sleep(1)
            first.cancel()
            broker.start()
            assert (await (await second)).seq == 2
        assert [_data(m) for m in broker.stored("g/c")] == [0, 2]

    async def test_room_that_expiry_makes_is_given_on(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport(), buffer_messages=1) as joe:
            short = await joe.submit("c", "short", ttl=1)
            waiting = asyncio.create_task(joe.submit("c", "long"))
            await asyncio.sleep(5)
            broker.start()
            assert (await (await waiting)).seq == 1
            assert isinstance(short.exception(), Expired)

    async def test_raise_raises(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport(), buffer_messages=2, on_full="raise") as joe:
            await joe.submit("c", 0)
            await joe.submit("c", 1)
            with pytest.raises(BufferFull, match="buffer_messages is 2"):
                await joe.submit("c", 2)
            broker.start()
            await joe.flush()
            assert (await joe.publish("c", 2)).seq == 3

    async def test_bytes_are_bounded_too(self, make_agent: Any) -> None:
        broker = MemoryBroker()
        broker.crash()
        async with make_agent(transport=broker.transport(), buffer_bytes=10_000, on_full="raise") as joe:
            await joe.submit("c", "x" * 5000)
            with pytest.raises(BufferFull, match="buffer_bytes is 10000"):
                await joe.submit("c", "x" * 5000)
            with pytest.raises(TooLarge, match="buffer_bytes is 10000"):
                await joe.submit("c", "x" * 20_000)
            broker.start()

    async def test_drop_drops_the_oldest_ephemeral(self, make_agent: Any, broker: MemoryBroker) -> None:
        async with make_agent(buffer_messages=3, on_full="drop") as joe:  # still connecting: ephemerals wait
            old = await joe.submit("c", "old", ephemeral=True)
            await joe.submit("c", "durable")
            young = await joe.submit("c", "young", ephemeral=True)
            await joe.submit("c", "durable 2")
            assert old.done()
            assert old.result().dropped
            await joe.submit("c", "durable 3")
            assert young.result().dropped
            with pytest.raises(BufferFull):
                await joe.submit("c", "durable 4")
            assert (await joe.submit("c", "signal", ephemeral=True)).result().dropped
            await joe.flush()
            assert joe.stats.dropped == 3
        assert [_data(m) for m in broker.stored("g/c")] == ["durable", "durable 2", "durable 3"]

    async def test_the_window_bounds_what_is_unanswered(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.hold_answers()
        async with make_agent(window=10) as joe:
            for number in range(100):
                await joe.submit("c", number)
            await joe.wait_for("online")
            await asyncio.sleep(1)
            assert len(broker.stored("g/c")) == 10
            broker.release_answers()
            await joe.flush()
            assert len(broker.stored("g/c")) == 100


class TestEphemeral:
    async def test_it_is_passed_on_in_order_and_not_stored(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        futures = [await joe.submit("c", number, ephemeral=number % 2 == 0) for number in range(20)]
        received = await take(subscription, 20)
        assert [m.data for m in received] == list(range(20))
        assert [m.ephemeral for m in received] == [number % 2 == 0 for number in range(20)]
        receipts = [await f for f in futures]
        assert [r.seq is None for r in receipts] == [number % 2 == 0 for number in range(20)]
        assert len(broker.stored("g/c")) == 10

    async def test_it_is_dropped_while_the_broker_is_away(self, joe: Agent, broker: MemoryBroker) -> None:
        broker.crash()
        await joe.wait_for("degraded")
        receipt = await joe.publish("c", 1, ephemeral=True)
        assert receipt.dropped
        assert joe.stats.dropped == 1

    async def test_it_waits_for_the_first_connection(self, make_agent: Any, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        async with make_agent("joe") as joe:
            receipt = await joe.publish("c", 1, ephemeral=True)
            assert not receipt.dropped
        assert (await anext(subscription)).data == 1


class TestReply:
    async def test_a_reply_to_an_ephemeral_names_it_in_a_header(self, joe: Agent, ann: Agent) -> None:
        subscription = ann.subscribe("c")
        await subscription.ready()
        await joe.publish("c", "now", ephemeral=True)
        question = await anext(subscription)
        await question.reply("then")
        answer = await anext(subscription)
        assert answer.parent is None
        assert answer.in_reply_to == question.id
        assert answer.seq == 1

    async def test_a_reply_to_a_request_goes_where_it_asks(self, joe: Agent, ann: Agent) -> None:
        incoming = ann.subscribe("@ann")
        asking = asyncio.create_task(joe.request("g/@ann", "q", timeout=5))
        question = await anext(incoming)
        assert question.reply_to is not None
        assert question.reply_to.startswith("g/@joe.")
        receipt = await question.reply("a")
        assert (receipt.topic, receipt.seq) == (question.reply_to, None)
        answer = await asking
        assert (answer.data, answer.sender, answer.in_reply_to) == ("a", "ann", question.id)

    async def test_many_requests_at_once_get_their_own_answers(self, joe: Agent, ann: Agent) -> None:
        @ann.on("work", concurrency=8)
        async def work(message: Any) -> None:
            await asyncio.sleep(1 / (1 + message.data))  # later questions are answered first
            await message.reply(message.data * 2)

        answers = await asyncio.gather(*(joe.request("work", number, timeout=60) for number in range(40)))
        assert [answer.data for answer in answers] == [2 * number for number in range(40)]

    async def test_no_answer_is_a_timeout(self, joe: Agent) -> None:
        with pytest.raises(RequestTimeout, match="g/nobody within 3 s"):
            await joe.request("nobody", 1, timeout=3)
        with pytest.raises(TimeoutError):
            await joe.request("nobody", 1, timeout=3)

    async def test_closing_ends_a_request(self, make_agent: Any, ann: Agent) -> None:
        async with make_agent("eve") as eve:
            asking = asyncio.create_task(eve.request("nobody", 1, timeout=600))
            await asyncio.sleep(1)
        with pytest.raises(Closed):
            await asking

    async def test_answers_to_other_questions_are_passed_over(self, joe: Agent, ann: Agent) -> None:
        incoming = ann.subscribe("@ann")
        asking = asyncio.create_task(joe.request("g/@ann", "q", timeout=5))
        question = await anext(incoming)
        assert question.reply_to is not None
        for headers in ({"in_reply_to": "another"}, {"in_reply_to": 7}, None):
            await ann.publish(question.reply_to, "stray", headers=headers)
        await question.reply("a")
        await question.reply("b")
        assert (await asking).data == "a"

    async def test_a_durable_answer_survives_a_disconnect(self, joe: Agent, ann: Agent, broker: MemoryBroker) -> None:
        incoming = ann.subscribe("@ann")
        asking = asyncio.create_task(joe.request("g/@ann", "q", timeout=60, durable=True))
        question = await anext(incoming)
        broker.cut("joe")
        assert (await question.reply("a")).seq == 1
        assert (await asking).data == "a"

    async def test_a_request_waits_for_the_broker(self, make_agent: Any, ann: Agent, broker: MemoryBroker) -> None:
        @ann.on("work")
        async def work(message: Any) -> None:
            await message.reply("done")

        await asyncio.sleep(1)  # the handler's subscription has begun
        broker.crash()
        async with make_agent("joe") as joe:
            asking = asyncio.create_task(joe.request("work", 1, timeout=60))
            await joe.wait_for("degraded")
            broker.start()
            assert (await asking).data == "done"


class TestHandlers:
    async def test_calls_come_in_order_and_one_at_a_time(self, joe: Agent, ann: Agent) -> None:
        seen: list[int] = []
        busy = 0
        done = asyncio.Event()

        @ann.on("g/tasks")
        async def work(message: Any) -> None:
            nonlocal busy
            busy += 1
            assert busy == 1
            await asyncio.sleep(0.01)
            seen.append(message.data)
            busy -= 1
            if len(seen) == 20:
                done.set()

        for number in range(20):
            await joe.submit("g/tasks", number)
        await done.wait()
        assert seen == list(range(20))

    async def test_a_failing_handler_is_counted_and_told_and_goes_on(self, joe: Agent, make_agent: Any) -> None:
        told: list[tuple[str, Any]] = []
        done = asyncio.Event()
        async with make_agent("eve", on_error=lambda error, message: told.append((str(error), message.data))) as eve:

            @eve.on("c")
            async def work(message: Any) -> None:
                if message.data == 2:
                    done.set()
                else:
                    raise RuntimeError(f"cannot do {message.data}")

            await eve.wait_for("online")
            await joe.topic("c").publish(0)
            await joe.topic("c").publish(1)
            await joe.topic("c").publish(2)
            await done.wait()
            assert told == [("cannot do 0", 0), ("cannot do 1", 1)]
            assert eve.stats.handler_errors == 2

    async def test_an_error_hook_may_be_a_coroutine_and_may_fail(self, joe: Agent, make_agent: Any) -> None:
        told: list[Any] = []
        third = asyncio.Event()

        async def hook(error: BaseException, message: Any) -> None:
            told.append(message.data)
            if len(told) == 3:
                third.set()
            raise ValueError("the hook fails too")

        async with make_agent("eve", on_error=hook) as eve:

            @eve.on("c")
            async def work(message: Any) -> None:
                raise RuntimeError

            await eve.wait_for("online")
            for number in range(3):
                await joe.publish("c", number)
            await third.wait()
        assert told == [0, 1, 2]

    async def test_replying_inside_a_handler_with_a_full_buffer_does_not_deadlock(
        self, joe: Agent, ann: Agent, broker: MemoryBroker
    ) -> None:
        done = asyncio.Event()
        answered = 0

        @ann.on("c", buffer=4)
        async def work(message: Any) -> None:
            nonlocal answered
            if message.sender == "joe":
                await message.reply(message.data)
                answered += 1
                if answered == 1000:
                    done.set()

        for number in range(1000):
            await joe.submit("c", number)
        await done.wait()
        await ann.flush()
        answers = [_data(m) for m in broker.stored("g/c") if m.sender == "ann"]
        assert answers == list(range(1000))
        assert ann.stats.suspensions > 0

    @pytest.mark.real_time
    async def test_a_plain_function_runs_in_a_thread(self, joe: Agent, ann: Agent) -> None:
        import threading

        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        threads: list[int] = []

        @ann.on("c")
        def work(message: Any) -> None:
            threads.append(threading.get_ident())
            loop.call_soon_threadsafe(done.set)

        await joe.publish("c", 1)
        await done.wait()
        assert threads != [threading.get_ident()]

    async def test_registered_before_the_agent_is_open(self, make_agent: Any, joe: Agent) -> None:
        eve = make_agent("eve")
        heard = asyncio.get_running_loop().create_future()

        @eve.on("c")
        async def work(message: Any) -> None:
            heard.set_result(message.data)

        async with eve:
            await eve.wait_for("online")
            await joe.publish("c", "x")
            assert await heard == "x"


class TestLife:
    async def test_states_in_their_order(self, make_agent: Any, broker: MemoryBroker) -> None:
        seen: list[str] = []
        joe = make_agent()
        assert joe.state == "connecting"
        joe.on_state(lambda before, after: seen.append(f"{before}>{after}"))
        async with joe:
            await joe.wait_for("online")
            broker.crash()
            await joe.wait_for("degraded")
            broker.start()
            await joe.wait_for("online")
        assert seen == ["connecting>online", "online>degraded", "degraded>online", "online>closed"]
        with pytest.raises(Closed):
            await joe.wait_for("online")

    async def test_wait_for_times_out(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.crash()
        async with make_agent() as joe:
            with pytest.raises(TimeoutError):
                await joe.wait_for("online", timeout=2)
            await joe.wait_for("online", "degraded", timeout=2)

    async def test_after_close_everything_raises_closed(self, make_agent: Any) -> None:
        joe = make_agent()
        with pytest.raises(Closed, match="not open yet"):
            await joe.publish("c", 1)
        async with joe:
            conv = joe.topic("c")
        for call in (lambda: conv.publish(1), lambda: joe.request("c", 1, timeout=1), joe.open):
            with pytest.raises(Closed):
                await call()
        with pytest.raises(Closed):
            conv.subscribe()
        await joe.close()
        await joe.close()

    async def test_closing_an_agent_that_was_never_open(self, make_agent: Any) -> None:
        joe = make_agent()
        await joe.close()
        assert joe.state == "closed"
        with pytest.raises(Closed):
            await joe.open()

    async def test_close_delivers_what_was_accepted(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.commit_delay = 1
        async with make_agent() as joe:
            for number in range(50):
                await joe.submit("c", number)
        assert len(broker.stored("g/c")) == 50

    async def test_close_delivers_what_waits_for_room(self, make_agent: Any, broker: MemoryBroker) -> None:
        async with make_agent(buffer_messages=2) as joe:
            waiting = [asyncio.create_task(joe.submit("c", number)) for number in range(50)]
            await asyncio.sleep(0)
        assert [(await (await task)).seq for task in waiting] == list(range(1, 51))

    async def test_close_tells_what_it_could_not_deliver(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.crash()
        joe = make_agent()
        await joe.open()
        futures = [await joe.submit("c", number) for number in range(3)]
        waiting = asyncio.create_task(joe.publish("c", 3))
        await asyncio.sleep(0)
        with pytest.raises(Undelivered) as caught:
            await joe.close(drain=2)
        assert caught.value.count == 4
        for future in (*futures, waiting):
            with pytest.raises(Closed):
                await future

    async def test_close_waits_for_the_broker_while_it_drains(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.crash()
        joe = make_agent()
        await joe.open()
        await joe.submit("c", 1)
        closing = asyncio.create_task(joe.close(drain=60))
        await asyncio.sleep(1)
        broker.start()
        assert await closing == 1
        assert len(broker.stored("g/c")) == 1

    async def test_a_cancelled_close_goes_on(self, make_agent: Any, broker: MemoryBroker) -> None:
        broker.commit_delay = 2
        joe = make_agent()
        await joe.open()
        await joe.submit("c", 1)
        closing = asyncio.create_task(joe.close())
        await asyncio.sleep(0.5)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await joe.close() == 1

    async def test_close_lets_a_handler_finish_its_answer(
        self, make_agent: Any, joe: Agent, broker: MemoryBroker
    ) -> None:
        async with make_agent("eve") as eve:
            at_work = asyncio.Event()

            @eve.on("c")
            async def work(message: Any) -> None:
                at_work.set()
                await asyncio.sleep(2)
                await message.reply("done")

            await eve.wait_for("online")
            await joe.publish("c", 1)
            await at_work.wait()
        assert [_data(m) for m in broker.stored("g/c")] == [1, "done"]

    async def test_a_handler_that_hangs_is_cancelled(self, make_agent: Any, joe: Agent) -> None:
        eve = make_agent("eve")
        await eve.open()
        at_work = asyncio.Event()

        @eve.on("c")
        async def work(message: Any) -> None:
            at_work.set()
            await asyncio.Event().wait()

        await eve.wait_for("online")
        await joe.publish("c", 1)
        await at_work.wait()
        await eve.close(drain=3)
        assert eve.state == "closed"

    async def test_nothing_is_left_running(self, make_agent: Any, broker: MemoryBroker) -> None:
        before = asyncio.all_tasks()
        async with make_agent() as joe:
            joe.on("a")(_ignore)
            subscriptions = [joe.subscribe("b"), joe.subscribe("b", start="all"), joe.subscribe("**")]
            await joe.wait_for("online")
            reader = asyncio.create_task(anext(subscriptions[0]))
            with pytest.raises(RequestTimeout):
                await joe.request("nobody", 1, timeout=1)
        with pytest.raises(StopAsyncIteration):
            await reader
        assert asyncio.all_tasks() == before
        assert broker.sessions == []

    @pytest.mark.parametrize(
        ("code", "error"), [(4500, Unauthorized), (4507, NotAllowed), (4509, Replaced), (4999, Exception)]
    )
    async def test_a_refusal_reaches_everyone_who_waits_and_everyone_who_comes(
        self, make_agent: Any, broker: MemoryBroker, code: int, error: type[Exception]
    ) -> None:
        joe = make_agent()
        await joe.open()
        await joe.wait_for("online")
        broker.hold_answers()
        subscription = joe.subscribe("quiet")
        tasks = [
            asyncio.create_task(call)
            for call in (joe.publish("c", 1), anext(subscription), joe.request("x", 1, timeout=60))
        ]
        await asyncio.sleep(0.1)
        tasks.append(asyncio.create_task(joe.flush()))
        await asyncio.sleep(0.1)
        broker.cut("joe", code)
        for task in tasks:
            with pytest.raises(error):
                await task
        assert joe.state == "closed"
        with pytest.raises(error):
            await joe.publish("c", 2)
        with pytest.raises(error):
            joe.subscribe("c")
        with pytest.raises(error):
            await joe.wait_for("online")
        assert broker.connects == 1
        await joe.close()

    async def test_no_token_no_agent(self, make_agent: Any) -> None:
        broker = MemoryBroker(authenticate=lambda agent, token: 0 if token == "right" else 4500)
        async with make_agent(transport=broker.transport(), token="wrong") as joe:
            with pytest.raises(Unauthorized):
                await joe.publish("c", 1)

    async def test_a_token_callable_is_asked_at_each_connection(self, make_agent: Any) -> None:
        broker = MemoryBroker(authenticate=lambda agent, token: 0)
        given = iter(["one", "two", "three"])

        async def token() -> str:
            return next(given)

        async with make_agent(transport=broker.transport(), token=token) as joe:
            await joe.wait_for("online")
            broker.cut()
            await joe.wait_for("degraded")
            await joe.wait_for("online")
        assert [h["Authorization"] for h in broker.headers] == ["Bearer one", "Bearer two"]

    @pytest.mark.parametrize(
        ("given", "used"),
        [
            ("ws://broker:1", "ws://broker:1/v1/ws"),
            ("http://broker/", "ws://broker/v1/ws"),
            ("https://broker", "wss://broker/v1/ws"),
            ("wss://broker/other", "wss://broker/other"),
        ],
    )
    def test_urls(self, given: str, used: str) -> None:
        assert Agent("joe", url=given).url == used

    def test_the_default_url_is_the_environments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HUBBUB_URL", raising=False)
        assert Agent("joe").url == "ws://127.0.0.1:8091/v1/ws"
        monkeypatch.setenv("HUBBUB_URL", "ws://elsewhere:9")
        assert Agent("joe").url == "ws://elsewhere:9/v1/ws"

    @pytest.mark.parametrize(
        "options",
        [{"url": "ftp://x"}, {"url": "nowhere"}, {"window": 0}, {"buffer_bytes": -1}, {"on_full": "explode"}],
    )
    def test_wrong_options_are_refused(self, options: Any) -> None:
        with pytest.raises(ValueError):
            Agent("joe", **options)

    @pytest.mark.parametrize("options", [{"name": "a b"}, {"name": "joe", "group": "a/b"}])
    def test_wrong_names_are_refused(self, options: Any) -> None:
        with pytest.raises(InvalidName):
            Agent(**options)


def _data(frame: Msg) -> Any:
    """A stored frame's data, decoded."""
    return codec.decode_value(bytes(frame.data))


async def _ignore(message: Any) -> None:
    pass


async def test_a_connection_that_comes_up_while_the_agent_closes_changes_nothing(make_agent: Any) -> None:
    joe = make_agent("joe")
    async with joe:
        await joe.wait_for("online")
    joe.online()
    assert joe.state == "closed"


@pytest.mark.parametrize("turns", range(12))
async def test_who_is_cancelled_while_the_broker_goes_away_ends(
    make_agent: Any, broker: MemoryBroker, turns: int
) -> None:
    """The end of the connection and that of the loop may meet anywhere."""
    others = asyncio.all_tasks()
    agent = make_agent("joe")
    await agent.open()
    await agent.wait_for("online")
    broker.crash()
    for _ in range(turns):
        await asyncio.sleep(0)
    mine = asyncio.all_tasks() - others
    for task in mine:
        task.cancel()
    _, left = await asyncio.wait(mine, timeout=600)
    assert not left
