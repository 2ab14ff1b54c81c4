"""Causal hold-back: an answer waits for what it answers, for a bounded time and in bounded number."""

from typing import Any

import pytest

from hubbub_broker.server import Server

FOREVER = {"hold_seconds": 600}
SHORT = {"hold_seconds": 0.05}


@pytest.mark.parametrize("options", [FOREVER], indirect=True)
async def test_an_answer_that_comes_first_is_delivered_second(connect: Any, server: Server) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        await joe.send("pub", topic="g/c", id="answer", data=2, parent="question")
        await joe.silent()
        assert server.broker.gauges().held == 1
        await joe.send("pub", topic="g/c", id="question", data=1)
        assert [(await joe.until("ok"))["id"] for _ in range(2)] == ["question", "answer"]
        first, second = await ann.messages(2)
        assert [(m["id"], m["seq"], m.get("parent"), m.get("orphan")) for m in (first, second)] == [
            ("question", 1, None, None),
            ("answer", 2, "question", None),
        ]
        assert server.broker.gauges().held == 0


@pytest.mark.parametrize("options", [{**FOREVER, "policy": [{"pattern": "**", "max_depth": 0}]}], indirect=True)
async def test_a_chain_in_reverse_comes_out_in_order(connect: Any) -> None:
    length = 900  # deeper than Python's stack would take
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        for i in reversed(range(1, length)):
            await joe.send("pub", topic="g/c", id=str(i), data=i, parent=str(i - 1))
        await joe.send("pub", topic="g/c", id="0", data=0)
        assert [message["data"] for message in await ann.messages(length)] == list(range(length))


@pytest.mark.parametrize("options", [SHORT], indirect=True)
async def test_after_its_time_it_goes_out_as_an_orphan(connect: Any, server: Server) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        ok = await joe.pub("g/c", 1, id="a", parent="never")
        assert ok["seq"] == 1
        assert (await ann.until("msg", id="a"))["orphan"] is True
        assert server.broker.metrics.publishes_orphan == 1


@pytest.mark.parametrize("options", [{**FOREVER, "hold_messages": 2}], indirect=True)
async def test_of_too_many_the_oldest_goes_out(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        for name in "abc":
            await joe.send("pub", topic="g/c", id=name, data=name, parent="never")
        assert (await joe.until("ok"))["id"] == "a"
        assert (await ann.messages(1))[0]["orphan"] is True
        await joe.silent()


@pytest.mark.parametrize("options", [{**FOREVER, "pending_soft": "64KiB"}], indirect=True)
async def test_of_too_much_for_one_topic_the_oldest_goes_out(connect: Any) -> None:
    async with connect("joe") as joe:
        for name in "abc":
            await joe.send("pub", topic="g/c", id=name, data="x" * 30_000, parent="never")
        assert (await joe.until("ok"))["id"] == "a"
        await joe.silent()


@pytest.mark.parametrize("options", [{**FOREVER, "hold_bytes": "64KiB"}], indirect=True)
async def test_more_than_the_shard_may_hold_is_refused_whatever_the_topics(connect: Any, server: Server) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        for number in range(2):
            await joe.send("pub", topic=f"g/{number}", id="waits", data="x" * 30_000, parent="never")
        refused = await joe.pub("g/2", "x" * 30_000, parent="never")
        assert (refused["op"], refused["code"], refused["retry_after"] > 0) == ("err", "overloaded", True)
        assert "hold_bytes" in refused["message"]
        again = await ann.pub("g/2", "x" * 30_000, id="too", parent="never")
        assert (again["code"], server.broker.metrics.publishes_refused["hold_bytes"]) == ("overloaded", 2)
        assert (await ann.pub("g/2", "x" * 30_000))["seq"] == 1  # what need not wait is taken
        await ann.pub("g/0", "the parent", id="never")
        assert (await joe.until("ok"))["topic"] == "g/0"
        await ann.send("pub", topic="g/2", id="too", data="x" * 30_000, parent="never")
        await ann.silent()
        assert server.broker.gauges().held == 2


@pytest.mark.parametrize("options", [{**FOREVER, "hold_bytes": "64KiB"}], indirect=True)
async def test_what_is_sent_again_and_again_while_it_waits_is_kept_once(connect: Any, server: Server) -> None:
    async with connect("joe") as joe:
        for rid in range(30):
            await joe.send("pub", topic="g/c", id="a", data="x" * 30_000, parent="p", rid=rid)
        await joe.silent()
        held = sum(gauges.held_bytes for gauges in server.broker.shard_gauges())
        assert 30_000 < held < 60_000
        await joe.send("pub", topic="g/c", id="a", data="y" * 30_000, parent="p", rid="other")
        assert (await joe.expect("err", rid="other"))["code"] == "overloaded"
        await joe.pub("g/c", 0, id="p")
        assert {(await joe.expect("ok", rid=rid))["seq"] for rid in range(30)} == {2}
        assert sum(gauges.held_bytes for gauges in server.broker.shard_gauges()) == 0


@pytest.mark.parametrize("options", [SHORT], indirect=True)
async def test_what_a_connection_left_behind_goes_its_way_in_time(connect: Any, server: Server) -> None:
    async with connect("ann") as ann:
        await ann.sub("g/*")
        async with connect("joe") as joe:
            for number in range(3):
                await joe.send("pub", topic=f"g/{number}", id="a", data="x" * 1000, parent="never")
        assert {message["orphan"] for message in await ann.messages(3)} == {True}
        assert sum(gauges.held_bytes for gauges in server.broker.shard_gauges()) == 0


@pytest.mark.parametrize("options", [FOREVER], indirect=True)
async def test_numbered_messages_wait_behind_the_one_that_waits(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        await joe.send("pub", topic="g/c", id="1", data=1, n=1, parent="p")
        await joe.send("pub", topic="g/c", id="2", data=2, n=2)
        await joe.send("pub", topic="g/c", id="x", data="unnumbered")
        assert (await joe.until("ok"))["id"] == "x"
        await ann.pub("g/c", "parent", id="p")
        assert [m["id"] for m in await ann.messages(4)] == ["x", "p", "1", "2"]


@pytest.mark.parametrize("options", [FOREVER], indirect=True)
async def test_sent_again_while_it_waits_it_is_answered_twice_and_stored_once(connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.send("pub", topic="g/c", id="a", data=1, parent="p")
        async with connect("joe") as again:
            await again.send("pub", topic="g/c", id="a", data=1, parent="p")
            await again.silent()
            assert (await joe.pub("g/c", 0, id="p"))["seq"] == 1
            assert (await joe.expect("ok", id="a"))["seq"] == 2
            assert (await again.expect("ok", id="a"))["seq"] == 2
            assert (await joe.pub("g/c", 9))["seq"] == 3


async def test_an_answer_to_a_signal_does_not_wait(connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.pub("g/c", "?", id="signal", ephemeral=True)
        assert "orphan" not in await joe.pub("g/c", "!", parent="signal")


@pytest.mark.parametrize("options", [FOREVER], indirect=True)
async def test_a_message_is_known_as_parent_after_thousands_of_others(connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.pub("g/c", 0, id="first")
        for i in range(2000):
            await joe.send("pub", topic="g/c", id=str(i), data=i)
        assert (await joe.pub("g/c", 1, parent="first"))["seq"] == 2002
