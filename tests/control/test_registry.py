"""Who is there and how they are, told by agents and broker, and asked over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from harness.broker import url_of
from harness.until import until
from harness.wire import wire_client
from hubbub import Agent, Delivery
from hubbub.control import reports
from hubbub_broker.cli.planes import Inside
from hubbub_broker.server import Server
from hubbub_control import ControlPlane, Registry
from hubbub_control.client import Client

MakeAgent = Callable[..., Agent]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "EVERY_SECONDS", 0.05)


async def agents(http: httpx.AsyncClient, **query: Any) -> dict[str, dict[str, Any]]:
    answer = await http.get("/v1/control/agents", params=query)
    return {agent["agent"]: agent for agent in answer.json()["agents"]} if answer.status_code == 200 else {}


async def shown(http: httpx.AsyncClient, name: str, **wanted: Any) -> dict[str, Any]:
    """What is told of an agent, once it is so."""
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] | None = (await agents(http)).get(name)
            if found is not None and all(found[key] == value for key, value in wanted.items()):
                return found
            await asyncio.sleep(0.02)


class Working:
    """An agent with a consumer's handler that works until it is told."""

    def __init__(self, agent: Agent, concurrency: int = 2) -> None:
        self.agent = agent
        self.done = asyncio.Event()

        @agent.on("tasks", consumer="workers", max_unacked=concurrency)
        async def work(_: Delivery) -> None:
            await self.done.wait()


