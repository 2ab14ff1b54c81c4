"""The guard, from outside: what an offender is told, what operators hear, and that a budget survives."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.wire import wire_client
from hubbub import Agent, BudgetExceeded, LoopDetected, Message
from hubbub_broker.log import LogFailed
from hubbub_broker.server import Server

EVENTS = "_hubbub/events"


def rules(**fields: Any) -> dict[str, Any]:
    return {"policy": [{"pattern": "**", **fields}]}


@pytest.mark.parametrize("options", [rules(max_depth=3)], indirect=True)
@pytest.mark.parametrize("ephemeral", [False, True])
async def test_a_chain_that_is_too_long_is_refused_and_told(connect: Any, server: Server, ephemeral: bool) -> None:
    async with connect("joe") as joe, connect("boss") as boss:
        await boss.sub(EVENTS)
        for number in range(4):
            parent = {"parent": str(number - 1)} if number else {}
            answer = await joe.pub("g/c", number, id=str(number), ephemeral=ephemeral, **parent)
            assert answer["op"] == "ok"
        answer = await joe.pub("g/c", 4, id="4", parent="3", ephemeral=ephemeral)
        assert (answer["op"], answer["code"]) == ("err", "loop")
        assert "retry_after" not in answer
        assert "max_depth" in answer["message"]
        event = await boss.until("msg")
        assert (event["from"], event["type"], event["seq"]) == ("hubbub", "guard", 1)
        assert {"rule": "max_depth", "topic": "g/c", "sender": "joe", "code": "loop"}.items() <= event["data"].items()
        answer = await joe.pub("g/c", 4, id="4", ephemeral=ephemeral)
        assert answer["op"] == "ok"
        assert "dup" not in answer, "what was refused is not remembered as sent"
    metrics = server.broker.metrics
    assert metrics.guard_refusals == {"max_depth": 1}
    assert metrics.publishes_refused == {"max_depth": 1}


@pytest.mark.parametrize("options", [{**rules(max_depth=3), "hold_seconds": 60}], indirect=True)
async def test_held_back_messages_pass_the_guard_too(connect: Any) -> None:
    async with connect("joe") as joe:
        for number in range(5, 0, -1):
            await joe.send("pub", topic="g/c", id=str(number), data=number, parent=str(number - 1))
        await joe.send("pub", topic="g/c", id="0", data=0)
        answers = {(line := await joe.next())["id"]: line.get("code", "ok") for _ in range(5)}
        assert answers == {"0": "ok", "1": "ok", "2": "ok", "3": "ok", "4": "loop"}


@pytest.mark.parametrize("options", [rules(budget_cost=1.0)], indirect=True)
async def test_a_budget_ends_with_an_error_and_an_operator_resets_it(connect: Any, server: Server) -> None:
    async with connect("joe") as joe, connect("boss") as boss:
        await boss.sub(EVENTS)
        assert (await joe.pub("g/c", 1, headers={"cost": 0.75}))["op"] == "ok"
        answer = await joe.pub("g/c", 1, headers={"cost": 0.5})
        assert (answer["code"], "budget_cost" in answer["message"]) == ("budget", True)
        assert (await boss.until("msg"))["data"]["rule"] == "budget_cost"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            used = {"topic": "g/c", "messages": 1, "bytes": len('1{"cost": 0.75}'), "cost": 0.75}
            limits = {"budget_messages": 0, "budget_bytes": 0, "budget_cost": 1.0}
            assert (await http.get("/v1/topics/g/c/budget")).json() == {**used, **limits}
            body = {"topic": "g/c", "id": "x", "data": 1, "headers": {"cost": 1}}
            refused = await http.post("/v1/publish?agent=joe", json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "budget")
            assert (await http.delete("/v1/topics/g/c/budget")).json() == {**used, **limits}
            assert (await http.get("/v1/topics/g/c/budget")).json()["messages"] == 0
        assert (await joe.pub("g/c", 1, headers={"cost": 0.5}))["op"] == "ok"


async def test_a_stop_loses_nothing_of_a_budget(tmp_path: Path) -> None:
    options = rules(budget_messages=3)
    for wanted in (["ok", "ok"], ["ok", "err"]):
        async with serving(tmp_path / "data", **options) as server, wire_client(url_of(server), "joe") as joe:
            assert [(await joe.pub("g/c", 1))["op"] for _ in range(2)] == wanted


@pytest.mark.parametrize("options", [{"group_publish_rate": 0.5, "burst_seconds": 4}], indirect=True)
async def test_a_group_s_rate_is_429_with_retry_after(server: Server) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        for number in range(2):
            body = {"topic": "g/c", "data": number}
            assert (await http.post(f"/v1/publish?agent=a{number}", json=body)).status_code == 200
        refused = await http.post("/v1/publish?agent=a3", json={"topic": "g/c", "data": 3})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert refused.json()["code"] == "rate_limited"
        assert (await http.post("/v1/publish?agent=a3", json={"topic": "other/c", "data": 3})).status_code == 200
        assert 'hubbub_guard_refusals_total{rule="group_publish_rate"} 1.0' in (await http.get("/metrics")).text


@pytest.mark.parametrize("options", [rules(max_depth=5, budget_messages=20)], indirect=True)
async def test_sdk_agents_across_topics_are_stopped_and_know_why(server: Server) -> None:
    """Two agents that answer each message in the other's inbox: no parent says so, only `hops`."""
    url = f"ws://127.0.0.1:{server.port}"
    stopped: asyncio.Queue[BaseException] = asyncio.Queue()
    async with Agent("ann", group="g", url=url) as ann, Agent("joe", group="g", url=url) as joe:
        for me, other in ((ann, joe), (joe, ann)):
            me.on_error = lambda error, message: stopped.put_nowait(error)

            @me.on(f"g/@{me.name}")
            async def answer(message: Message, me: Agent = me, other: Agent = other) -> None:
                await me.publish(f"g/@{other.name}", message.data)

        async with asyncio.timeout(10):
            await ann.publish("g/@joe", "hello")
            assert isinstance(await stopped.get(), LoopDetected)
            for _ in range(20):
                await ann.publish("g/quiet", "x")
            with pytest.raises(BudgetExceeded, match="budget_messages"):
                await ann.publish("g/quiet", "x")
    assert server.broker.metrics.guard_refusals["max_depth"] == 1


