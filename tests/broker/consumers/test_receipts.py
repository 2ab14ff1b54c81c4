"""Receipts: the publisher hears how it ended, whatever connection was lost meanwhile, and whoever was late."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.consuming import member, publish, settle
from harness.until import until
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server


class TestLate:
    async def test_an_ack_after_the_lease_ended_is_done_for_the_publisher_too(
        self, server: Server, connect: Any
    ) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, ack_wait=0.05, backoff=[1000])
            await joe.pub("g/t", 1, id="t1", track=True)
            await ann.until("msg")
            (consumer,) = server.broker.consumers_of("g")
            await until(lambda: consumer.places["g/t"].waiting)
            assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"
            await joe.until("receipt", id="t1", state="done", by="ann")

    async def test_an_ack_from_the_next_connection_is_done_for_the_publisher_too(self, connect: Any) -> None:
        async with connect("joe") as joe:
            async with connect("ann") as ann:
                await member(ann)
                await joe.pub("g/t", 1, id="t1", track=True)
                await ann.until("msg")
            async with connect("ann") as ann:
                assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"
                await joe.until("receipt", id="t1", state="done", by="ann")

    async def test_an_ack_after_a_restart_is_done_for_the_publisher_too(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            await ann.pub("g/t", 1, id="t1", track=True)
            await ann.pub("g/t", 2, id="t2")
            await ann.messages(2)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            assert (await ann.ask("ack", topic="g/t", consumer="w", seqs=[1, 2], attempt=1))["op"] == "ok"
            await ann.until("receipt", id="t1", state="done", by="ann")
            found = [receipt for _, receipt in server.broker.consumers_of("g").receipts.of("t2")]
            assert not found, "nobody asked for one"


class TestToldAgain:
    async def test_what_a_dead_connection_swallowed_is_told_to_the_next(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann)
            async with connect("joe") as joe:
                await joe.pub("g/t", 1, id="t1", track=True)
                await ann.until("msg")
                joe.socket.transport.pause_reading()  # from here on it hears nothing, and the broker can't know
                assert (await settle(ann, "ack", 1))["op"] == "ok"
                joe.socket.transport.abort()
            async with connect("joe") as joe:
                await joe.until("receipt", id="t1", state="done", by="ann")

    async def test_that_another_connection_of_the_name_heard_it_is_not_enough(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("joe") as other:
            await member(ann)
            await other.pub("g/t", 1, id="t1", track=True)
            await ann.until("msg")
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await other.until("receipt", state="done")
            async with connect("joe") as joe:
                await joe.until("receipt", id="t1", state="done")

    async def test_it_is_told_again_after_a_restart_as_well(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            await ann.pub("g/t", 1, id="t1", track=True)
            await ann.until("msg")
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await ann.until("receipt", state="done")
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await ann.until("receipt", id="t1", state="done")

    @pytest.mark.parametrize("options", [{"receipts_retold": 2, "shards": 1}], indirect=True)
    async def test_only_the_newest_are_told_again(self, server: Server, connect: Any) -> None:
        async def receipts(client: WireClient) -> list[str]:
            await client.send("ping", rid="all?")
            found = []
            while (line := await client.next())["op"] != "pong":
                found += [line["id"]] if line["op"] == "receipt" else []
            return found

        async with connect("ann") as ann, connect("joe") as joe:
            await member(ann)
            for number in range(4):
                await joe.pub("g/t", number, id=f"t{number}", track=True)
            await ann.messages(4)
            for seq in range(1, 5):
                await settle(ann, "ack", seq)
            await joe.until("receipt", id="t3", state="done")
            async with connect("joe") as again:
                assert await receipts(again) == ["t2", "t3"]
            server.broker.consumers_of("g").receipts.age(1e12)
            async with connect("joe") as again:
                assert await receipts(again) == [], "what is too old is told nobody"


class TestExpired:
    """What ran out is told when it does, whether or not anybody would be given it."""

    async def test_of_what_waits_for_its_next_delivery(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, backoff=[1000])
            await joe.pub("g/t", 1, id="t1", track=True, ttl=0.3)
            await ann.until("msg")
            await settle(ann, "nack", 1)
            await joe.until("receipt", id="t1", state="expired")

    async def test_of_what_nobody_is_there_for(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ops") as ops:
            await ops.sub("g/_dead")
            async with connect("ann") as ann:
                await member(ann, "g/*")
            await joe.pub("g/t", 1, id="t1", track=True, ttl=0.1)
            await joe.until("receipt", id="t1", state="expired")
            letter = await ops.until("msg")
            assert (letter["headers"]["dead"]["reason"], letter["headers"]["dead"]["attempts"]) == ("expired", 0)

    async def test_of_what_a_paused_consumer_keeps(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await server.broker.administration_of("g").pause("g/t", "w", paused=True)
            await joe.pub("g/t", 1, id="t1", track=True, ttl=0.1)
            await joe.until("receipt", id="t1", state="expired")

    async def test_of_what_its_member_had_until_then(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, ack_wait=0.4, backoff=[1000])
            await joe.pub("g/t", 1, id="t1", track=True, ttl=0.1)
            await ann.until("msg")
            await joe.until("receipt", id="t1", state="expired")

    async def test_not_of_what_is_done_or_none_of_its_business(self, server: Server, connect: Any) -> None:
        pause = server.broker.administration_of("g").pause
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await member(ann, name="late")
            await member(ann, name="choosy", where={"type": "other"})
            await pause("g/t", "late", paused=True)
            await pause("g/t", "choosy", paused=True)
            await joe.pub("g/t", 1, ttl=0.2)
            await ann.until("msg", consumer="w")
            await settle(ann, "ack", 1)
            await joe.pub("g/t", 2, ttl=0.2)
            letters = [(await ops.until("msg"))["headers"]["dead"] for _ in range(2)]
            assert [(about["consumer"], about["seq"]) for about in letters] == [("late", 1), ("late", 2)]
            await settle(ann, "ack", 2)  # its time was over, and its lease was not

    @pytest.mark.parametrize("options", [{"expiries_kept": 0}], indirect=True)
    async def test_what_is_too_much_to_keep_is_told_when_it_is_to_be_delivered(self, connect: Any) -> None:
        async with connect("joe") as joe:
            async with connect("ann") as ann:
                await member(ann)
            await joe.pub("g/t", 1, id="t1", track=True, ttl=0.05)
            await publish(joe, 1)
            await asyncio.sleep(0.1)
            async with connect("ann") as ann:
                await member(ann)
                assert (await ann.until("msg"))["seq"] == 2
                await joe.until("receipt", id="t1", state="expired")