async def test_what_an_agent_is_at_work_on_is_seen(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe", capabilities=["search"], description="Finds") as joe, make_agent("ann") as ann:
        working = Working(joe)
        idle = await shown(http, "joe", reports=True, state="idle", room=2)
        assert (idle["group"], idle["inbox"], idle["capabilities"], idle["description"], idle["online"]) == (
            "g",
            "g/@joe",
            ["search"],
            "Finds",
            True,
        )
        await ann.publish("tasks", 1, id="t1")
        busy = await shown(http, "joe", state="busy", running=1)
        assert (busy["load"], [(task["topic"], task["id"]) for task in busy["tasks"]]) == (0.5, [("g/tasks", "t1")])
        assert busy["tasks"][0]["since"] <= busy["since"] + 1
        working.done.set()
        await shown(http, "joe", state="idle", running=0, tasks=[])
        assert set(await agents(http, capability="search")) == {"joe"}
        assert set(await agents(http, state="busy")) == set()
        one = (await http.get("/v1/control/agents/joe")).json()
        assert (one["agent"], one["state"]) == ("joe", "idle")
        assert (await http.get("/v1/control/agents/nobody")).status_code == 404


async def test_work_goes_to_whoever_has_least_to_do(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe", capabilities=["search"]) as joe, make_agent("tom", capabilities=["search"]) as tom:
        working = [Working(joe), Working(tom)]
        await shown(http, "joe", reports=True)
        await shown(http, "tom", reports=True)
        await joe.publish("tasks", 1)
        await until(lambda: joe._activity or tom._activity)
        busy, free = ("joe", "tom") if joe._activity else ("tom", "joe")
        await shown(http, busy, state="busy")
        answer = await http.get("/v1/control/route", params={"capability": "search"})
        assert (answer.status_code, answer.json()["agent"], answer.json()["inbox"]) == (200, free, f"g/@{free}")
        assert (await http.get("/v1/control/route", params={"capability": "cook"})).status_code == 404
        assert (await http.get("/v1/control/route")).status_code == 400
        for each in working:
            each.done.set()


@pytest.mark.parametrize("options", [{"agent_gone": 0.2}])
async def test_who_leaves_is_gone_and_who_is_forgotten_is_no_more(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe"):
        await shown(http, "joe", online=True)
    await shown(http, "joe", online=False, state="gone")
    async with make_agent("joe"):
        await shown(http, "joe", online=True, state="idle")
    await http.delete("/v1/agents/joe")
    await until(lambda: plane_knows(plane, "joe") is False)
    await http.post("/v1/agents", json={"agent": "tom", "group": "h", "capabilities": ["cook"]})
    tom = await shown(http, "tom", online=False)
    assert (tom["group"], tom["capabilities"], tom["state"]) == ("h", ["cook"], "idle")


def plane_knows(plane: ControlPlane, name: str) -> bool:
    return any(view.name == name for part in plane.parts for view in getattr(part, "picture", ()))


@pytest.mark.parametrize("options", [{"agent_silent": 0.2, "agent_deaf": 0.3}])
async def test_who_does_not_answer_is_deaf_until_it_does(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    said = {"running": 0, "waiting": 0, "room": 1, "done": 0, "session": "s", "lag": 0}
    async with wire_client(url_of(server)) as deaf:
        await deaf.hello("dora")
        await deaf.sub("_hubbub/@dora")
        await shown(http, "dora", online=True)
        await deaf.pub("_hubbub/reports", said, type="report", ephemeral=True)
        probe = await deaf.until("msg", topic="_hubbub/@dora")
        assert (probe["type"], probe["ephemeral"]) == ("probe", True)
        await shown(http, "dora", state="deaf")
        assert (await http.get("/v1/control/route", params={"group": "default"})).status_code == 404
        await deaf.pub("_hubbub/reports", {**said, "probe": True}, type="report", ephemeral=True)
        assert (await shown(http, "dora", reports=True))["state"] != "deaf"


async def test_an_agent_answers_its_probes_by_itself(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe"):
        await shown(http, "joe", reports=True)
        heard = await reports_of(http)
        assert plane.agent is not None
        await plane.agent.publish("_hubbub/@joe", {}, type="probe", ephemeral=True)
        async with asyncio.timeout(10):
            while await reports_of(http) <= heard:  # noqa: ASYNC110 - it is counted over HTTP
                await asyncio.sleep(0.02)


async def reports_of(http: httpx.AsyncClient) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("hubbub_control_reports_total"))


async def test_who_opts_out_says_nothing_and_is_still_there(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe", control=False), make_agent("ann"):
        await shown(http, "ann", reports=True)
        assert not (await shown(http, "joe", online=True))["reports"]


async def test_what_says_nonsense_hurts_nobody(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with wire_client(url_of(server)) as fool:
        await fool.hello("fool")
        nonsense: list[Any] = [None, 1, [], {"running": "many"}, {"running": 1}, {"tasks": {}}, "x" * 1000]
        for data in nonsense:
            await fool.pub("_hubbub/reports", data, type="report", ephemeral=True)
        await fool.pub(
            "_hubbub/reports", {"running": -1, "waiting": 0, "room": 0, "done": 0, "session": []}, type="report"
        )
        async with make_agent("joe"):
            await shown(http, "joe", reports=True)
        assert plane.restarts == 0


@asynccontextmanager
async def another(server: Server) -> AsyncIterator[ControlPlane]:
    """A control plane that begins with nothing."""
    plane = Inside(server.settings).plane
    plane.start(url_of(server))
    try:
        await until(lambda: plane.online)
        yield plane
    finally:
        await plane.stop()


async def test_one_that_begins_with_nothing_sees_the_same(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe", capabilities=["search"]) as joe, make_agent("tom") as tom:
        working = Working(joe)
        await tom.publish("tasks", 1, id="t1")
        before = await shown(http, "joe", state="busy")
        async with another(server) as fresh:
            registry = next(part for part in fresh.parts if part.name == "registry")
            picture = registry.picture  # type: ignore[attr-defined]
            await until(lambda: picture.get("joe") is not None and picture.get("joe").running == 1)
            view = picture.get("joe")
            assert (view.group, list(view.capabilities), view.online) == ("g", before["capabilities"], True)
            assert [task["id"] for task in view.tasks] == ["t1"]
            assert json.dumps(sorted(each.name for each in picture)) == '["joe", "tom"]'
        working.done.set()


@pytest.mark.parametrize("options", [{"agent_gone": 0.2, "agent_silent": 0.2, "agent_deaf": 0.3}])
async def test_one_that_begins_with_nothing_takes_nobody_for_idle_who_is_not(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    """One that is gone, one that is deaf, one that takes no part in this, and one that is idle."""
    async with make_agent("gwen", capabilities=["search"]):
        await shown(http, "gwen", online=True)
    await shown(http, "gwen", state="gone")
    async with (
        wire_client(url_of(server)) as deaf,
        make_agent("opted-out", control=False),
        make_agent("joe", capabilities=["search"]) as joe,
    ):
        await deaf.hello("dora", capabilities=["search"])
        await deaf.sub("_hubbub/@dora")
        before = await shown(http, "joe", state="idle", reports=True)
        await shown(http, "opted-out", state="idle")
        async with another(server) as fresh:
            registry = next(part for part in fresh.parts if isinstance(part, Registry))
            picture = registry.picture

            def state(name: str) -> str:
                view = picture.get(name)
                return "" if view is None else picture.state(view, registry.clock())

            seen: dict[str, set[str]] = {name: set() for name in ("gwen", "dora", "joe", "opted-out")}
            picked: set[str] = set()

            def settled() -> bool:
                for name in seen if registry._known else ():
                    seen[name].add(state(name))
                view = picture.least_loaded(picture.find("search", None), registry.clock())
                picked.update(set() if view is None else {view.name})
                return (state("dora"), state("joe"), state("opted-out")) == ("deaf", "idle", "idle")

            await until(settled)
            assert seen["gwen"] == {"gone"}
            assert seen["dora"] == {"unknown", "deaf"}
            assert seen["joe"] <= {"unknown", "idle"}
            assert picked == {"joe"}
            view = picture.get("joe")
            assert view is not None
            assert view.since == before["since"]
        await joe.close()


@pytest.mark.parametrize("options", [{"agent_silent": 0.3, "agent_deaf": 0.3}])
async def test_a_process_that_dies_beside_another_of_its_name_is_busy_no_more(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    said = {"running": 1, "waiting": 0, "room": 1, "done": 0, "session": "dies", "lag": 0}
    async with make_agent("joe"):
        await shown(http, "joe", state="idle", reports=True)
        async with wire_client(url_of(server)) as other:
            await other.hello("joe")
            await other.pub("_hubbub/reports", said, type="report", ephemeral=True)
            await shown(http, "joe", state="busy", running=1)
        await shown(http, "joe", state="idle", running=0, online=True)


async def test_a_register_that_was_asked_for_before_somebody_came_says_nothing_of_them(
    server: Server, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_agent("joe") as joe:
        await joe.wait_for("online")
        plane = Inside(server.settings).plane
        registry = next(part for part in plane.parts if isinstance(part, Registry))
        looks = asyncio.Queue[asyncio.Event]()
        look = Client.look

        async def late(self: Client, path: str, query: Any) -> Any:
            page = await look(self, path, query)
            await looks.put(told := asyncio.Event())
            await told.wait()
            return page

        monkeypatch.setattr(Client, "look", late)
        plane.start(url_of(server))
        try:
            told = await looks.get()
            async with make_agent("ann"):
                await until(lambda: registry.picture.get("ann"))
                await joe.close()
                await until(lambda: "joe" in registry._news)
                told.set()
                await until(lambda: registry._known)
                online = {view.name: view.online for view in registry.picture}
                assert online.get("ann") is True
                assert not online.get("joe")
        finally:
            await plane.stop()
