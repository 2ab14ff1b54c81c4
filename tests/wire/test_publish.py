"""Publish: answers, seq, lc, dedup, order, limits."""

import json
from typing import Any

import pytest

from harness.wire import WireClient
from hubbub_broker.server import Server


async def test_a_durable_message_is_answered_and_delivered_as_it_was_sent(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("research/c")
        await ann.expect("live", topic="research/c", seq=0)
        data = {"text": "héllo", "big": 12345678901234567890123, "nested": [1.5, None, {"a": True}]}
        ok = await joe.pub("research/c", data, id="1", type="note", headers={"k": "v"}, reply_to="research/@joe")
        assert ok == {"op": "ok", "id": "1", "topic": "research/c", "seq": 1, "lc": 1}
        message = await ann.expect("msg", topic="research/c", seq=1, id="1", lc=1, type="note", headers={"k": "v"})
        assert message["data"] == data
        assert message["from"] == "joe"
        assert message["reply_to"] == "research/@joe"
        assert not {"parent", "ephemeral", "orphan", "attempt"} & message.keys()


async def test_seq_has_no_holes_and_lc_grows_with_the_publisher_s(connect: Any) -> None:
    async with connect("joe") as joe:
        answers = [await joe.pub("g/c", i, lc=lc) for i, lc in enumerate([0, 40, 0, 7])]
        assert [(ok["seq"], ok["lc"]) for ok in answers] == [(1, 1), (2, 41), (3, 42), (4, 43)]


async def test_many_lines_in_one_frame_are_many_publishes(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        lines = [json.dumps({"op": "pub", "topic": "g/c", "id": str(i), "data": i}) for i in range(50)]
        await joe.socket.send("\n".join(lines))
        assert [(await joe.until("ok"))["seq"] for _ in range(50)] == list(range(1, 51))
        assert [message["data"] for message in await ann.messages(50)] == list(range(50))


async def test_bytes_are_published_and_delivered_as_bytes(connect: Any) -> None:
    payload = bytes(range(256)) * 300
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        await joe.send_binary(payload, topic="g/c", id="b1", type="image")
        await joe.expect("ok", id="b1", seq=1)
        await joe.pub("g/c", "after")
        first, second = await ann.messages(2)
        assert first["payload"] == payload
        assert (first["seq"], first["type"], second["data"]) == (1, "image", "after")
        async with connect("late") as late:
            await late.sub("g/c", from_="all")
            assert [message.get("payload") for message in await late.messages(2)] == [payload, None]


class TestDedup:
    async def test_the_same_id_again_gets_the_first_one_s_seq(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            first = await joe.pub("g/c", 1, id="x")
            again = await joe.pub("g/c", 2, id="x")
            assert again == {**first, "dup": True}
            await joe.pub("g/c", 3, id="y")
            assert [message["data"] for message in await ann.messages(2)] == [1, 3]

    async def test_ids_belong_to_a_publisher_and_a_topic(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            answers = [
                await joe.pub("g/c", 1, id="x"),
                await ann.pub("g/c", 1, id="x"),
                await joe.pub("g/d", 1, id="x"),
            ]
            assert [(ok["seq"], "dup" in ok) for ok in answers] == [(1, False), (2, False), (1, False)]

    async def test_a_repeat_in_the_same_frame_is_answered_twice_and_stored_once(self, connect: Any) -> None:
        async with connect("joe") as joe:
            line = json.dumps({"op": "pub", "topic": "g/c", "id": "x", "data": 1})
            await joe.socket.send(line + "\n" + line)
            assert (await joe.expect("ok", id="x", seq=1)).get("dup") is None
            assert (await joe.expect("ok", id="x", seq=1))["dup"] is True

    @pytest.mark.parametrize("options", [{"policy": [{"pattern": "g/**", "dedup_window": 0}]}], indirect=True)
    async def test_a_topic_may_have_no_window(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert [(await joe.pub("g/c", 1, id="x"))["seq"] for _ in range(2)] == [1, 2]


class TestOrder:
    async def test_one_that_would_overtake_is_refused_with_what_is_expected(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert (await joe.pub("g/c", 1, id="1", n=1))["seq"] == 1
            refused = await joe.pub("g/c", 3, id="3", n=3)
            assert (refused["code"], refused["expect"]) == ("order", 2)
            assert (await joe.pub("g/c", 2, id="2", n=2))["seq"] == 2
            assert (await joe.pub("g/c", 3, id="3", n=3))["seq"] == 3

    async def test_a_refused_message_leaves_its_place_open(self, connect: Any) -> None:
        async with connect("joe") as joe:
            refused = await joe.pub("g/c", 1, id="1", n=1, ttl=-1)
            assert refused["code"] == "bad_request"
            assert (await joe.pub("g/c", 2, id="2", n=2))["code"] == "order"
            assert (await joe.pub("g/c", 1, id="1", n=1))["seq"] == 1

    async def test_the_count_goes_on_over_a_reconnect(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.pub("g/c", 1, id="1", n=1)
        async with connect("joe") as joe:
            assert (await joe.pub("g/c", 1, id="1", n=1))["dup"] is True
            assert (await joe.pub("g/c", 3, id="3", n=3))["code"] == "order"
            assert (await joe.pub("g/c", 2, id="2", n=2))["seq"] == 2

    async def test_one_starts_a_new_count(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for n in (1, 2, 3):
                await joe.pub("g/c", n, id=f"a{n}", n=n)
            assert (await joe.pub("g/c", 1, id="b1", n=1))["seq"] == 4
            assert (await joe.pub("g/c", 2, id="b2", n=2))["seq"] == 5

    async def test_lives_of_one_name_count_apart(self, connect: Any) -> None:
        async with connect() as one, connect() as two:
            await one.hello("joe", session="life-1")
            await two.hello("joe", session="life-2")
            assert (await one.pub("g/c", 1, id="1", n=1))["seq"] == 1
            assert (await two.pub("g/c", 1, id="2", n=1))["seq"] == 2
            assert (await one.pub("g/c", 1, id="3", n=2))["seq"] == 3


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "nogroup"}, "bad_request"),
        ({"topic": "g/*"}, "bad_request"),
        ({"topic": "g/" + "x" * 129}, "bad_request"),
        ({"topic": "_hubbub/events"}, "forbidden"),
        ({"id": ""}, "bad_request"),
        ({"id": "é" * 200}, "bad_request"),
        ({"lc": -1}, "bad_request"),
        ({"lc": 2**53}, "bad_request"),
        ({"n": 0}, "bad_request"),
        ({"ttl": 0}, "bad_request"),
        ({"ttl": 1e300}, "bad_request"),
        ({"parent": ""}, "bad_request"),
        ({"type": "t" * 257}, "bad_request"),
        ({"headers": [1]}, "bad_request"),
        ({"reply_to": "nowhere"}, "bad_request"),
    ],
)
async def test_a_bad_publish_is_refused_by_name_and_the_next_is_taken(
    connect: Any, server: Server, fields: dict[str, Any], code: str
) -> None:
    async with connect("joe") as joe:
        await joe.send("pub", **{"topic": "g/c", "id": "bad", "data": 1, "rid": 7, **fields})
        refused = await joe.expect("err", code=code, rid=7)
        assert refused["message"]
        assert server.broker.metrics.publishes_refused == {code: 1}
        assert (await joe.pub("g/c", 1))["seq"] == 1


@pytest.mark.parametrize("missing", ["topic", "id", "data"])
async def test_a_missing_field_is_named(connect: Any, missing: str) -> None:
    frame = {"op": "pub", "topic": "g/c", "id": "i", "data": 1}
    del frame[missing]
    async with connect("joe") as joe:
        await joe.socket.send(json.dumps(frame))
        assert f"`{missing}`" in (await joe.expect("err", code="bad_request"))["message"]


async def test_who_does_not_say_who_it_is_publishes_nothing(connect: Any) -> None:
    async with connect() as nobody:
        assert (await nobody.pub("g/c", 1))["code"] == "unauthorized"


@pytest.mark.parametrize("options", [{"publish_rate": 0.001, "publish_burst": 3}], indirect=True)
async def test_the_publish_rate_is_an_agent_s_over_all_its_connections(connect: Any, server: Server) -> None:
    async with connect("joe") as one, connect("joe") as two, connect("ann") as ann:
        for client in (one, two, one):
            assert (await client.pub("g/c", 1))["op"] == "ok"
        refused = await two.pub("g/c", 1)
        assert refused["code"] == "rate_limited"
        assert refused["retry_after"] > 0
        assert "publish_rate" in refused["message"]
        assert (await ann.pub("g/c", 1))["op"] == "ok"
        assert server.broker.metrics.publishes_refused == {"publish_rate": 1}


@pytest.mark.parametrize("options", [{"max_inflight": 5, "hold_seconds": 60}], indirect=True)
async def test_unanswered_publishes_are_bounded(connect: Any) -> None:
    async with connect("joe") as joe:
        for i in range(6):
            await joe.send("pub", topic="g/c", id=str(i), data=i, parent="unknown")
        refused = await joe.expect("err", id="5", code="overloaded")
        assert "max_inflight" in refused["message"]
        assert refused["retry_after"] > 0


@pytest.mark.parametrize("options", [{"max_frame": 8192}], indirect=True)
async def test_no_message_is_larger_than_a_frame_may_be(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        assert (await joe.pub("g/c", "x" * 8100))["code"] == "too_large"
        assert (await joe.pub("g/c", "x" * 7700))["seq"] == 1
        await joe.socket.send("x" * 8193)
        assert await joe.closed() == 1009
        assert "8192 bytes (max_frame): split it" in (joe.socket.close_reason or "")
        assert len((await ann.messages(1))[0]["data"]) == 7700


class TestEphemeral:
    async def test_a_signal_has_no_seq_and_is_never_stored(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            ok = await joe.pub("g/c", "now", id="s", ephemeral=True)
            assert ok == {"op": "ok", "id": "s", "topic": "g/c", "lc": 1}
            message = (await ann.messages(1))[0]
            assert message["ephemeral"] is True
            assert "seq" not in message
            assert (await joe.pub("g/c", "kept"))["seq"] == 1
            async with connect("late") as late:
                await late.sub("g/c", from_="all")
                assert (await late.expect("msg", seq=1))["data"] == "kept"
                await late.expect("live", seq=1)

    async def test_durable_and_ephemeral_share_one_order(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            lines = [
                json.dumps({"op": "pub", "topic": "g/c", "id": str(i), "data": i, "ephemeral": i % 3 == 1})
                for i in range(300)
            ]
            for at in range(0, 300, 7):
                await joe.socket.send("\n".join(lines[at : at + 7]))
            assert [message["data"] for message in await ann.messages(300)] == list(range(300))

    @pytest.mark.parametrize("options", [{"policy": [{"pattern": "g/**", "durable": False}]}], indirect=True)
    async def test_a_policy_may_make_every_message_ephemeral(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert "seq" not in await joe.pub("g/c", 1)
            assert (await joe.pub("h/c", 1))["seq"] == 1

    async def test_a_repeated_signal_is_delivered_once(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            await joe.pub("g/c", 1, id="s", ephemeral=True)
            assert (await joe.pub("g/c", 1, id="s", ephemeral=True))["dup"] is True
            await joe.pub("g/c", 2, id="t", ephemeral=True)
            assert [message["data"] for message in await ann.messages(2)] == [1, 2]


async def test_the_publisher_hears_itself(connect: Any) -> None:
    async with connect("joe") as joe:
        joe_: WireClient = joe
        await joe_.sub("g/c")
        await joe_.pub("g/c", 1)
        assert (await joe_.until("msg"))["data"] == 1
