"""Agents against a broker in memory, in virtual time. Tests with threads or sockets ask for `real_time`."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from harness.virtual_time import VirtualTimeLoop
from hubbub import Agent
from hubbub.testing import MemoryBroker

MakeAgent = Callable[..., Agent]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: needs the system's clock, because of threads or sockets")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    real = item.get_closest_marker("real_time") is not None
    return {"real": asyncio.new_event_loop} if real else {"virtual": VirtualTimeLoop}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an agent says to a control plane is tested in `control`; here the wire has nothing but what a test says."""
    monkeypatch.setenv("HUBBUB_CONTROL", "off")


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker(clock=asyncio.get_running_loop().time)


@pytest.fixture
def make_agent(broker: MemoryBroker) -> MakeAgent:
    """An agent of that name on the broker, to be entered by the test."""

    def make(name: str = "joe", **options: Any) -> Agent:
        values = {"group": "g", "transport": broker.transport(), "source": random.Random(name), "local": False}
        return Agent(name, **{**values, **options})

    return make


@pytest.fixture
async def joe(make_agent: MakeAgent) -> AsyncIterator[Agent]:
    async with make_agent("joe") as agent:
        await agent.wait_for("online")
        yield agent


@pytest.fixture
async def ann(make_agent: MakeAgent) -> AsyncIterator[Agent]:
    async with make_agent("ann") as agent:
        await agent.wait_for("online")
        yield agent


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if not task.done() and "hubbub" in task.get_name()]
    assert left == []
