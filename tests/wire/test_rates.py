"""Rates and quotas hold at every door, for everything that becomes a message, whatever it is called."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from harness.until import until
from harness.wire import WireClient
from hubbub_broker.server import Server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        yield client


async def register(http: httpx.AsyncClient, **groups: str) -> None:
    for name, group in groups.items():
        assert (await http.post("/v1/agents", json={"agent": name, "group": group})).status_code == 200


def codes(answers: list[dict[str, Any]]) -> list[str]:
    return [answer.get("code", answer["op"]) for answer in answers]


SLOW = 0.001
"""A rate at which nothing more comes while a test runs: what may be used at once is all there is."""


async def by_its_own_name(joe: WireClient, http: httpx.AsyncClient) -> str:
    return str((await joe.pub("red/@jack", 1)).get("code", "ok"))


async def by_mail(joe: WireClient, http: httpx.AsyncClient) -> str:
    return str((await joe.pub("_mail/@jack", {"body": "b"})).get("code", "ok"))


async def with_a_change(joe: WireClient, http: httpx.AsyncClient) -> str:
    message = {"topic": "red/@jack", "id": "1", "data": 1}
    change = {"topic": "red", "id": "c1", "set": {"k": 1}, "publish": [message]}
    return str((await joe.ask("change", **change)).get("code", "ok"))


async def over_http(joe: WireClient, http: httpx.AsyncClient) -> str:
    answer = await http.post("/v1/publish?agent=joe", json={"topic": "red/@jack", "data": 1})
    return str(answer.json().get("code", "ok"))


async def by_a_list_over_http(joe: WireClient, http: httpx.AsyncClient) -> str:
    answer = await http.post("/v1/publish?agent=joe", json=[{"topic": "red/@jack", "data": 1}])
    return str(answer.json()[0].get("code", "ok"))


async def by_curl(joe: WireClient, http: httpx.AsyncClient) -> str:
    answer = await http.post("/api/send", json={"from": "joe", "to": "jack", "body": "b"})
    return str(answer.json().get("code", "ok"))


DOORS = [by_its_own_name, by_mail, with_a_change, over_http, by_a_list_over_http, by_curl]


@pytest.mark.parametrize("options", [{"send_rate": SLOW}], indirect=True)
@pytest.mark.parametrize("door", DOORS)
async def test_what_goes_into_an_inbox_is_a_send_at_every_door(
    server: Server, connect: Any, http: httpx.AsyncClient, door: Any
) -> None:
    await register(http, jack="red")
    async with connect("joe") as joe:
        assert await door(joe, http) == "ok"
        for other in DOORS:
            assert await other(joe, http) == "rate_limited", other
        assert (await joe.pub("red/c", 1))["op"] == "ok"
    assert server.broker.metrics.guard_refusals == {"send_rate": len(DOORS)}


@pytest.mark.parametrize("options", [{"send_rate": 0.5, "burst_seconds": 4}], indirect=True)
async def test_over_http_too_many_sends_are_429_with_retry_after(http: httpx.AsyncClient) -> None:
    await register(http, jack="red")
    mail = {"from": "joe", "to": "jack", "body": "b"}
    answers = [await http.post("/api/send", json=mail) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert (answers[-1].headers["retry-after"], answers[-1].json()["code"]) == ("2", "rate_limited")
    assert "send_rate" in answers[-1].json()["message"]
    assert (await http.post("/api/send", json={**mail, "from": "ann"})).status_code == 200


async def test_the_eleventh_broadcast_of_a_minute_is_429_with_retry_after(http: httpx.AsyncClient) -> None:
    await register(http, jack="red")
    mail = {"from": "joe", "to": "ALL", "body": "b"}
    answers = [await http.post("/api/send", json=mail) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert 50 < int(answers[-1].headers["retry-after"]) <= 60
    assert "broadcast_rate" in answers[-1].json()["message"]
    assert (await http.post("/api/send", json={**mail, "from": "ann"})).json()["recipients"] == 1
    assert 'hubbub_guard_refusals_total{rule="broadcast_rate"} 1.0' in (await http.get("/metrics")).text


@pytest.mark.parametrize("options", [{"group_publish_rate": SLOW}], indirect=True)
async def test_mail_counts_for_the_group_of_its_recipient(connect: Any, http: httpx.AsyncClient) -> None:
    await register(http, jack="red", jill="blue")
    async with connect("joe") as joe, connect("ann") as ann:
        assert (await joe.pub("red/c", 1))["op"] == "ok"
        refused = await joe.pub("_mail/@jack", {"body": "b"})
        assert (refused["code"], "the group red" in refused["message"]) == ("rate_limited", True)
        assert (await ann.pub("_mail/@jill", {"body": "b"}))["op"] == "ok"
        refused = (await http.post("/api/send", json={"from": "joe", "to": "jill", "body": "b"})).json()
        assert (refused["code"], "the group blue" in refused["message"]) == ("rate_limited", True)
        for _ in range(3):  # what is everybody's, and what is the broker's own, is no group's
            assert (await joe.pub("_mail/@ALL", {"body": "b"}))["op"] == "ok"
            assert (await http.post("/api/send", json={"from": "ann", "to": "ALL", "body": "b"})).status_code == 200
            assert (await joe.pub("_hubbub/reports", {"session": "x"}, ephemeral=True))["op"] == "ok"


@pytest.mark.parametrize("options", [{"publish_rate": SLOW, "publish_burst": 4}], indirect=True)
async def test_presence_counts_for_whoever_joins_and_leaves(server: Server, connect: Any) -> None:
    async with connect("joe") as joe, connect("eve") as eve:
        await joe.sub("g/room")
        for _ in range(2):
            assert (await eve.ask("join", topic="g/room"))["op"] == "ok"
            assert (await eve.ask("leave", topic="g/room"))["op"] == "ok"
        refused = await eve.ask("join", topic="g/room")
        assert (refused["code"], "publish_rate" in refused["message"]) == ("rate_limited", True)
        assert refused["retry_after"] > 0
        assert (await eve.ask("leave", topic="g/room"))["op"] == "ok"  # it is not there: nothing is told
        assert (await eve.pub("g/room", 1))["code"] == "rate_limited"
        heard = [(await joe.until("msg"))["data"]["event"] for _ in range(4)]
        assert heard == ["join", "leave"] * 2
        await joe.silent()
    assert server.broker.metrics.guard_refusals == {"publish_rate": 2}


@pytest.mark.parametrize("options", [{"publish_rate": SLOW, "publish_burst": 1}], indirect=True)
async def test_whoever_may_not_say_more_is_present_until_it_leaves(connect: Any, http: httpx.AsyncClient) -> None:
    async with connect("eve") as eve, connect("joe") as joe:
        await joe.sub("g/room")
        assert (await eve.ask("join", topic="g/room"))["op"] == "ok"
        assert (await eve.ask("leave", topic="g/room"))["op"] == "ok"
        assert [(await joe.until("msg"))["data"]["event"] for _ in range(2)] == ["join", "leave"]
        assert (await http.get("/v1/topics/g/room/presence")).json()["agents"] == []


@pytest.mark.parametrize("options", [{"publish_rate": 2.0, "publish_burst": 1}], indirect=True)
async def test_a_will_waits_until_its_agent_may_say_more(server: Server, connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.sub("g/room")
        async with connect() as eve:
            await eve.hello("eve", will={"topic": "g/room", "data": "gone", "delay": 0})
            assert (await eve.pub("g/room", "here"))["op"] == "ok"
            eve.socket.transport.abort()
        assert (await joe.until("msg"))["data"] == "here"
        async with asyncio.timeout(5):
            await until(lambda: server.broker.metrics.guard_refusals == {"publish_rate": 1})
            assert (await joe.until("msg"))["data"] == "gone"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"publish_bytes_rate": 1000, "burst_seconds": 1}, "publish_bytes_rate"),
        ({"group_bytes_rate": 1000, "burst_seconds": 1}, "group_bytes_rate"),
        ({"policy": [{"pattern": "**", "budget_bytes": 250_000}]}, "budget_bytes"),
    ],
    indirect=["options"],
)
async def test_headers_are_bytes_as_data_are(server: Server, connect: Any, rule: str) -> None:
    async with connect("eve") as eve:
        answers = [await eve.pub("g/c", 1, headers={"x": "y" * 200_000}) for _ in range(3)]
    refusal = "budget" if rule == "budget_bytes" else "rate_limited"
    assert codes(answers) == ["ok", refusal, refusal]
    assert server.broker.metrics.guard_refusals == {rule: 2}
