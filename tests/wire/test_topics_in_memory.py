"""Topics that nobody needs are let go from memory, and nobody can tell."""

from typing import Any

import pytest

from hubbub_broker.server import Server
from hubbub_broker.shard import Shard

FEW = {"topics_in_memory": 1, "shards": 1}
LATER = float("inf")


def of_agents(shard: Shard) -> list[str]:
    """The topics in memory but for the broker's own."""
    return sorted(name for name in shard.topics if not name.startswith("_"))


@pytest.mark.parametrize("options", [FEW], indirect=True)
class TestLetGo:
    async def test_an_idle_topic_goes_and_comes_back_as_it_was(self, connect: Any, server: Server) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe:
            for i in range(5):
                await joe.pub(f"g/t{i}", i, id="a", n=1)
            shard.let_go(LATER)
            assert len(shard.topics) == 1
            for i in range(5):
                assert (await joe.pub(f"g/t{i}", i, id="a", n=1))["dup"] is True
                assert (await joe.pub(f"g/t{i}", i, id="c", n=3))["code"] == "order"
                assert (await joe.pub(f"g/t{i}", i, id="b", n=2))["seq"] == 2

    async def test_one_in_use_stays(self, connect: Any, server: Server) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe, connect("ann") as ann:
            for i in range(3):
                await ann.sub(f"g/t{i}")
            shard.let_go(LATER)
            assert of_agents(shard) == ["g/t0", "g/t1", "g/t2"]
            await ann.send("unsub", topic="g/t1", rid=1)
            await ann.until("ok", rid=1)
            shard.let_go(LATER)
            assert of_agents(shard) == ["g/t0", "g/t2"]
            for i in range(3):
                await joe.pub(f"g/t{i}", i)
            assert [m["data"] for m in await ann.messages(2)] == [0, 2]

    @pytest.mark.parametrize("start", ["new", "all"])
    async def test_a_pattern_goes_on_with_a_topic_that_came_back(
        self, connect: Any, server: Server, start: str
    ) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.pub("g/t0", "before")
            await ann.sub("g/*", from_=start)
            await ann.until("live", topic="g/*")
            for i in range(3):
                await joe.pub(f"g/t{i}", i)
            assert [m["data"] for m in await ann.messages(3)] == [0, 1, 2]
            shard.let_go(LATER)
            assert len(shard.topics) == 1
            for i in range(3):
                await joe.pub(f"g/t{i}", f"again {i}")
            assert [m["data"] for m in await ann.messages(3)] == ["again 0", "again 1", "again 2"]
            await ann.silent()

    async def test_of_a_crowd_those_go_that_were_just_used(self, connect: Any, server: Server) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe:
            await joe.pub("g/t0", 0)
            crowded: list[bool] = [shard.crowded]
            shard.let_go(shard.batch.now + 2)
            assert of_agents(shard) == ["g/t0"]
            for i in range(1, 6):
                await joe.pub(f"g/t{i}", i)
            crowded.append(shard.crowded)
            assert crowded == [False, True]
            shard.let_go(shard.batch.now)
            assert len(of_agents(shard)) == 6
            shard.let_go(shard.batch.now + 2)
            assert len(shard.topics) == 1
