"""`get`: a stored message by its id or seq, and what led to it, wherever in the log it lies."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server


async def fill(client: WireClient, topic: str, count: int, size: int, start: int = 0, back: int = 7) -> None:
    """Messages of which each answers the one `back` before it. (The guard ends chains that are too long.)"""
    for n in range(start, start + count):
        parent = {"parent": f"m{n - back}"} if n >= back else {}
        await client.send("pub", topic=topic, id=f"m{n}", data={"n": n, "text": "x" * size}, **parent)
    for _ in range(count):
        await client.until("ok")


async def ids(client: WireClient, **fields: Any) -> list[str]:
    answer = await client.ask("get", **fields)
    assert answer["op"] == "ok", answer
    return [message["id"] for message in answer["messages"]]


class TestFinding:
    async def test_by_id_by_seq_and_with_ancestors(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await fill(joe, "g/c", 50, 10)
            answer = await joe.ask("get", topic="g/c", id="m20")
            assert [message["seq"] for message in answer["messages"]] == [21]
            assert "missing" not in answer
            assert await ids(joe, topic="g/c", seq=50) == ["m49"]
            assert await ids(joe, topic="g/c", id="m49", ancestors=3) == ["m49", "m42", "m35", "m28"]
            assert await ids(joe, topic="g/c", seq=30, ancestors=100) == ["m29", "m22", "m15", "m8", "m1"]

    async def test_a_payload_of_bytes_and_odd_ids(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for id in ('a"b', "ü/..", "m1", "m11"):
                await joe.send_binary(b"\x00" + id.encode(), topic="g/c", id=id, headers={"id": "m1"})
                await joe.until("ok")
            for id in ('a"b', "ü/..", "m1", "m11"):
                (message,) = (await joe.ask("get", topic="g/c", id=id))["messages"]
                assert (message["id"], base64.b64decode(message["data_base64"])) == (id, b"\x00" + id.encode())
            assert (await joe.ask("get", topic="g/c", id="m"))["code"] == "not_found"

    async def test_the_newest_of_several_senders(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.pub("g/c", "joe's", id="1")
            await ann.pub("g/c", "ann's", id="1")
            await ann.pub("g/c", 2, id="2", parent="1")
            (message,) = (await joe.ask("get", topic="g/c", id="1"))["messages"]
            assert message["data"] == "ann's"

    async def test_what_is_not_there_is_said(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.pub("g/c", 1, id="1", ttl=0.001)
            await joe.pub("g/c", 2, id="2", parent="1")
            await joe.pub("g/c", 3, id="3", ephemeral=True)
            for fields in ({"id": "1"}, {"id": "3"}, {"id": "none"}, {"seq": 1}, {"seq": 0}, {"seq": 3}):
                assert (await joe.ask("get", topic="g/c", **fields))["code"] == "not_found"
            assert (await joe.ask("get", topic="g/none", id="1"))["code"] == "not_found"
            answer = await joe.ask("get", topic="g/c", id="2", ancestors=5)
            assert (len(answer["messages"]), answer["missing"]) == (1, "1")

    @pytest.mark.parametrize("options", [{"max_ancestors": 10, "max_lookups": 2}], indirect=True)
    async def test_refusals(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.pub("g/c", 1, id="1")
            for fields, why in (
                ({}, "exactly one"),
                ({"id": "1", "seq": 1}, "exactly one"),
                ({"id": "1", "ancestors": -1}, "max_ancestors"),
                ({"id": "1", "ancestors": 11}, "max_ancestors"),
            ):
                answer = await joe.ask("get", topic="g/c", **fields)
                assert (answer["code"], why in answer["message"]) == ("bad_request", True)
            assert (await joe.ask("get", topic="g/*", id="1"))["code"] == "bad_request"
            lines = [json.dumps({"op": "get", "topic": "g/c", "id": "1", "rid": n}) for n in range(5)]
            await joe.socket.send("\n".join(lines))
            answers = [await joe.next() for _ in range(5)]
            refused = [answer for answer in answers if answer["op"] == "err"]
            assert len(refused) == 3
            assert all("max_lookups" in answer["message"] for answer in refused)
            assert (await joe.ask("get", topic="g/c", id="1"))["op"] == "ok"

    @pytest.mark.parametrize("options", [{"max_frame": 16_384}], indirect=True)
    async def test_an_answer_is_no_larger_than_a_frame(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await fill(joe, "g/c", 80, 2000)
            found = await ids(joe, topic="g/c", id="m79", ancestors=50)
            assert found == [f"m{n}" for n in range(79, 0, -7)][: len(found)]
            assert 3 <= len(found) <= 6


async def test_wherever_it_lies_in_the_log(tmp_path: Path) -> None:
    """Sealed segments, unsealed ones, the one being written, before and after a restart."""
    source = random.Random(7)
    settings: dict[str, Any] = {"segment_bytes": "64KiB", "shards": 1}
    async with serving(tmp_path / "data", **settings) as server, wire_client(url_of(server), "joe") as joe:
        for start in range(0, 600, 200):
            await fill(joe, "g/c", 200, 300, start, back=20)
            await fill(joe, "g/d", 50, 300, start, back=1000)
        await looked_up(joe, source)
    async with serving(tmp_path / "data", **settings) as server, wire_client(url_of(server), "joe") as joe:
        await looked_up(joe, source)
        await fill(joe, "g/c", 10, 10, 600, back=20)
        assert (await ids(joe, topic="g/c", id="m605", ancestors=100))[:2] == ["m605", "m585"]


async def looked_up(client: WireClient, source: random.Random) -> None:
    for n in [0, 599, *source.sample(range(600), 40)]:
        (message,) = (await client.ask("get", topic="g/c", id=f"m{n}"))["messages"]
        assert (message["seq"], message["topic"]) == (n + 1, "g/c")
    for n in (100, 555):
        line = await ids(client, topic="g/c", id=f"m{n}", ancestors=100)
        assert line == [f"m{each}" for each in range(n, -1, -20)]
    assert (await client.ask("get", topic="g/d", id="m60"))["code"] == "not_found"


async def test_over_http(connect: Any, server: Server) -> None:
    async with connect("joe") as joe, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        await fill(joe, "g/c", 20, 10)
        found = (await http.get("/v1/topics/g/c/messages/m19?ancestors=5")).json()
        assert [message["id"] for message in found["messages"]] == ["m19", "m12", "m5"]
        assert (await http.get("/v1/topics/g/c/messages/none")).json()["code"] == "not_found"
