"""Commands over HTTP, as a test gives them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


async def command(http: httpx.AsyncClient, do: str, status: int = 200, wait: float = 15, **more: Any) -> dict[str, Any]:
    """Command something, and wait for the answers."""
    answer = await http.post("/v1/control/commands", json={"do": do, "wait": wait, **more})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def answers(found: dict[str, Any]) -> dict[str, str]:
    """What became of a command, by agent."""
    return {answer["agent"]: answer["state"] for answer in found["answers"]}


async def known(http: httpx.AsyncClient, *names: str) -> None:
    """Wait until the control plane knows of these agents, by their own word."""
    async with asyncio.timeout(20):
        while True:
            answer = await http.get("/v1/control/agents")
            if answer.status_code == 200:
                here = {agent["agent"] for agent in answer.json()["agents"] if agent["reports"]}
                if here >= set(names) and (await http.get("/v1/control/commands")).status_code == 200:
                    return
            await asyncio.sleep(0.02)
