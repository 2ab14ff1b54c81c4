"""GET /v1/topics/TOPIC/messages."""

import httpx
import pytest

from harness.http_broker import HttpBroker
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Err

TOPIC = "research/conv-42"


async def publish(client: httpx.AsyncClient, count: int, topic: str = TOPIC) -> None:
    await client.post("/v1/publish", json=[{"topic": topic, "id": f"m{n}", "data": n} for n in range(1, count + 1)])


async def test_a_page(client: httpx.AsyncClient) -> None:
    await publish(client, 5)
    answer = await client.get(f"/v1/topics/{TOPIC}/messages", params={"after": 1, "limit": 2})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    page = answer.json()
    assert {name: page[name] for name in ("topic", "epoch", "head", "first", "next")} == {
        "topic": TOPIC,
        "epoch": "e1",
        "head": 5,
        "first": 1,
        "next": 3,
    }
    assert [(msg["seq"], msg["id"], msg["data"]) for msg in page["messages"]] == [(2, "m2", 2), (3, "m3", 3)]


async def test_pages_join_without_hole_or_repeat(client: httpx.AsyncClient) -> None:
    await publish(client, 25)
    seen: list[int] = []
    after = 0
    while True:
        page = (await client.get(f"/v1/topics/{TOPIC}/messages", params={"after": after, "limit": 10})).json()
        seen += [msg["seq"] for msg in page["messages"]]
        after = page["next"]
        if after == page["head"]:
            break
    assert seen == list(range(1, 26))


async def test_defaults_and_bounds_reach_the_broker(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    await client.get(f"/v1/topics/{TOPIC}/messages")
    await client.get(f"/v1/topics/{TOPIC}/messages?limit=1000&after=9007199254740991")
    assert broker.history_asked == [(TOPIC, 0, 100, 1 << 20), (TOPIC, 9007199254740991, 1000, 1 << 20)]


async def test_a_topic_may_have_many_segments_or_be_escaped(client: httpx.AsyncClient) -> None:
    await publish(client, 1, "a/b/c/messages/@x")
    assert (await client.get("/v1/topics/a/b/c/messages/@x/messages")).json()["head"] == 1
    assert (await client.get("/v1/topics/a%2Fb%2Fc%2Fmessages%2F%40x/messages")).json()["head"] == 1


async def test_an_unknown_topic_is_an_empty_one(client: httpx.AsyncClient) -> None:
    page = (await client.get("/v1/topics/no/one/messages")).json()
    assert (page["head"], page["messages"], page["next"]) == (0, [], 0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/topics/nowhere/messages", "bad topic 'nowhere'"),
        ("/v1/topics/a/*/messages", "is a pattern; a topic is wanted here"),
        ("/v1/topics/a/b/messages?limit=0", "limit: "),
        ("/v1/topics/a/b/messages?limit=1001", "limit: "),
        ("/v1/topics/a/b/messages?limit=ten", "limit: "),
        ("/v1/topics/a/b/messages?after=-1", "after: "),
        ("/v1/topics/a/b/messages?where={", "JSON"),
        ("/v1/topics/a/b/messages?where=1", "`where` is a JSON object"),
        ('/v1/topics/a/b/messages?where={"type":{"like":1}}', "no operator"),
        ("/v1/topics/a/b/messages?select=type", "always comes"),
        ("/v1/topics/a/b/messages?after=9007199254740992", "after: "),
    ],
)
async def test_what_is_wrong_is_said(client: httpx.AsyncClient, path: str, message: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"
    assert message in answer.json()["message"]


async def test_a_broker_that_does_not_own_the_topic_says_who_does(
    client: httpx.AsyncClient, broker: HttpBroker
) -> None:
    broker.refusals[TOPIC] = Err(code=ErrorCode.WRONG_SHARD, message="ask there", url="ws://there:1")
    answer = await client.get(f"/v1/topics/{TOPIC}/messages")
    assert answer.status_code == 421
    assert answer.json()["url"] == "ws://there:1"


async def test_what_is_asked_for_reaches_the_broker(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    where = '{"type":"result"}'
    await client.get(f"/v1/topics/{TOPIC}/messages", params={"where": where, "select": ["data.a", "headers"]})
    assert broker.filters_asked == [Filter({"type": "result"}, ["headers", "data.a"])]


async def test_one_message_and_what_led_to_it(client: httpx.AsyncClient) -> None:
    for number in range(1, 4):
        parent = {"parent": f"m{number - 1}"}
        await client.post("/v1/publish", json={"topic": TOPIC, "id": f"m{number}", "data": number, **parent})
    found = (await client.get(f"/v1/topics/{TOPIC}/messages/m3?ancestors=1")).json()
    assert ([one["id"] for one in found["messages"]], found["missing"]) == (["m3", "m2"], None)
    found = (await client.get(f"/v1/topics/{TOPIC}/messages/m2?ancestors=9")).json()
    assert ([one["id"] for one in found["messages"]], found["missing"]) == (["m2", "m1"], "m0")
    assert (await client.get(f"/v1/topics/{TOPIC}/messages/none")).status_code == 404
    answer = await client.get(f"/v1/topics/{TOPIC}/messages/m1?ancestors=101")
    assert (answer.status_code, "max_ancestors" in answer.json()["message"]) == (400, True)
