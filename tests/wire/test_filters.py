"""`where` and `select`: a filtered reader gets what a plain one does, sifted, and is told how far it is."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.filter_oracle import cut, matches
from harness.wire import WireClient, wire_client
from hubbub import Agent, Message
from hubbub_broker.server import Server

WHERE = {"type": "result", "data.n": {">=": 3}}
SELECT = ["data.n", "headers.a"]


async def publish(client: WireClient, topic: str, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        kind = "result" if n % 2 else "task"
        answer = await client.pub(topic, {"n": n, "text": "x" * 50}, type=kind, headers={"a": n, "b": n})
        assert answer["op"] == "ok"


async def up_to_live(client: WireClient, **fields: Any) -> list[dict[str, Any]]:
    found = []
    while (line := await client.next())["op"] != "live":
        found.append(line)
    assert all(line.get(name) == value for name, value in fields.items())
    return found


class TestPlainReaders:
    async def test_replay_and_live_are_the_plain_ones_sifted(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await publish(joe, "g/c", 10)
            assert (await ann.sub("g/c", from_="all"))["head"] == 10
            ok = await bob.sub("g/c", from_="all", where=WHERE, select=SELECT)
            assert (ok["head"], ok["next"]) == (10, 1)
            plain = await up_to_live(ann)
            assert await up_to_live(bob, seq=10) == [cut(line, SELECT) for line in plain if matches(line, WHERE)]
            await publish(joe, "g/c", 10, 10)
            plain = await ann.messages(10)
            expected = [cut(line, SELECT) for line in plain if matches(line, WHERE)]
            assert await bob.messages(len(expected)) == expected
            await bob.silent()

    async def test_what_is_cut_is_the_text_that_was_published(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c", select=["data.a"])
            await ann.expect("live")
            text = (
                '{"op":"pub","topic":"g/c","id":"1","headers":{"data":{"a":1}},"data":{"b":1,"a":[1.50,{"x":1e999}]}}'
            )
            await joe.socket.send(text)
            frame = await ann.socket.recv()
            assert isinstance(frame, str)
            assert frame.endswith(',"data":{"a":[1.50,{"x":1e999}]}}')
            assert "headers" not in frame

    async def test_a_payload_of_bytes(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await ann.sub("g/c", select=["headers.a", "data"], where={"headers.a": {"exists": True}})
            await bob.sub("g/c", select=["headers.b"], where={"headers.a": 1})
            await joe.send_binary(b"none", topic="g/c", id="0")
            await joe.send_binary(b"\x00\n{}", topic="g/c", id="1", headers={"a": 1, "b": 2})
            (message,) = await ann.messages(1)
            assert (message["id"], message["headers"], message["payload"]) == ("1", {"a": 1}, b"\x00\n{}")
            (message,) = await bob.messages(1)
            assert (message["headers"], "payload" in message, "data" in message) == ({"b": 2}, False, False)

    async def test_ephemeral_ones_are_sifted_too(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c", where={"type": "a"})
            await ann.expect("live")
            await joe.pub("g/c", 1, type="b", ephemeral=True)
            await joe.pub("g/c", 2, type="a", ephemeral=True)
            assert (await ann.expect("msg"))["data"] == 2

    async def test_an_expired_one_is_told_to_those_only_who_wanted_it(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await joe.pub("g/c", 1, type="a", ttl=0.01)
            last = await joe.pub("g/c", 2, type="b")
            assert last["seq"] == 2
            await bob.sub("g/c", from_="all", where={"type": "b"})
            assert [line["op"] for line in await up_to_live(bob)] == ["msg"]
            await ann.sub("g/c", from_="all", where={"type": {"in": ["a", "b"]}})
            lines = await up_to_live(ann)
            assert [line["op"] for line in lines] in (["gap", "msg"], ["msg", "msg"])  # a slow machine's log is behind
            assert lines[0].get("reason", "expired") == "expired"

    async def test_a_reader_is_told_how_far_it_is(self, connect: Any) -> None:
        """Else it would ask for all of it again when it comes back."""
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 1)
            await ann.sub("g/c", where={"type": "never"})
            await ann.expect("live", seq=1)
            await publish(joe, "g/c", 300, 1)
            skip = await ann.expect("skip", topic="g/c")
            assert 257 <= skip["seq"] <= 301
            await ann.silent()

    async def test_a_replay_in_which_nothing_is_wanted_says_how_far_it_is(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            for n in range(1, 801):
                await joe.send("pub", topic="g/c", id=f"{n}", data={"n": n, "text": "x" * 1000})
            for _ in range(800):
                await joe.until("ok")
            await ann.sub("g/c", from_="all", where={"data.n": 0})
            told = []
            while (line := await ann.next())["op"] == "skip":
                told.append(line["seq"])
            assert (line["op"], line["seq"], told) == ("live", 800, sorted(set(told)))
            assert len(told) >= 2
            # Of those up to there each would have come before, and the very next one comes after, if it is wanted.
            await ann.ask("unsub", topic="g/c")
            await ann.sub("g/c", from_="all", where={"data.n": told[0]})
            await ann.expect("msg", seq=told[0])
            while (await ann.next())["op"] != "live":
                pass
            await ann.ask("unsub", topic="g/c")
            await ann.sub("g/c", from_="all", where={"data.n": told[0] + 1})
            await ann.expect("skip", seq=told[0])
            await ann.expect("msg", seq=told[0] + 1)

    async def test_a_pattern(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.pub("g/a", 1, type="x")
            await joe.pub("g/b", 2, type="y")
            await ann.sub("g/*", from_="all", where={"type": "x"}, select=[])
            lines = await up_to_live(ann)
            assert [(line["topic"], line["type"], "data" in line) for line in lines if line["op"] == "msg"] == [
                ("g/a", "x", False)
            ]
            await joe.pub("g/new", 3, type="y")
            await joe.pub("g/new", 4, type="x")
            message = await ann.until("msg")
            assert (message["topic"], message["seq"]) == ("g/new", 2)

    @pytest.mark.parametrize("options", [{"write_buffer": 4096}], indirect=True)
    async def test_a_slow_reader_gets_every_one_later(self, connect: Any, server: Server) -> None:
        async with connect("joe") as joe, connect("ann", max_queue=1) as ann:
            await ann.sub("g/c", where={"type": "a"})
            await ann.expect("live")
            big = "x" * 100_000
            for n in range(150):
                await joe.pub("g/c", {"n": n, "text": big}, type="a" if n % 3 else "b")
            wanted = [n for n in range(150) if n % 3]
            assert [line["data"]["n"] for line in await ann.messages(len(wanted))] == wanted
            assert server.broker.metrics.deliveries_replay > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "why"),
        [
            ({"where": {"colour": 1}}, "names nothing of a message"),
            ({"where": {"type": {"like": 1}}}, "no operator"),
            ({"where": {"type": "x" * 5000}}, "max_filter_bytes"),
            ({"where": {f"data.x{n}": n for n in range(33)}}, "max_filter_tests"),
            ({"select": ["type"]}, "always comes"),
            ({"where": [1]}, "where"),
            ({"select": "data"}, "select"),
            ({"where": {"data" + ".a" * 10: 1}}, "max_filter_depth"),
        ],
    )
    @pytest.mark.parametrize("consumer", [{}, {"consumer": "workers"}])
    async def test_what_makes_no_sense(
        self, connect: Any, fields: dict[str, Any], why: str, consumer: dict[str, str]
    ) -> None:
        async with connect("ann") as ann:
            answer = await ann.ask("sub", topic="g/c", **fields, **consumer)
            assert (answer["op"], answer["code"]) == ("err", "bad_request")
            assert why in answer["message"]

    async def test_two_subscriptions_of_one_connection_agree_on_what_they_share(self, connect: Any) -> None:
        async with connect("ann") as ann:
            assert (await ann.ask("sub", topic="g/c", where={"type": "x"}))["op"] == "ok"
            assert (await ann.ask("sub", topic="g/*", where={"type": "x"}))["op"] == "ok"
            for topic in ("g/**", "*/c"):
                answer = await ann.ask("sub", topic=topic)
                assert (answer["code"], "another filter" in answer["message"]) == ("conflict", True)
            assert (await ann.ask("sub", topic="h/**"))["op"] == "ok"
            assert (await ann.ask("sub", topic="h/c", where={"type": "x"}))["code"] == "conflict"

    @pytest.mark.parametrize("options", [{"max_filters": 2}], indirect=True)
    async def test_too_many_filters_on_a_topic_or_of_patterns(self, connect: Any) -> None:
        for topic in ("g/c", "g/*"):
            async with connect("ann") as ann, connect("bob") as bob, connect("joe") as joe, connect("eve") as eve:
                assert (await ann.ask("sub", topic=topic, where={"type": "1"}))["op"] == "ok"
                assert (await bob.ask("sub", topic=topic, where={"type": "2"}))["op"] == "ok"
                answer = await joe.ask("sub", topic=topic, where={"type": "3"})
                assert (answer["code"], "max_filters" in answer["message"]) == ("overloaded", True)
                assert (await joe.ask("sub", topic=topic, where={"type": "2"}))["op"] == "ok"
                assert (await eve.ask("sub", topic=topic))["op"] == "ok"
                await bob.ask("unsub", topic=topic)
                await joe.ask("unsub", topic=topic)
                assert (await joe.ask("sub", topic=topic, where={"type": "3"}))["op"] == "ok"

    @pytest.mark.parametrize("options", [{"max_filters": 1}], indirect=True)
    async def test_too_many_filters_of_consumers(self, connect: Any) -> None:
        async with connect("ann") as ann:
            assert (await ann.ask("sub", topic="g/c", consumer="a", where={"type": "1"}))["op"] == "ok"
            assert (await ann.ask("sub", topic="g/c", consumer="b", where={"type": "1"}))["op"] == "ok"
            answer = await ann.ask("sub", topic="g/c", consumer="c", where={"type": "2"})
            assert (answer["code"], "max_filters" in answer["message"]) == ("overloaded", True)


class TestConsumers:
    async def test_what_is_none_of_its_business_counts_as_settled(self, connect: Any, server: Server) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 20)
            await ann.sub("g/c", consumer="w", from_="all", where=WHERE, select=SELECT)
            lines = [await ann.until("msg") for _ in range(9)]
            assert [line["data"] for line in lines] == [{"n": n} for n in range(3, 20, 2)]
            assert [line["headers"] for line in lines] == [{"a": n} for n in range(3, 20, 2)]
            assert (await ann.ask("ack", topic="g/c", consumer="w", seqs=[line["seq"] for line in lines]))["op"] == "ok"
            await publish(joe, "g/c", 1, 20)
            await publish(joe, "g/c", 1, 21)
            assert (await ann.until("msg"))["data"] == {"n": 21}
            place = server.broker.consumers_of("g").find("g/c", "w")
            assert place.settled.floor == 21

    async def test_its_position_outlives_the_broker(self, tmp_path: Any) -> None:
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            await ann.sub("g/c", consumer="w", where={"type": "a"})
            await ann.expect("live", consumer="w")
            for n in range(50):
                await ann.pub("g/c", n, type="b")
            await ann.pub("g/c", 50, type="a")
            assert (await ann.until("msg"))["seq"] == 51
            await ann.ask("ack", topic="g/c", consumer="w", seq=51)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            assert server.broker.consumers_of("g").find("g/c", "w").settled.floor == 51
            await ann.sub("g/c", consumer="w", where={"type": "a"})
            await ann.expect("live", consumer="w")
            await ann.pub("g/c", 51, type="b")
            await ann.pub("g/c", 52, type="a")
            assert (await ann.until("msg"))["data"] == 52

    async def test_its_members_agree_on_what_it_is_for(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("bob") as bob:
            assert (await ann.ask("sub", topic="g/c", consumer="w", where={"type": "a"}))["op"] == "ok"
            for fields in ({}, {"where": {"type": "b"}}, {"where": {"type": "a"}, "select": []}):
                answer = await bob.ask("sub", topic="g/c", consumer="w", **fields)
                assert (answer["code"], "another filter" in answer["message"]) == ("conflict", True)
            assert (await bob.ask("sub", topic="g/c", consumer="w", where={"type": "a"}))["op"] == "ok"
            await ann.ask("unsub", topic="g/c", consumer="w")
            await bob.ask("unsub", topic="g/c", consumer="w")
            assert (await bob.ask("sub", topic="g/c", consumer="w"))["op"] == "ok"

    async def test_a_message_that_fails_comes_again_and_its_letter_is_whole(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("bob") as bob:
            await bob.sub("g/_dead")
            await ann.sub("g/c", consumer="w", where={"type": "a"}, select=["data.x"], max_deliver=2, backoff=[0])
            await ann.pub("g/c", {"x": 1, "y": 2}, type="a")
            for attempt in (None, 2):
                line = await ann.until("msg")
                assert (line["data"], line.get("attempt")) == ({"x": 1}, attempt)
                await ann.send("nack", topic="g/c", consumer="w", seq=1)
            assert (await bob.until("msg"))["data"] == {"x": 1, "y": 2}

    async def test_a_long_history_that_nobody_wants_holds_nobody_up(self, connect: Any, server: Server) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            for n in range(1000):
                await joe.send("pub", topic="g/c", id=f"{n}", data=n)
            for _ in range(1000):
                await joe.until("ok")
            await ann.sub("g/c", consumer="w", from_="all", where={"type": "never"})
            await ann.expect("live", consumer="w")
            assert server.broker.consumers_of("g").find("g/c", "w").settled.floor == 1000


class TestOverHttp:
    async def test_a_page_of_history_and_a_stream(self, connect: Any, server: Server) -> None:
        params = {"where": json.dumps(WHERE), "select": SELECT}
        async with connect("joe") as joe, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            await publish(joe, "g/c", 20)
            page = (await http.get("/v1/topics/g/c/messages", params=params)).json()
            assert [line["data"] for line in page["messages"]] == [{"n": n} for n in range(3, 20, 2)]
            assert (page["next"], page["head"]) == (20, 20)
            page = (await http.get("/v1/topics/g/c/messages", params={**params, "limit": 4})).json()
            after = page["next"]
            rest = (await http.get("/v1/topics/g/c/messages", params={**params, "after": after})).json()
            assert [line["seq"] for line in page["messages"] + rest["messages"]] == list(range(4, 21, 2))
            seen = []
            async with http.stream("GET", "/v1/topics/g/c/stream", params={**params, "after": 0}) as answer:
                async for text in answer.aiter_lines():
                    if text.startswith("data: "):
                        seen.append(json.loads(text[6:])["data"])
                    if len(seen) == 9:
                        break
            assert seen == [{"n": n} for n in range(3, 20, 2)]


async def test_what_is_selected_is_still_found_fetched_and_answered(server: Server) -> None:
    """What led to it, what it refers to, and how its asker wants the answer are no matter of what a reader selects."""
    async with Agent("joe", group="g", url=url_of(server), local=False) as joe:

        @joe.on("first")
        async def go_on(message: Message) -> None:
            ref = await joe.attach("g", b"large")
            await joe.publish("second", {"a": 1, "b": 2}, id="s1", attachments=[ref], headers={"trace": "t"})

        await joe.subscribe("first").ready()
        live = joe.subscribe("second", select=["data.a"])
        await live.ready()
        await joe.publish("first", 1, id="f1")
        stored = joe.subscribe("second", start="all", select=["data.a"])
        async with asyncio.timeout(10):
            for reader in (live, stored):
                message = await anext(reader)
                assert (message.data, message.headers.get("trace"), message.hops) == ({"a": 1}, None, 1)
                assert [each.id for each in await message.ancestors(5)] == ["f1"]
                context = await joe.topic("second").context(message, budget_tokens=1000)
                assert [each.id for each in context.messages] == ["s1", "f1"]
                assert await message.fetch() == b"large"

            questions = joe.subscribe("questions", select=[])
            await questions.ready()
            asked = asyncio.create_task(joe.request("questions", 1, 10, durable=True))
            question = await anext(questions)
            receipt = await question.reply("yes")
            assert (receipt.seq is not None, (await asked).data) == (True, "yes")
