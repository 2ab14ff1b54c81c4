"""Who may settle what, and what a request that is refused leaves behind."""

from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.consuming import idle, member, publish, settle
from harness.wire import wire_client
from hubbub_broker.server import Server
from hubbub_protocol.codec import join_binary


class TestGivenToNobodyYet:
    async def test_it_can_not_be_acked(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("eve") as eve:
            await member(ann, max_unacked=1)
            await publish(joe, 3)
            await ann.until("msg", seq=1)
            for seq in (2, 3):
                refused = await settle(eve, "ack", seq)
                assert (refused["code"], refused["op"]) == ("conflict", "err")
            await settle(ann, "ack", 1)
            assert (await ann.until("msg"))["seq"] == 2

    async def test_not_when_it_waits_for_the_one_before_it_either(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, ordered="k")
            await publish(joe, 2, headers={"k": "x"})
            await ann.until("msg", seq=1)
            assert (await settle(ann, "ack", 2))["code"] == "conflict"
            await settle(ann, "ack", 1)
            assert (await ann.until("msg"))["seq"] == 2

    async def test_what_was_given_and_waits_can(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, backoff=[1000])
            await publish(joe, 1)
            await ann.until("msg", seq=1)
            await settle(ann, "nack", 1)
            assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"

    async def test_after_a_restart_only_what_came_since_is_known_for_sure(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            await publish(ann, 1)
            await ann.messages(1)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await publish(ann, 1)
            assert (await settle(ann, "ack", 2))["code"] == "conflict"
            assert (await settle(ann, "ack", 1))["op"] == "ok"


@pytest.mark.parametrize("options", [{"max_filters": 1}], indirect=True)
async def test_a_refused_member_changes_nothing(server: Server, connect: Any) -> None:
    async with connect("ann") as ann, connect("bob") as bob, connect("joe") as joe:
        await member(ann, name="other", where={"type": "a"})
        async with connect("eve") as eve:
            await member(eve)
        await bob.send("sub", topic="g/t", consumer="w", exclusive=True, where={"type": "b"}, rid=1)
        assert (await bob.until("err", rid=1))["code"] == "overloaded"
        await member(ann, max_unacked=1)
        await member(bob, max_unacked=1)
        await publish(joe, 2)
        assert {(await ann.until("msg", consumer="w"))["seq"], (await bob.until("msg"))["seq"]} == {1, 2}


class TestMandatory:
    async def test_a_paused_consumer_gets_nothing_now(self, server: Server, connect: Any) -> None:
        pause = server.broker.administration_of("g").pause
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await pause("g/t", "w", paused=True)
            assert (await joe.pub("g/t", 1, mandatory=True))["code"] == "not_found"
            await pause("g/t", "w", paused=False)
            assert (await joe.pub("g/t", 2, mandatory=True))["op"] == "ok"

    async def test_members_that_are_leaving_get_nothing_more(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await ann.send("unsub", topic="g/t", consumer="w", drain=True, rid=1)
            await ann.until("ok", rid=1)
            assert (await joe.pub("g/t", 1, mandatory=True))["code"] == "not_found"
            await idle(ann)


class TestNumbers:
    """Each lease has a number larger than any before it, whatever went wrong in between."""

    async def test_also_where_the_attempt_is_the_same(self, tmp_path: Path) -> None:
        numbers: list[int] = []
        attempts: list[int] = []
        for _ in range(3):
            async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
                await member(ann, from_="all")
                if not numbers:
                    await publish(ann, 1)
                for _ in range(2):
                    message = await ann.until("msg")
                    attempts.append(message.get("attempt", 1))
                    numbers.append(message["lease"])
                    await settle(ann, "nack", 1, returned=True)
        assert numbers == sorted(set(numbers))
        assert len(set(attempts)) < len(attempts)
        assert numbers[-1] < 1 << 53

    async def test_one_that_is_not_the_newest_settles_nothing(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann)
            await publish(ann, 1)
            first = (await ann.until("msg"))["lease"]
            await settle(ann, "nack", 1, returned=True)
            second = (await ann.until("msg"))["lease"]
            for op in ("ack", "extend", "nack", "term"):
                assert (await settle(ann, op, 1, attempt=1, lease=first))["code"] == "conflict"
            assert (await settle(ann, "nack", 1, lease=second, delay=1000))["op"] == "ok"
            assert (await settle(ann, "ack", 1, lease=first))["code"] == "conflict"
            assert (await settle(ann, "ack", 1, lease=second))["op"] == "ok"


@pytest.mark.parametrize("binary", [False, True])
async def test_no_delivery_is_larger_than_a_frame_may_be(server: Server, connect: Any, binary: bool) -> None:
    limit = server.broker.settings.max_frame
    name = "w" * 128
    async with connect("joe") as joe, connect("ann") as ann:
        sizes: list[int] = []
        socket = ann.socket
        receive = socket.recv

        async def measured() -> Any:
            frame = await receive()
            sizes.append(len(frame))
            return frame

        socket.recv = measured
        await member(ann, name=name, max_deliver=0, backoff=[0])
        low, high = limit - 2000, limit
        while high - low > 1:  # the largest message that is taken
            middle = (low + high) // 2
            if binary:
                await joe.socket.send(join_binary(b'{"op":"pub","topic":"g/t","id":"b%d"}' % middle, b"x" * middle))
                answer = await joe.next()
            else:
                answer = await joe.pub("g/t", "x" * middle)
            low, high = (middle, high) if answer["op"] == "ok" else (low, middle)
            if answer["op"] == "ok":
                seq = (await ann.until("msg"))["seq"]
                await settle(ann, "nack", seq, name=name)
                again = await ann.until("msg", seq=seq)
                assert again["attempt"] == 2
                await settle(ann, "ack", seq, name=name)
        assert limit - 256 < max(sizes) <= limit
