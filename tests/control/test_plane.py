"""The control plane's life: in the broker's process or in its own, and whatever becomes of it the broker goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from fastapi import APIRouter
from prometheus_client import Metric
from typer.testing import CliRunner

from harness.broker import broker_process, serving
from harness.control_process import control_process
from harness.log_capture import captured_log
from harness.tokens import BUS_TOKEN, token, write_key
from harness.until import until
from hubbub import Agent, Backoff
from hubbub_broker.cli import app
from hubbub_broker.cli.planes import Inside
from hubbub_broker.server import Server
from hubbub_control import ControlPlane
from hubbub_control import plane as plane_module
from hubbub_control.part import Part
from hubbub_protocol.names import CONTROL_AGENT

MakeAgent = Callable[..., Agent]


async def test_it_runs_in_the_broker_and_says_how_it_is(plane: ControlPlane, http: httpx.AsyncClient) -> None:
    status = (await http.get("/v1/control/status")).json()
    assert (status["online"], status["restarts"], status["failure"]) == (True, 0, None)
    assert "status" in status["parts"]
    metrics = (await http.get("/metrics")).text
    assert "hubbub_control_online 1.0" in metrics
    assert "/v1/control/status" in (await http.get("/openapi.json")).json()["paths"]


async def test_it_is_no_agent_that_anybody_writes_to(
    plane: ControlPlane, http: httpx.AsyncClient, make_agent: MakeAgent
) -> None:
    async with make_agent("joe"), make_agent("ann") as ann:
        await until(lambda: ann.state == "online")
        assert [agent["agent"] for agent in (await http.get("/v1/agents")).json()["agents"]] == ["ann", "joe"]
        sent = await http.post("/api/send", json={"from": "ann", "to": "ALL", "body": "all"})
        assert sent.json()["recipients"] == 1


@pytest.mark.parametrize("options", [{"bus_token": BUS_TOKEN}])
async def test_its_credential_is_its_own_and_stands_nowhere(
    server: Server, plane: ControlPlane, http: httpx.AsyncClient
) -> None:
    with captured_log() as log:
        bus = {"Authorization": f"Bearer {BUS_TOKEN}"}
        own = server.broker.access.own
        assert (await http.get("/v1/control/status")).status_code == 401
        pages = [
            (await http.get(path, headers=bus)).text
            for path in ("/metrics", "/v1/sessions", "/v1/control/status", "/openapi.json")
        ]
        assert not any(own in page for page in pages)
    assert own not in str(log.read())


async def test_it_connects_through_tls_that_names_another(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("bus.example.org")
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    insides: list[Inside] = []

    def beside(settings: Any) -> Inside:
        insides.append(Inside(settings))
        return insides[0]

    async with serving(tmp_path / "data", beside, tls_certificate=certificate, tls_key=key):
        await until(lambda: insides[0].plane.online)


class Brittle:
    """A part that breaks so many times, and works then."""

    name = "brittle"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.works = asyncio.Event()

    def routes(self) -> APIRouter:
        return APIRouter()

    def metrics(self) -> Iterable[Metric]:
        return ()

    async def run(self, agent: Agent) -> None:
        if self.failures:
            self.failures -= 1
            raise ZeroDivisionError("a bug of this part")
        self.works.set()
        await asyncio.Event().wait()


@asynccontextmanager
async def running(server: Server, *parts: Part, **options: Any) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(parts)
    plane.start(f"ws://127.0.0.1:{server.port}", **options)
    try:
        yield plane
    finally:
        await plane.stop()


async def test_a_part_that_breaks_begins_anew_and_the_broker_does_not_notice(
    server: Server, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_module, "RESTART", Backoff(base=0.01, cap=0.02))
    part = Brittle(failures=3)
    async with make_agent("joe") as joe, running(server, part) as plane:
        await joe.publish("c", 1)
        await part.works.wait()
        await joe.publish("c", 2)
        assert plane.restarts == 3
        assert plane.failure == "ZeroDivisionError: a bug of this part"
    assert plane.agent is None


@pytest.mark.parametrize("options", [{"bus_token": BUS_TOKEN}])
async def test_one_that_the_broker_refuses_asks_again_and_says_why(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_module, "RESTART", Backoff(base=0.01, cap=0.02))
    shown = "wrong"
    async with running(server, token=lambda: shown) as plane:
        await until(lambda: plane.restarts >= 2)
        assert plane.failure is not None
        assert "token" in plane.failure
        shown = BUS_TOKEN
        await until(lambda: plane.online)


# In a process of its own --------------------------------------------------------------------------------------------


async def test_the_planes_run_apart(tmp_path: Path) -> None:
    settings = {"token_keys": write_key(tmp_path / "keys")}
    operator = token(CONTROL_AGENT, admin=True)
    async with broker_process(tmp_path / "data", role="data", **settings) as broker:
        async with control_process(broker.url, broker_token=operator, **settings) as control:
            http = control.http
            assert (await http.get("/v1/control/status")).status_code == 401
            seen = await http.get("/v1/control/status", headers={"Authorization": f"Bearer {operator}"})
            assert seen.json()["online"]
            assert (await http.get("/v1/topics", headers={"Authorization": f"Bearer {operator}"})).status_code == 404
            async with httpx.AsyncClient(base_url=broker.url.replace("ws", "http", 1)[: -len("/v1/ws")]) as data:
                assert (await data.get("/v1/health")).status_code == 200
                shown = {"Authorization": f"Bearer {operator}"}
                assert (await data.get("/v1/control/status", headers=shown)).status_code == 404
            broker.kill()
            await control.wait_ready(503)
            assert control.terminate() == 0


def test_alone_it_needs_a_broker() -> None:
    done = CliRunner().invoke(app, ["serve", "--role", "control"], env={"HUBBUB_CONFIG": ""})
    assert done.exit_code == 2
    assert "--broker" in done.stderr
