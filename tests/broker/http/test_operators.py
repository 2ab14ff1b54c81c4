"""Consumers, dead letters, receipts and top over HTTP, against a broker on a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.consuming import idle, kill, member, publish, settle
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server
from hubbub_protocol.frames import Err


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data", deaf_seconds=0.05) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        yield client


@pytest.fixture
async def joe(server: Server) -> AsyncIterator[WireClient]:
    async with wire_client(url_of(server), "joe") as client:
        yield client


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[WireClient]:
    async with wire_client(url_of(server), "ann") as client:
        yield client


class TestConsumers:
    async def test_they_are_listed_with_what_they_are_behind(
        self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient
    ) -> None:
        await member(ann, "g/t", "w", max_unacked=1, from_="all")
        await member(ann, "h/*", "w")
        await publish(joe, 3)
        await ann.until("msg")
        answer = (await http.get("/v1/consumers")).json()
        assert answer["total"] == 2
        one, other = answer["consumers"]
        assert (one["topic"], one["lag"], one["outstanding"], one["start"]) == ("g/t", 3, 1, "all")
        assert (other["topic"], other["lag"], other["oldest"]) == ("h/*", 0, None)
        assert [each["agent"] for each in one["members"]] == ["ann"]

    @pytest.mark.parametrize(
        ("query", "topics"),
        [
            ({"name": "w"}, ["g/a", "g/b/*", "h/a"]),
            ({"topic": "g/**"}, ["g/a", "g/a"]),
            ({"topic": "g/b/*"}, ["g/b/*"]),
            ({"topic": "g/a", "name": "v"}, ["g/a"]),
            ({"offset": 3}, ["h/a"]),
            ({"limit": 1}, ["g/a"]),
        ],
    )
    async def test_some_of_them(
        self, http: httpx.AsyncClient, ann: WireClient, query: dict[str, str], topics: list[str]
    ) -> None:
        for topic, name in (("g/a", "w"), ("g/a", "v"), ("g/b/*", "w"), ("h/a", "w")):
            await member(ann, topic, name)
        answer = (await http.get("/v1/consumers", params=query)).json()
        assert [each["topic"] for each in answer["consumers"]] == topics

    async def test_reset_pause_resume_and_removal(
        self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient
    ) -> None:
        await member(ann, "g/*", from_="all")
        await publish(joe, 2)
        for line in await ann.messages(2):
            await settle(ann, "ack", line["seq"])
        path = "/v1/consumers/g/*"
        assert (await http.post(f"{path}/pause?name=w")).json()["paused"] is True
        answer = await http.post(f"{path}/reset?name=w", json={"from": "all"})
        assert (answer.json()["lag"], answer.json()["paused"]) == (2, True)
        await idle(ann)
        assert (await http.post(f"{path}/resume?name=w")).json()["paused"] is False
        await ann.messages(2)
        removed = await http.request("DELETE", f"{path}?name=w")
        assert removed.json() == {"topic": "g/*", "name": "w", "positions": 1}, "the void one of before too"
        await ann.until("err", code="not_found", consumer="w", topic="g/*")
        assert (await http.get(f"{path}?name=w")).status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/v1/consumers/g/t?name=nobody", None, 404),
            ("GET", "/v1/consumers/g/t", None, 400),
            ("GET", "/v1/consumers/g?name=w", None, 400),
            ("GET", "/v1/consumers/g/t?name=_dlq", None, 404),
            ("POST", "/v1/consumers/g/t/reset?name=w", {}, 400),
            ("POST", "/v1/consumers/g/t/reset?name=w", {"from": "yesterday"}, 400),
            ("POST", "/v1/consumers/g/t/reset?name=w", {"from": {"seq": "x"}}, 400),
            ("POST", "/v1/consumers/g/t/reset?name=w", {"from": {"seq": 9}}, 400),
            ("POST", "/v1/consumers/g/t/reset?name=w", {"from": "all", "to": 1}, 400),
            ("DELETE", "/v1/consumers/g/u?name=w", None, 404),
        ],
    )
    async def test_what_can_not_be_is_an_err(
        self, http: httpx.AsyncClient, ann: WireClient, method: str, path: str, body: Any, status: int
    ) -> None:
        await member(ann)
        answer = await http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["op"] == Err.__struct_config__.tag
        assert answer.json()["message"]


class TestDeadLetters:
    async def test_they_are_listed_shown_redriven_and_dropped(
        self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient
    ) -> None:
        await ann.sub("g/_dead")
        await member(ann)
        for number in range(3):
            await joe.pub("g/t", {"n": number}, id=f"m{number}")
            line = await ann.until("msg", topic="g/t")
            await kill(ann, line["seq"], reason="no such key")
            await ann.until("msg", topic="g/_dead")
        page = (await http.get("/v1/dead/g", params={"limit": 2})).json()
        assert page["next"] == 2
        first = page["letters"][0]
        assert (first["seq"], first["topic"], first["message"], first["consumer"], first["id"], first["from"]) == (
            1,
            "g/t",
            1,
            "w",
            "m0",
            "joe",
        )
        assert (first["reason"], first["attempts"]) == ("no such key", 1)
        whole = (await http.get("/v1/dead/g/2")).json()
        assert whole["letter"]["data"] == {"n": 1}
        assert whole["letter"]["headers"]["dead"]["original"]["id"] == "m1"
        handled = (await http.post("/v1/dead/g/redrive", json={"seqs": [2]})).json()
        assert handled == {"done": 1, "already": 0, "refused": 0, "refusals": [], "next": None}
        assert (await ann.until("msg", topic="g/t"))["data"] == {"n": 1}
        assert (await http.get("/v1/dead/g/2")).status_code == 404
        handled = (await http.post("/v1/dead/g/drop", json={"all": True, "consumer": "w"})).json()
        assert (handled["done"], handled["next"]) == (2, None)
        assert (await http.get("/v1/dead/g")).json() == {"letters": [], "next": None}

    async def test_bytes_are_shown_in_base64(self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient) -> None:
        await ann.sub("g/_dead")
        await member(ann)
        await joe.send_binary(b"\x00\x01", topic="g/t", id="b")
        await ann.until("msg", topic="g/t")
        await kill(ann, 1)
        await ann.until("msg", topic="g/_dead")
        assert (await http.get("/v1/dead/g/1")).json()["letter"]["data_base64"] == "AAE="

    async def test_what_stays_open_is_told_with_why(
        self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient
    ) -> None:
        await ann.sub("g/_dead")
        await member(ann)
        await publish(joe, 1)
        await ann.until("msg", topic="g/t")
        await kill(ann, 1)
        await ann.until("msg", topic="g/_dead")
        await http.request("DELETE", "/v1/consumers/g/t?name=w")
        handled = (await http.post("/v1/dead/g/redrive", json={"all": True})).json()
        assert (handled["done"], handled["refused"], handled["refusals"][0]["seq"]) == (0, 1, 1)
        assert (handled["refusals"][0]["code"], "republish" in handled["refusals"][0]["message"]) == ("not_found", True)
        handled = (await http.post("/v1/dead/g/redrive", json={"all": True, "republish": True})).json()
        assert handled["done"] == 1

    @pytest.mark.parametrize(
        "body",
        [{}, {"seqs": [1], "all": True}, {"seqs": [1], "consumer": "w"}, {"all": False}, {"seqs": ["x"]}, {"any": 1}],
    )
    async def test_which_ones_has_to_be_said(self, http: httpx.AsyncClient, body: Any) -> None:
        for what in ("redrive", "drop"):
            answer = await http.post(f"/v1/dead/g/{what}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")

    async def test_a_group_without_any_has_none(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/v1/dead/quiet")).json() == {"letters": [], "next": None}
        assert (await http.get("/v1/dead/quiet/1")).status_code == 404
        assert (await http.post("/v1/dead/quiet/drop", json={"all": True})).json()["done"] == 0


class TestReceipts:
    async def test_what_became_of_a_message(self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient) -> None:
        await member(ann)
        await joe.pub("g/t", 1, id="a/b", track=True)
        await ann.until("msg")
        await settle(ann, "ack", 1)
        (receipt,) = (await http.get("/v1/receipts/a/b")).json()["receipts"]
        assert (receipt["publisher"], receipt["topic"], receipt["seq"]) == ("joe", "g/t", 1)
        assert (receipt["state"], receipt["consumer"], receipt["by"]) == ("done", "w", "ann")
        assert (await http.get("/v1/receipts/none")).json() == {"receipts": []}


class TestTop:
    async def test_who_is_how_fast(self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient) -> None:
        await member(ann, max_unacked=2)
        await publish(joe, 4)
        await ann.messages(2)
        await settle(ann, "ack", 1)
        await settle(ann, "extend", 2)
        top = (await http.get("/v1/top")).json()
        (consumer,) = top["consumers"]
        assert (consumer["lag"], consumer["outstanding"], consumer["acked"], consumer["members"]) == (3, 2, 1, 1)
        assert consumer["oldest"] <= top["now"]
        assert 0 < consumer["work"]["p50"] <= consumer["work"]["p99"] <= consumer["total"]["p99"]
        (agent,) = top["agents"]
        assert (agent["agent"], agent["state"], agent["on"]) == ("ann", "busy", "g/t#2")

    async def test_who_left_is_gone(self, http: httpx.AsyncClient, server: Server, joe: WireClient) -> None:
        async with wire_client(url_of(server), "bob") as bob:
            await member(bob)
        while (await http.get("/v1/sessions")).json()["total"] != 1:
            pass  # until the broker has noticed
        (agent,) = (await http.get("/v1/top")).json()["agents"]
        assert (agent["agent"], agent["state"]) == ("bob", "gone")
        async with wire_client(url_of(server), "bob"):
            assert (await http.get("/v1/top")).json()["agents"] == []

    async def test_the_metrics_tell_it_too(self, http: httpx.AsyncClient, joe: WireClient, ann: WireClient) -> None:
        await member(ann, max_unacked=1)
        await publish(joe, 2)
        await ann.until("msg")
        await http.get("/v1/top")
        text = (await http.get("/metrics")).text
        for line in (
            'hubbub_consumer_lag_messages{consumer="w",topic="g/t"} 2.0',
            'hubbub_consumer_outstanding_messages{consumer="w",topic="g/t"} 1.0',
            'hubbub_agents{state="working"} 1.0',
            'hubbub_agents{state="deaf"} 0.0',
        ):
            assert line in text
        assert "hubbub_consumer_oldest_seconds" in text


async def test_the_description_says_what_a_body_may_hold(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    body = paths["/v1/dead/{group}/redrive"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"seqs", "all", "consumer", "topic", "after", "republish"}
