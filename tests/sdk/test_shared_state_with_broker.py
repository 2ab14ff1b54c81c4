"""Shared state of the SDK with the real broker, in a process that is killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.broker import BrokerProcess, broker_process
from hubbub import Agent

pytestmark = [pytest.mark.real_time, pytest.mark.slow]

WRITERS = 50
EACH = 100
SHORT_EACH = 10


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[BrokerProcess]:
    async with broker_process(tmp_path / "data") as broker:
        yield broker


def agent_of(broker: BrokerProcess, name: str, **options: Any) -> Agent:
    return Agent(name, group="g", url=f"ws://127.0.0.1:{broker.port}", local=False, **options)


async def count_up(broker: BrokerProcess, writers: int, each: int) -> None:
    """Writers that read, add 1 and write, on connections of their own: none of it may be lost."""
    agents = [agent_of(broker, f"w{number}") for number in range(writers)]
    tried: list[int] = []

    async def write(agent: Agent) -> None:
        state = agent.topic("c").state
        for _ in range(each):
            attempts = 0

            def add(n: int | None) -> int:
                nonlocal attempts
                attempts += 1
                return (n or 0) + 1

            await state.modify("n", add)
            tried.append(attempts)

    for agent in agents:
        await agent.open()
    try:
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(300):
            await asyncio.gather(*map(write, agents))
        seconds = asyncio.get_running_loop().time() - begun
        value, version = await agents[0].topic("c").state.get("n")
        assert (value, version) == (writers * each, writers * each)
        assert max(tried) <= 100, "what `modify` allows"
        print(
            f"{writers} writers x {each}: {value} in {seconds:.1f} s, {sum(tried) / len(tried):.1f} attempts each, "
            f"{max(tried)} at most"
        )
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))


async def test_fifty_writers_lose_no_increment(real: BrokerProcess) -> None:
    await count_up(real, WRITERS, SHORT_EACH)


@pytest.mark.soak
async def test_fifty_writers_with_a_hundred_increments_each_end_at_five_thousand(real: BrokerProcess) -> None:
    await count_up(real, WRITERS, EACH)
