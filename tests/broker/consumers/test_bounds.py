"""What consumers wait for, what they are told they missed, how much of them is kept, and which figures they have."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from harness.broker import url_of
from harness.consuming import idle, member, publish, settle
from harness.until import until
from hubbub_broker.consumers import Consumer
from hubbub_broker.consumers.consumer import JITTER
from hubbub_broker.server import Server

SMALL: dict[str, Any] = {
    "segment_bytes": 4096,
    "shards": 1,
    "policy": [{"pattern": "g/t", "max_count": 1}, {"pattern": "**"}],
}


def consumer_of(server: Server, topic: str = "g/t", name: str = "w") -> Consumer:
    found = server.broker.consumers_of("g").get(topic, name)
    assert found is not None
    return found


async def figures(server: Server) -> list[str]:
    async with httpx.AsyncClient(base_url=url_of(server).replace("ws://", "http://").removesuffix("/v1/ws")) as http:
        return (await http.get("/metrics")).text.splitlines()


class TestWaits:
    async def test_each_failure_waits_for_its_step_and_the_last_step_goes_on(self, connect: Any) -> None:
        steps = [0.05, 0.3, 0.3]
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, backoff=steps[:2], max_deliver=0)
            await publish(joe, 1)
            await ann.until("msg")
            for attempt, step in enumerate(steps, 2):
                began = time.monotonic()
                assert (await settle(ann, "nack", 1))["op"] == "ok"
                assert (await ann.until("msg"))["attempt"] == attempt
                assert time.monotonic() - began >= step

    async def test_what_failed_together_does_not_come_again_together(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, backoff=[1000], max_unacked=50)
            await publish(joe, 50)
            await ann.messages(50)
            began = asyncio.get_running_loop().time()
            for seq in range(1, 51):
                await settle(ann, "nack", seq)
            ended = asyncio.get_running_loop().time()
            (place,) = consumer_of(server).places.values()
            dues = [wait.due for wait in place.waiting.values()]
        assert len(dues) == 50
        assert all(began + 1000 <= due <= ended + 1000 * (1 + JITTER) for due in dues)
        assert max(dues) - min(dues) > 1000 * JITTER / 2, "spread over the random part of the wait"


class TestBehindRetention:
    @pytest.mark.parametrize("options", [SMALL], indirect=True)
    async def test_who_was_away_is_told_what_will_not_come(self, server: Server, connect: Any) -> None:
        """And goes on with the first message that is there; the loss is counted."""
        filler = {"filler": "f" * 200}
        async with connect("joe") as joe:
            async with connect("ann") as ann:
                await member(ann)
            await publish(joe, 60, headers=filler)
            await publish(joe, 60, "g/other", headers=filler)
            log = server.broker.shard_of("g").log
            assert await log.enforce_retention(server.broker._retention_of, time.time())
            first = log.first_seq(log.topic("g/t"))
            assert first > 1
            async with connect("ann") as ann:
                await member(ann)
                gap = await ann.until("gap")
                message = await ann.until("msg")
        assert (gap["topic"], gap["consumer"], gap["first"], gap["last"]) == ("g/t", "w", 1, first - 1)
        assert (gap["reason"], message["seq"]) == ("retention", first)
        lines = await figures(server)
        assert f"hubbub_consumer_lost_total {first - 1}.0" in lines
        assert 'hubbub_gaps_total{reason="retention"} 1.0' in lines


class TestFigures:
    async def test_how_long_messages_took_is_told_by_consumer_and_agent(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 3)
            await ann.messages(3)
            for seq in (1, 2, 3):
                await settle(ann, "ack", seq)
        lines = await figures(server)
        for name, labels in (
            ("wait", 'consumer="w",group="g",topic="g/t"'),
            ("work", 'agent="ann",consumer="w",group="g",topic="g/t"'),
            ("total", 'agent="ann",consumer="w",group="g",topic="g/t"'),
        ):
            assert f"hubbub_consumer_{name}_seconds_count{{{labels}}} 3.0" in lines
        counted = {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}
        assert counted['hubbub_consumer_total_seconds_sum{agent="ann",consumer="w",group="g",topic="g/t"}'] > 0

    @pytest.mark.parametrize("options", [{"latency_series": 2}], indirect=True)
    async def test_names_beyond_the_bound_share_one_series(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe:
            for number in range(5):
                async with connect(f"agent-{number}") as agent:
                    await member(agent)
                    await joe.pub("g/t", number)
                    message = await agent.until("msg")
                    await settle(agent, "ack", message["seq"])
        series = [line for line in await figures(server) if line.startswith("hubbub_consumer_work_seconds_count")]
        assert len(series) <= 3
        assert sum(float(line.split(" ")[1]) for line in series) == 5


class TestLimits:
    @pytest.mark.parametrize("options", [{"max_consumers": 2, "shards": 1}], indirect=True)
    async def test_of_consumers(self, connect: Any) -> None:
        async with connect("ann") as ann:
            for name in ("a", "b"):
                assert (await member(ann, name=name))["op"] == "ok"
            refused = await ann.ask("sub", topic="g/t", consumer="c")
            assert (refused["op"], refused["code"]) == ("err", "overloaded")
            assert "max_consumers" in refused["message"]

    @pytest.mark.parametrize("options", [{"receipts_kept": 2, "shards": 1}], indirect=True)
    async def test_of_receipts_the_newest_are_kept(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            for number in range(4):
                await joe.pub("g/t", number, id=f"m{number}", track=True)
                message = await ann.until("msg")
                await settle(ann, "ack", message["seq"])
                await joe.until("receipt", id=f"m{number}", state="done")
            receipts = server.broker.consumers_of("g").receipts
            assert [bool(list(receipts.of(f"m{number}"))) for number in range(4)] == [False, False, True, True]

    @pytest.mark.parametrize("options", [{"receipt_window": 1.0, "shards": 1}], indirect=True)
    async def test_of_receipts_the_old_go(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await joe.pub("g/t", 1, id="m", track=True)
            message = await ann.until("msg")
            await settle(ann, "ack", message["seq"])
            await joe.until("receipt", id="m", state="done")
            receipts = server.broker.consumers_of("g").receipts
            assert list(receipts.of("m"))
            await until(lambda: not list(receipts.of("m")))

    @pytest.mark.parametrize("options", [{"position_interval": 60.0}, {"position_interval": 0.001}], indirect=True)
    async def test_positions_are_written_as_often_as_is_set(
        self, server: Server, connect: Any, options: dict[str, Any]
    ) -> None:
        """The first at once; the next after the interval, unless somebody waits for it."""
        consumers = server.broker.consumers_of("g")
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 2)
            await ann.messages(2)
            await ann.send("ack", topic="g/t", consumer="w", seq=1)
            await idle(ann)
            await until(lambda: not consumers._unwritten)
            await ann.send("ack", topic="g/t", consumer="w", seq=2)
            await idle(ann)
            if options["position_interval"] < 1:
                await until(lambda: not consumers._unwritten)
            else:
                consumers.tick()
                await publish(joe, 3)  # batches that could have taken it along
                assert consumers._unwritten
