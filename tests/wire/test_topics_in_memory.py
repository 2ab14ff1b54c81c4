"""Topics that nobody needs are let go from memory, and nobody can tell."""

from typing import Any

import pytest

from hubbub_broker.server import Server

FEW = {"topics_in_memory": 1, "shards": 1}
LATER = float("inf")


@pytest.mark.parametrize("options", [FEW], indirect=True)
class TestLetGo:
    async def test_an_idle_topic_goes_and_comes_back_as_it_was(self, connect: Any, server: Server) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe:
            for i in range(5):
                await joe.pub(f"g/t{i}", i, id="a", n=1)
            assert shard.let_go(LATER) == 4
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
            assert shard.let_go(LATER) == 0
            await ann.send("unsub", topic="g/t1", rid=1)
            await ann.until("ok", rid=1)
            assert shard.let_go(LATER) == 1
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
            assert shard.let_go(LATER) == 2
            for i in range(3):
                await joe.pub(f"g/t{i}", f"again {i}")
            assert [m["data"] for m in await ann.messages(3)] == ["again 0", "again 1", "again 2"]
            await ann.silent()

    async def test_of_a_crowd_those_go_that_were_just_used(self, connect: Any, server: Server) -> None:
        (shard,) = server.broker.shards
        async with connect("joe") as joe:
            for i in range(2):
                await joe.pub(f"g/t{i}", i)
            crowded: list[bool] = [shard.crowded]
            assert shard.let_go(shard.batch.now + 2) == 0
            for i in range(2, 6):
                await joe.pub(f"g/t{i}", i)
            crowded.append(shard.crowded)
            assert crowded == [False, True]
            assert shard.let_go(shard.batch.now) == 0
            assert shard.let_go(shard.batch.now + 2) == 5
