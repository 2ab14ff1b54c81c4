"""Agent cards in the form of A2A: brought, kept on the log, found by, and made where there is none."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from harness.tokens import BUS_TOKEN
from harness.until import until
from hubbub import Agent
from hubbub_control import ControlPlane, Registry

MakeAgent = Callable[..., Agent]

CARD: dict[str, Any] = {
    "name": "Recipe Agent",
    "description": "Finds recipes",
    "version": "2.1",
    "supportedInterfaces": [
        {"url": "https://cook.example.org", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    ],
    "capabilities": {"streaming": False},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "cook", "name": "Cook", "description": "Cooks", "tags": ["food"]}],
    "iconUrl": "https://cook.example.org/icon.png",
}


def registry_of(plane: ControlPlane) -> Registry:
    return next(part for part in plane.parts if isinstance(part, Registry))


@pytest.fixture
async def joe(plane: ControlPlane, make_agent: MakeAgent) -> Any:
    async with make_agent("joe", capabilities=["search"], description="Finds things") as joe:
        picture = registry_of(plane).picture
        await until(lambda: picture.get("joe") is not None and registry_of(plane)._known)
        yield joe


async def found(http: httpx.AsyncClient, capability: str) -> list[str]:
    answer = await http.get("/v1/control/agents", params={"capability": capability})
    return [agent["agent"] for agent in answer.json()["agents"]]


async def until_found(http: httpx.AsyncClient, capability: str, names: list[str]) -> None:
    async with asyncio.timeout(10):
        while await found(http, capability) != names:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.02)


async def test_a_card_is_kept_as_it_came_and_found_by(joe: Agent, http: httpx.AsyncClient) -> None:
    made = (await http.get("/v1/control/agents/joe/card")).json()
    assert (made["name"], made["description"], [skill["id"] for skill in made["skills"]]) == (
        "joe",
        "Finds things",
        ["search"],
    )
    assert made["supportedInterfaces"][0]["url"].startswith("ws://127.0.0.1:")
    assert (await http.put("/v1/control/agents/joe/card", json=CARD)).status_code == 204
    assert (await http.get("/v1/control/agents/joe/card")).json() == CARD
    await until_found(http, "cook", ["joe"])
    assert await found(http, "search") == ["joe"]
    stranger = (await http.get("/.well-known/agent-card.json")).json()
    assert [skill["id"] for skill in stranger["skills"]] == ["cook", "search"]
    assert (await http.delete("/v1/control/agents/joe/card")).status_code == 204
    assert (await http.get("/v1/control/agents/joe/card")).json() == made
    await until_found(http, "cook", [])
    assert (await http.put("/v1/control/agents/nobody/card", json=CARD)).status_code == 404


async def test_what_an_agent_can_do_by_its_own_word_outlives_a_card_that_says_the_same(
    joe: Agent, http: httpx.AsyncClient
) -> None:
    skills: list[dict[str, Any]] = [{"id": id, "name": id, "description": id, "tags": []} for id in ("search", "cook")]
    assert (await http.put("/v1/control/agents/joe/card", json={**CARD, "skills": skills})).status_code == 204
    await until_found(http, "cook", ["joe"])
    assert (await http.delete("/v1/control/agents/joe/card")).status_code == 204
    await until_found(http, "cook", [])
    assert await found(http, "search") == ["joe"]


async def test_a_card_outlives_the_control_plane(plane: ControlPlane, joe: Agent, http: httpx.AsyncClient) -> None:
    await http.put("/v1/control/agents/joe/card", json=CARD)
    fresh = ControlPlane([again := Registry()])
    fresh.start(joe.url)
    try:
        await until(lambda: [view.name for view in again.picture.find("cook", None)] == ["joe"])
        assert await again.card("joe") == CARD
    finally:
        await fresh.stop()


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"name": ""}, 400, "`name`"),
        ({"version": None}, 400, "`version`"),
        ({"skills": {}}, 400, "`skills`"),
        ({"skills": [1]}, 400, "skills[0]"),
        ({"skills": [{"id": "x", "name": "x"}]}, 400, "skills[0].description"),
        ({"skills": [{"id": "x", "name": "x", "description": "x", "tags": "x"}]}, 400, "skills[0].tags"),
        ({"capabilities": []}, 400, "`capabilities`"),
        ({"more": "x" * 40_000}, 413, "32768 bytes"),
    ],
)
async def test_what_is_no_card_is_refused(
    joe: Agent, http: httpx.AsyncClient, change: dict[str, Any], status: int, says: str
) -> None:
    answer = await http.put("/v1/control/agents/joe/card", json={**CARD, **change})
    assert answer.status_code == status
    assert says in answer.json()["message"]


@pytest.mark.parametrize("options", [{"bus_token": BUS_TOKEN}])
async def test_strangers_are_told_of_nobody_where_a_token_is_wanted(
    plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    bus = {"Authorization": f"Bearer {BUS_TOKEN}"}
    await http.post("/v1/agents", json={"agent": "joe", "group": "g", "capabilities": ["search"]}, headers=bus)
    await until(lambda: registry_of(plane).picture.get("joe") is not None and registry_of(plane)._known)
    stranger = (await http.get("/.well-known/agent-card.json")).json()
    assert (stranger["skills"], stranger["capabilities"]["extendedAgentCard"]) == ([], True)
    assert "bearer" in stranger["securitySchemes"]
    assert (await http.get("/v1/control/card")).status_code == 401
    known = (await http.get("/v1/control/card", headers=bus)).json()
    assert [skill["id"] for skill in known["skills"]] == ["search"]
