"""POST /v1/publish."""

import base64
import json
from typing import Any

import httpx
import pytest

from harness.http_broker import HttpBroker
from hubbub_broker.http import create_app
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err

TOPIC = "research/conv-42"


def message(**fields: Any) -> dict[str, Any]:
    return {"topic": TOPIC, "id": "m1", "data": {"text": "hello"}, **fields}


async def test_one_message_is_answered_as_on_the_wire(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    answer = await client.post("/v1/publish", json=message(parent="m0", headers={"a": 1}))
    assert answer.status_code == 200
    assert answer.json() == {"op": "ok", "id": "m1", "topic": TOPIC, "seq": 1, "lc": 1}
    assert broker.messages(TOPIC) == [
        {
            "op": "msg",
            "topic": TOPIC,
            "id": "m1",
            "from": "http",
            "ts": 1.5,
            "lc": 1,
            "data": {"text": "hello"},
            "seq": 1,
            "parent": "m0",
            "headers": {"a": 1},
        }
    ]


async def test_a_list_is_answered_in_its_order(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    answer = await client.post("/v1/publish", json=[message(id=f"m{number}") for number in range(5)])
    assert answer.status_code == 200
    assert [(one["id"], one["seq"]) for one in answer.json()] == [(f"m{number}", number + 1) for number in range(5)]
    assert [request.pub.id for _, request in broker.published] == [f"m{number}" for number in range(5)]


async def test_an_op_may_stand_there(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/publish", json=message(op="pub"))).status_code == 200
    assert (await client.post("/v1/publish", json=message(op="sub"))).status_code == 400


async def test_an_id_is_made_up_if_there_is_none(client: httpx.AsyncClient) -> None:
    body = {"topic": TOPIC, "data": 1}
    one, other = [(await client.post("/v1/publish", json=body)).json()["id"] for _ in range(2)]
    assert len(one) == 36
    assert one != other


@pytest.mark.parametrize(
    ("headers", "query", "name"),
    [
        ({}, "", "http"),
        ({"X-Hubbub-Agent": "joe"}, "", "joe"),
        ({}, "?agent=ann", "ann"),
        ({"X-Hubbub-Agent": "joe"}, "?agent=ann", "ann"),
    ],
)
async def test_who_publishes(
    client: httpx.AsyncClient, broker: HttpBroker, headers: dict[str, str], query: str, name: str
) -> None:
    assert (await client.post(f"/v1/publish{query}", json=message(), headers=headers)).status_code == 200
    assert [agent for agent, _ in broker.published] == [name]


async def test_user_data_passes_through_untouched(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    text = '{"topic":"a/b","id":"x","data":{"n":1.50,"big":123456789012345678901234567890,"e":1e5,"u":"\\u00e9é"}}'
    await client.post("/v1/publish", content=text, headers={"Content-Type": "application/json"})
    ((_, request),) = broker.published
    assert bytes(request.pub.data) == text[text.index('{"n"') : -1].encode()


async def test_a_message_on_several_lines_is_stored_on_one(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    text = json.dumps(message(data={"a": "two\nlines", "b": [1, 2]}, headers={"h": 1}), indent=2)
    assert "\n" in text
    answer = await client.post("/v1/publish", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    ((_, request),) = broker.published
    assert b"\n" not in bytes(request.pub.data) + bytes(request.pub.headers)
    assert json.loads(bytes(request.pub.data)) == {"a": "two\nlines", "b": [1, 2]}


async def test_bytes_travel_in_base64(client: httpx.AsyncClient, broker: HttpBroker) -> None:
    payload = bytes(range(256))
    body = {"topic": TOPIC, "id": "b", "data_base64": base64.b64encode(payload).decode()}
    assert (await client.post("/v1/publish", json=body)).status_code == 200
    ((_, request),) = broker.published
    assert request.payload == payload
    history = (await client.get(f"/v1/topics/{TOPIC}/messages")).json()
    assert base64.b64decode(history["messages"][0]["data_base64"]) == payload
    assert "data" not in history["messages"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"3", "Expected `object | array`"),
        (b"[3]", "Expected `object`, got `int` - at `$[0]`"),
        (b'{"data":1}', "missing required field `topic`"),
        (b'{"topic":3}', "Expected `str`, got `int` - at `$.topic`"),
        (b'{"topic":"a/b","ttl":"x"}', "$.ttl"),
        (b'{"topic":"a/b","data":"\xff"}', "not UTF-8"),
        (b'{"topic":"a/b","data":"a\nb"}', "malformed"),
        (b'{"topic":"a/b","data":1} x', "trailing"),
        (b'{"topic":"a/b","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        (b'{"topic":"a/b",\n"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
        (b'{"topic":"nowhere"}', "bad topic 'nowhere': a topic is GROUP/CONVERSATION"),
        (b'{"topic":"a/b","data_base64":"%%"}', "data_base64 is not base64"),
        (b'{"topic":"a/b","data_base64":"YQ==","data":1}', "not both"),
    ],
)
async def test_what_is_wrong_is_said(
    client: httpx.AsyncClient, broker: HttpBroker, content: bytes, message: str
) -> None:
    answer = await client.post("/v1/publish", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["op"] == "err"
    assert answer.json()["code"] == "bad_request"
    assert message in answer.json()["message"]
    assert broker.published == []


async def test_one_bad_message_in_a_list_does_not_harm_the_others(
    client: httpx.AsyncClient, broker: HttpBroker
) -> None:
    broker.refusals["a/full"] = Err(code=ErrorCode.OVERLOADED, message="later", id="m2", retry_after=2.5)
    body = [message(id="m1"), message(id="m2", topic="a/full"), message(id="m3")]
    answer = await client.post("/v1/publish", json=body)
    assert answer.status_code == 207
    assert answer.headers["Retry-After"] == "3"
    assert [one["op"] for one in answer.json()] == ["ok", "err", "ok"]


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_a_refusal_has_the_status_of_its_code(
    client: httpx.AsyncClient, broker: HttpBroker, code: ErrorCode
) -> None:
    broker.refusals[TOPIC] = Err(code=code, message="no", id="m1", retry_after=0.2)
    answer = await client.post("/v1/publish", json=message())
    assert answer.status_code == code.http_status
    assert answer.json() == {"op": "err", "code": code, "message": "no", "id": "m1", "retry_after": 0.2}
    assert answer.headers["Retry-After"] == "1"


async def test_an_agent_name_outside_the_grammar_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/publish?agent=a/b", json=message())
    assert answer.status_code == 400
    assert "bad agent name" in answer.json()["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_is_not_called_json_is_refused(client: httpx.AsyncClient, broker: HttpBroker, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = await client.post("/v1/publish", content=b'{"topic":"a/b","data":1}', headers=headers)
    assert answer.status_code == 400
    assert "send application/json" in answer.json()["message"]
    assert broker.published == []


async def test_a_body_beyond_the_frame_limit_is_refused() -> None:
    small = HttpBroker(max_frame=4096)
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 1024

    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(small)), base_url="http://localhost") as http:
        for content in (b"x" * 4097, endless()):
            answer = await http.post("/v1/publish", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["code"] == "too_large"
            assert "larger than 4096 bytes (max_frame)" in answer.json()["message"]
        fits = await http.post("/v1/publish", json=message(data="x" * 3900))
        assert fits.status_code == 200
    assert read < 10


async def test_a_list_longer_than_the_window_is_refused() -> None:
    small = HttpBroker(max_inflight=3)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(small)), base_url="http://localhost") as http:
        answer = await http.post("/v1/publish", json=[message(id=str(number)) for number in range(4)])
        assert answer.status_code == 413
        assert "max_inflight" in answer.json()["message"]
        assert small.published == []
        assert (await http.post("/v1/publish", json=[message(id=str(n)) for n in range(3)])).status_code == 200


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    import asyncio

    hasty = HttpBroker(hello_timeout=0.02)

    async def stuck() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(hasty)), base_url="http://localhost") as http:
        answer = await http.post("/v1/publish", content=stuck(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "did not arrive within 0.02 s (hello_timeout)" in answer.json()["message"]


async def test_an_empty_list_is_answered_by_one(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/publish", json=[])
    assert (answer.status_code, answer.json()) == (200, [])
