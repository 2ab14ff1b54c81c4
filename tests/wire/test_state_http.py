"""Shared state over HTTP: entity tags, preconditions, several keys with messages, pages."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hubbub_broker.server import Server

STATE = "/v1/state/research/c"


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
        yield client


async def put(http: httpx.AsyncClient, key: str, value: Any, **headers: str) -> httpx.Response:
    return await http.put(
        STATE, params={"key": key}, json=value, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


async def test_a_key_is_set_and_read_with_its_version_as_entity_tag(http: httpx.AsyncClient) -> None:
    answer = await put(http, "plan", {"steps": [1, 2]})
    assert (answer.status_code, answer.headers["etag"], answer.json()["seq"]) == (200, '"1"', 1)
    answer = await http.get(STATE, params={"key": "plan"})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.json() == {"key": "plan", "value": {"steps": [1, 2]}, "version": 1}
    assert (await http.get(STATE, params={"key": "plan"}, headers={"If-None-Match": '"1"'})).status_code == 304
    assert (await http.get(STATE, params={"key": "plan"}, headers={"If-None-Match": '"9"'})).status_code == 200
    missing = await http.get(STATE, params={"key": "nothing"})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_preconditions(http: httpx.AsyncClient) -> None:
    assert (await put(http, "k", 1, If_None_Match="*")).status_code == 200
    again = await put(http, "k", 2, If_None_Match="*")
    assert (again.status_code, again.headers["etag"]) == (412, '"1"')
    assert {name: again.json()[name] for name in ("code", "key", "expected", "current")} == {
        "code": "conflict",
        "key": "k",
        "expected": 0,
        "current": 1,
    }
    assert (await put(http, "k", 2, If_Match='"1"')).headers["etag"] == '"2"'
    assert (await put(http, "k", 3, If_Match='"1"')).status_code == 412
    assert (await put(http, "k", 3, If_Match="*")).status_code == 200
    assert (await put(http, "j", 3, If_Match="*")).status_code == 404
    assert (await http.delete(STATE, params={"key": "k"}, headers={"If-Match": '"1"'})).status_code == 412
    assert (await http.delete(STATE, params={"key": "k"}, headers={"If-Match": '"3"'})).status_code == 200
    assert (await http.get(STATE, params={"key": "k"})).status_code == 404
    assert (await http.delete(STATE, params={"key": "k"})).status_code == 200
    for wrong in ("1", "abc", '"x"', '"-1"'):
        assert (await put(http, "k", 1, If_Match=wrong)).status_code == 400
    assert (await put(http, "k", 1, If_None_Match='"1"')).status_code == 400


async def test_a_page_has_the_version_of_the_state_and_a_change_may_insist_on_it(http: httpx.AsyncClient) -> None:
    await put(http, "a", 1)
    page = await http.get(STATE)
    tag = page.headers["etag"]
    assert (await http.get(STATE, headers={"If-None-Match": tag})).status_code == 304
    assert (await http.get(STATE, headers={"If-Match": '"9"'})).status_code == 412
    await put(http, "b", 2)
    assert (await http.get(STATE, headers={"If-None-Match": tag})).status_code == 200
    stale = await http.post(STATE, json={"set": {"a": 9}}, headers={"If-Match": tag})
    assert (stale.status_code, stale.headers["etag"], stale.json()["current"]) == (412, '"2"', 2)
    assert (await http.post(STATE, json={"set": {"a": 9}}, headers={"If-None-Match": "*"})).status_code == 412
    assert (await http.get(STATE, params={"key": "a"})).json()["value"] == 1, "an update was lost"
    fresh = await http.post(STATE, json={"set": {"a": 9}}, headers={"If-Match": f'{tag}, "2"'})
    assert (fresh.status_code, fresh.headers["etag"]) == (200, '"3"')
    assert (await http.post(STATE, json={"set": {"a": 1}}, headers={"If-Match": "*"})).status_code == 200
    both = await http.post(STATE, json={"set": {"a": 2}, "expect": {"a": 4}}, headers={"If-Match": '"4"'})
    assert (both.status_code, both.json()["code"]) == (400, "bad_request")
    new = await http.post("/v1/state/research/new", json={"set": {"a": 1}}, headers={"If-None-Match": "*"})
    assert new.status_code == 200


async def test_a_condition_is_kept_or_refused_and_never_passed_over(http: httpx.AsyncClient) -> None:
    await put(http, "k", 1)
    for both in (STATE, "/v1/state/research/other"):
        answer = await http.put(both, params={"key": "k"}, json=2, headers={"If-None-Match": "*", "If-Match": '"9"'})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert (await http.delete(STATE, params={"key": "k"}, headers={"If-None-Match": "*"})).status_code == 412
    assert (await put(http, "k", 2, If_Match='"8", "9"')).status_code == 412
    assert (await http.get(STATE, params={"key": "k"}, headers={"If-Match": '"8"'})).status_code == 412
    assert (await http.get(STATE, params={"key": "k"}, headers={"If-None-Match": '"8", W/"1"'})).status_code == 304
    assert (await http.get(STATE, params={"key": "k"}, headers={"If-None-Match": "*"})).status_code == 304
    assert (await http.get(STATE, params={"key": "k"}, headers={"If-None-Match": "1"})).status_code == 400
    assert (await http.get(STATE, params={"key": "k"})).json()["value"] == 1
    assert (await put(http, "k", 2, If_Match='"8", "1"')).status_code == 200


async def test_a_request_that_is_sent_twice_is_made_once(http: httpx.AsyncClient) -> None:
    first = await put(http, "k", 1, If_None_Match="*", Idempotency_Key="x")
    again = await put(http, "k", 1, If_None_Match="*", Idempotency_Key="x")
    assert (first.status_code, again.status_code, again.json()["dup"]) == (200, 200, True)
    assert again.headers["etag"] == first.headers["etag"]


async def test_several_keys_and_messages_in_one_step(http: httpx.AsyncClient) -> None:
    body = {
        "id": "1",
        "set": {"a": 1, "b": 2},
        "expect": {"a": 0},
        "publish": [{"topic": "research/c", "id": "m", "data": "x"}],
    }
    answer = await http.post(f"{STATE}?agent=joe", json=body)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert answer.json()["published"] == [{"topic": "research/c", "id": "m", "seq": 1, "lc": 1}]
    refused = await http.post(f"{STATE}?agent=joe", json={**body, "id": "2"})
    assert (refused.status_code, refused.json()["current"]) == (409, 1)
    history = (await http.get("/v1/topics/research/_state/c/messages")).json()["messages"]
    assert [(message["from"], message["data"]["set"]) for message in history] == [("joe", {"a": 1, "b": 2})]


async def test_pages_and_groups(http: httpx.AsyncClient) -> None:
    await http.post("/v1/state/research", json={"set": {f"k{number}": number for number in range(5)}})
    page = (await http.get("/v1/state/research", params={"limit": 3})).json()
    assert (page["topic"], page["version"], [entry["key"] for entry in page["entries"]], page["more"]) == (
        "research/_state",
        1,
        ["k0", "k1", "k2"],
        "k2",
    )
    rest = (await http.get("/v1/state/research", params={"limit": 3, "after": "k2"})).json()
    assert ([entry["value"] for entry in rest["entries"]], rest["more"]) == ([3, 4], None)
    assert (await http.get("/v1/state/research", params={"match": "k3"})).json()["entries"][0]["value"] == 3


async def test_a_key_may_go_by_itself(http: httpx.AsyncClient) -> None:
    await http.put(STATE, params={"key": "l", "ttl": 60}, json="joe")
    assert 50 < (await http.get(STATE, params={"key": "l"})).json()["left"] <= 60


async def test_what_is_wrong_is_refused(http: httpx.AsyncClient) -> None:
    for answer in (
        await put(http, "a b", 1),
        await http.put(STATE, params={"key": "k"}, content="{", headers={"Content-Type": "application/json"}),
        await http.put(STATE, params={"key": "k"}, content="1"),
        await http.put(STATE, json=1),
        await http.post(STATE, json={}),
        await http.post(STATE, json={"set": 1}),
        await http.get("/v1/state/research/_state"),
        await http.get("/v1/state/a%20b"),
        await http.get(STATE, params={"match": "a**"}),
        await http.get(STATE, params={"limit": 0}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.request.url
    assert (await http.get(STATE)).json()["entries"] == []


async def test_white_space_in_a_value_is_none_in_the_state(http: httpx.AsyncClient) -> None:
    text = '{\n  "a": [1,\n 2]\n}'
    await http.put(STATE, params={"key": "k"}, content=text, headers={"Content-Type": "application/json"})
    assert (await http.get(STATE, params={"key": "k"})).json()["value"] == {"a": [1, 2]}


async def test_a_key_may_keep_the_time_that_is_left(http: httpx.AsyncClient) -> None:
    await http.put(STATE, params={"key": "l", "ttl": 60}, json="joe")
    for body, status in (
        ({"set": {"l": 1, "m": 1}, "keep": ["l", "m"]}, 200),
        ({"set": {"l": 1}, "keep": ["x"]}, 400),
        ({"set": {"l": 1}, "keep": ["l"], "ttl": {"l": 5}}, 400),
    ):
        assert (await http.post(STATE, json=body)).status_code == status
    entries = (await http.get(STATE)).json()["entries"]
    assert [(entry["key"], entry["value"], entry.get("left", 99) <= 60) for entry in entries] == [
        ("l", 1, True),
        ("m", 1, False),
    ]
    (_, told) = (await http.get("/v1/topics/research/_state/c/messages")).json()["messages"]
    assert told["data"] == {"set": {"l": 1, "m": 1}, "keep": ["l", "m"]}
    await http.put(STATE, params={"key": "l"}, json=2)
    assert "left" not in (await http.get(STATE, params={"key": "l"})).json(), "a plain change says all of it anew"
