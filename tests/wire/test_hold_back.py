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
