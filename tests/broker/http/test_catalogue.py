"""What there is: topics, agents, shards, routes."""

import httpx
import pytest

from harness.http_broker import HttpBroker
from hubbub_broker.http import SessionInfo
from hubbub_broker.http.catalogue import find


async def fill(client: httpx.AsyncClient, *topics: str) -> None:
    answer = await client.post("/v1/publish", json=[{"topic": topic, "data": 1} for topic in topics])
    assert answer.status_code == 200


def names(answer: httpx.Response) -> list[str]:
    return [item["topic"] for item in answer.json()["topics"]]


async def test_topics_are_sorted_and_described(client: httpx.AsyncClient) -> None:
    await fill(client, "b/1", "a/2", "a/1", "a/1")
    answer = await client.get("/v1/topics")
    assert answer.json()["topics"][0] == {"topic": "a/1", "head": 2, "first": 1, "ts": 1.5, "bytes": 100}
    assert names(answer) == ["a/1", "a/2", "b/1"]
    assert answer.json()["next"] is None


async def test_topics_come_in_pages(client: httpx.AsyncClient) -> None:
    await fill(client, *(f"g/{number:03}" for number in range(25)))
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        answer = await client.get("/v1/topics", params={"limit": 10, "after": after})
        assert len(names(answer)) <= 10
        seen += names(answer)
        after = answer.json()["next"]
    assert seen == [f"g/{number:03}" for number in range(25)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"prefix": "re"}, ["red/a", "red/a/b", "research/a"]),
        ({"pattern": "red/*"}, ["red/a"]),
        ({"pattern": "red/**"}, ["red/a", "red/a/b"]),
        ({"pattern": "*/a"}, ["blue/a", "red/a", "research/a"]),
        ({"pattern": "red/a"}, ["red/a"]),
        ({"pattern": "*/a", "prefix": "re"}, ["red/a", "research/a"]),
        ({"pattern": "red/*", "prefix": "red/a"}, ["red/a"]),
        ({"pattern": "red/*", "prefix": "blue"}, []),
        ({"pattern": "*/a", "after": "blue/a"}, ["red/a", "research/a"]),
    ],
)
async def test_topics_by_prefix_and_pattern(client: httpx.AsyncClient, query: dict[str, str], found: list[str]) -> None:
    await fill(client, "red/a", "red/a/b", "research/a", "blue/a")
    assert names(await client.get("/v1/topics", params=query)) == found


async def test_a_pattern_asks_the_broker_for_its_literal_beginning_only(
    client: httpx.AsyncClient, broker: HttpBroker
) -> None:
    await client.get("/v1/topics", params={"pattern": "red/*", "limit": 5})
    await client.get("/v1/topics", params={"limit": 5})
    assert broker.topics_asked == [("red/", "", 1000), ("", "", 5)]


async def test_one_request_looks_at_a_bounded_number_of_topics(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    await fill(client, *(f"g/{number:04}/x" for number in range(2000)), "g/3000/y")
    found, after = await find(broker, "", "g/*/y", "", 10, scan=1500)
    assert found == []
    assert after == "g/1499/x"
    found, after = await find(broker, "", "g/*/y", after, 10, scan=1500)
    assert [entry.topic for entry in found] == ["g/3000/y"]
    assert after is None


async def test_a_bad_pattern_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/topics", params={"pattern": "a**"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_sessions(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    broker.connected = [SessionInfo(f"a{number}", "s", 1.5, "127.0.0.1:9", 2) for number in range(5)]
    answer = (await client.get("/v1/sessions", params={"offset": 1, "limit": 2})).json()
    assert answer["total"] == 5
    assert [item["agent"] for item in answer["sessions"]] == ["a1", "a2"]
    assert answer["sessions"][0] == {
        "agent": "a1",
        "session": "s",
        "since": 1.5,
        "address": "127.0.0.1:9",
        "subscriptions": 2,
    }


async def test_shards(client: httpx.AsyncClient) -> None:
    one, two = (await client.get("/v1/shards")).json()["shards"]
    assert one == {
        "shard": 0,
        "epoch": "e1",
        "topics": 2,
        "pending_bytes": 0,
        "log_bytes": 4096,
        "read_only": None,
    }
    assert two["read_only"] == "the disk is full"


async def test_a_route_is_this_broker_or_another(client: httpx.AsyncClient) -> None:
    here = (await client.get("/v1/route", params={"group": "research"})).json()
    assert here == {"group": "research", "shard": 3, "url": "ws://127.0.0.1:8091/v1/ws"}
    there = (await client.get("/v1/route", params={"group": "far"})).json()
    assert there["url"] == "ws://elsewhere:1/v1/ws"
    assert (await client.get("/v1/route", params={"group": "a/b"})).status_code == 400
    assert (await client.get("/v1/route")).status_code == 400