@pytest.mark.parametrize("options", [rules(max_depth=5)], indirect=True)
@pytest.mark.parametrize("select", [["data"], ["data.n"], ["headers.trace"], []])
async def test_a_circle_ends_whatever_its_agents_select(server: Server, select: list[str]) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    stopped: asyncio.Queue[BaseException] = asyncio.Queue()
    heard = 0
    async with Agent("ann", group="g", url=url) as ann, Agent("joe", group="g", url=url) as joe:
        for me, there, here in ((ann, "pong", "ping"), (joe, "ping", "pong")):
            me.on_error = lambda error, message: stopped.put_nowait(error)

            @me.on(here, select=select)
            async def answer(message: Message, me: Agent = me, there: str = there) -> None:
                nonlocal heard
                heard += 1
                await me.publish(there, {"n": 1}, headers={"trace": "t"})

            await me.subscribe(here, select=select).ready()
        async with asyncio.timeout(10):
            await ann.publish("pong", {"n": 0}, headers={"trace": "t"})
            assert isinstance(await stopped.get(), LoopDetected)
        assert heard == 6


async def test_events_are_the_broker_s_own(connect: Any) -> None:
    async with connect("joe") as joe:
        assert (await joe.pub(EVENTS, 1))["code"] == "forbidden"


@pytest.mark.parametrize("options", [rules(max_depth=3)], indirect=True)
async def test_an_event_that_cannot_be_stored_is_lost_and_said_so(
    connect: Any, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = server.broker.shard_of("_hubbub")

    def unreadable(name: str) -> None:
        raise LogFailed("the disk is gone")

    monkeypatch.setattr(shard, "topic", unreadable)
    answered = "g" if server.broker.shard_of("g") is not shard else "h"
    async with connect("joe") as joe:
        denied = await joe.pub(f"{answered}/c", 1, headers={"hops": 4})
        assert denied["code"] == "loop"
        await joe.silent()
    assert "event lost" in "".join(capsys.readouterr())
