"""`hubbub command`, `hubbub commands` and `hubbub agents`, as an operator runs them."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from harness.broker import serving, url_of
from harness.commanding import known
from harness.shell import Shell
from hubbub import Agent
from hubbub_broker.server import Server
from hubbub_control import ControlPlane

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def shell(server: Server, tmp_path: Path) -> AsyncIterator[Shell]:
    hubbub = Shell(url_of(server), tmp_path)
    yield hubbub
    await hubbub.end()


@pytest.mark.slow
async def test_an_operator_commands_and_sees_what_became_of_it(
    plane: ControlPlane, http: httpx.AsyncClient, shell: Shell, make_agent: MakeAgent
) -> None:
    async with make_agent("ann", capabilities=["search"]) as ann:
        await known(http, "ann")
        code, out, err = await shell.run("command", "pause", "--capability", "search")
        assert (code, out) == (0, "ann\tobeyed\t\n")
        assert "pause to capability search" in err
        assert ann.paused
        code, out, _ = await shell.run("agents", "--json")
        (row,) = [json.loads(line) for line in out.splitlines()]
        assert (code, row["agent"], row["online"], row["control"]["state"]) == (0, "ann", True, "idle")
        code, out, _ = await shell.run("command", "dance", "--to", "ann", "--json")
        assert (code, json.loads(out)["answers"][0]["state"]) == (1, "refused")
        code, _, err = await shell.run("command", "pause", "--to", "nobody")
        assert (code, "no agent 'nobody'" in err) == (1, True)
        code, out, _ = await shell.run("commands")
        rows = [line.split("\t") for line in out.splitlines()]
        assert [row[2:] for row in rows] == [
            ["joe", "dance", "agent ann", "1 refused"],
            ["joe", "pause", "capability search", "1 obeyed"],
        ]
        code, _, err = await shell.run("command", "pause", "{", "--to", "ann")
        assert (code, "JSON object" in err) == (2, True)


@pytest.mark.slow
async def test_agents_are_listed_without_a_control_plane(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server, Agent("ann", url=url_of(server), local=False) as ann:
        await ann.wait_for("online")
        shell = Shell(url_of(server), tmp_path)
        code, out, _ = await shell.run("agents")
        row = out.rstrip("\n").split("\t")
        assert (code, row[0], row[2], row[6:8]) == (0, "ann", "yes", ["-", "-"])
        await shell.end()
