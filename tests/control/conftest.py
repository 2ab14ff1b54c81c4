"""The control plane beside a real broker, in one process."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving
from harness.until import until
from hubbub import Agent
from hubbub_broker.cli.planes import Inside
from hubbub_broker.config import Settings
from hubbub_broker.server import Server
from hubbub_control import ControlPlane

MakeAgent = Callable[..., Agent]


@pytest.fixture
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of the broker: `@pytest.mark.parametrize("options", [{...}])`."""
    return getattr(request, "param", {})


@pytest.fixture
def insides() -> list[Inside]:
    """Filled with what runs beside the broker."""
    return []


@pytest.fixture
async def server(tmp_path: Path, options: dict[str, Any], insides: list[Inside]) -> AsyncIterator[Server]:
    def beside(settings: Settings) -> Inside:
        insides.append(Inside(settings))
        return insides[-1]

    async with serving(tmp_path / "data", beside, **options) as server:
        yield server


@pytest.fixture
async def plane(server: Server, insides: list[Inside]) -> ControlPlane:
    """The control plane, once it is connected."""
    plane = insides[0].plane
    await until(lambda: plane.online)
    return plane


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as http:
        yield http


@pytest.fixture
def make_agent(server: Server) -> MakeAgent:
    """An agent of that name at the broker, to be entered by the test."""

    def make(name: str = "joe", **options: Any) -> Agent:
        usual = {"group": "g", "url": f"ws://127.0.0.1:{server.port}", "local": False, "drain": 0.5}
        return Agent(name, **{**usual, **options})

    return make
