"""Reset, pause and removal of consumers: what members notice, and what the log keeps."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.consuming import idle, member, publish, settle
from harness.wire import wire_client
from hubbub_broker.consumers import Administration
from hubbub_broker.kinds import StateKind
from hubbub_broker.refusal import Refusal
from hubbub_broker.server import Server
from hubbub_broker.shard import Start
from hubbub_protocol.errors import ErrorCode

ALL = Start(all=True)
NEW = Start()


def administration(server: Server) -> Administration:
    return server.broker.administration_of("g")


def positions(server: Server) -> set[bytes]:
    log = server.broker.shard_of("g").log
    return {key for key, _ in log.states(StateKind.POSITION)}


class TestReset:
    async def test_to_all_everything_comes_again(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 3)
            for line in await ann.messages(3):
                await settle(ann, "ack", line["seq"])
            await administration(server).reset("g/t", "w", ALL)
            again = await ann.messages(3)
            assert [(line["seq"], "attempt" in line) for line in again] == [(1, False), (2, False), (3, False)]

    async def test_to_new_nothing_of_before_comes_and_the_rest_does(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 5)
            await member(ann, from_="all", max_unacked=1)
            await ann.until("msg", seq=1)
            await administration(server).reset("g/t", "w", NEW)
            assert (await administration(server).report(administration(server).find("g/t", "w"))).standing.lag == 0
            await publish(joe, 1)
            assert (await ann.until("msg"))["seq"] == 6

    async def test_to_a_seq_and_to_a_time(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 5)
            await member(ann, from_="all")
            times = {line["seq"]: line["ts"] for line in await ann.messages(5)}
            await administration(server).reset("g/t", "w", Start(seq=4))
            assert [line["seq"] for line in await ann.messages(2)] == [4, 5]
            await administration(server).reset("g/t", "w", Start(since=times[3]))
            assert [line["seq"] for line in await ann.messages(3)] == [3, 4, 5]
            await idle(ann)

    async def test_who_had_something_out_has_it_no_more(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 2)
            await member(ann, from_="all")
            await ann.messages(2)
            await administration(server).reset("g/t", "w", Start(seq=2))
            assert (await settle(ann, "ack", 1))["code"] == "conflict", "it lies before the new start"
            again = await ann.until("msg")
            assert (again["seq"], again["attempt"]) == (2, 2), "told apart from what was out"
            assert (await settle(ann, "ack", 2, attempt=1))["code"] == "conflict"
            assert (await settle(ann, "ack", 2, attempt=2))["op"] == "ok"
            assert (await settle(ann, "ack", 2, attempt=2))["op"] == "ok", "a repeat of one's own"

    async def test_an_ack_from_before_does_not_settle_what_waits_now(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await publish(joe, 1)
            await member(ann, from_="all")
            await ann.until("msg")
            await administration(server).pause("g/t", "w", paused=True)
            await administration(server).reset("g/t", "w", ALL)
            assert (await settle(ann, "ack", 1))["code"] == "conflict"
            await member(bob)
            await administration(server).pause("g/t", "w", paused=False)
            _, pending = await asyncio.wait(
                {asyncio.create_task(ann.until("msg", seq=1)), asyncio.create_task(bob.until("msg", seq=1))},
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in pending:
                task.cancel()

    async def test_a_pattern_begins_again_in_every_topic_in_memory_or_not(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
                await member(ann, "g/*", from_="all")
                for number in range(5):
                    await publish(joe, 2, f"g/t{number}")
                for line in await ann.messages(10):
                    await settle(ann, "ack", line["seq"], line["topic"])
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
                await publish(joe, 1, "g/t0")
                await administration(server).reset("g/*", "w", ALL)
                await member(ann, "g/*")
                found = {(line["topic"], line["seq"]) for line in await ann.messages(11)}
                assert len(found) == 11
                await idle(ann)
                await administration(server).reset("g/*", "w", NEW)
                await publish(joe, 1, "g/t4")
                line = await ann.until("msg")
                assert (line["topic"], line["seq"]) == ("g/t4", 3)
                await idle(ann)

    async def test_it_is_on_stable_storage_before_it_returns(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
                await member(ann)
                await publish(joe, 3)
                for line in await ann.messages(3):
                    await settle(ann, "ack", line["seq"])
                await administration(server).reset("g/t", "w", Start(seq=2))
                durable = server.broker.shard_of("g").log.state(StateKind.CONSUMER, b"w\0g/t")
                assert durable is not None
                assert b'"start":"seq"' in durable
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            assert [line["seq"] for line in await ann.messages(2)] == [2, 3]

    @pytest.mark.parametrize(
        ("topic", "name", "start", "code"),
        [
            ("g/t", "nobody", ALL, ErrorCode.NOT_FOUND),
            ("g/other", "w", ALL, ErrorCode.NOT_FOUND),
            ("g/t", "w", Start(seq=3), ErrorCode.BAD_REQUEST),
            ("h/*", "w", Start(seq=1), ErrorCode.BAD_REQUEST),
        ],
    )
    async def test_what_can_not_be_is_refused(
        self, server: Server, connect: Any, topic: str, name: str, start: Start, code: ErrorCode
    ) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 1)
            await member(ann)
            await member(ann, "h/*")
            with pytest.raises(Refusal) as caught:
                await server.broker.administration_of(topic[0]).reset(topic, name, start)
            assert caught.value.code == code
            if name == "nobody":
                assert "it has w" in caught.value.message


class TestPause:
    async def test_nothing_is_given_out_and_what_is_out_can_be_settled(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await administration(server).pause("g/t", "w", paused=True)
            await publish(joe, 2)
            await settle(ann, "nack", 1, delay=0)
            await idle(ann)
            await administration(server).pause("g/t", "w", paused=False)
            assert {line["seq"] for line in await ann.messages(3)} == {1, 2, 3}

    async def test_it_lasts_over_a_restart(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            async with wire_client(url_of(server), "ann") as ann:
                await member(ann)
                await administration(server).pause("g/t", "w", paused=True)
        async with serving(tmp_path / "data") as server:
            async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
                await member(ann)
                await publish(joe, 1)
                await idle(ann)
                await administration(server).pause("g/t", "w", paused=False)
                await ann.until("msg", seq=1)


class TestRemoval:
    async def test_members_are_told_and_can_make_it_anew(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 2)
            await member(ann, from_="all", max_unacked=1)
            await ann.until("msg", seq=1)
            await settle(ann, "ack", 1)
            await administration(server).remove("g/t", "w")
            await ann.until("err", code="not_found", topic="g/t", consumer="w")
            assert (await settle(ann, "ack", 2))["code"] == "not_found"
            await member(ann, from_="all")
            assert [line["seq"] for line in await ann.messages(2)] == [1, 2], "nothing is left of the old one"

    async def test_nothing_is_left_in_the_log_or_in_memory(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
                await member(ann, "g/*", from_="all")
                await member(ann, "g/t0", "other", from_="all")
                for number in range(3):
                    await publish(joe, 1, f"g/t{number}")
                for line in await ann.messages(4):
                    await settle(ann, "ack", line["seq"], line["topic"], line["consumer"])
                assert await administration(server).remove("g/*", "w") == 3
                assert positions(server) == {b"other\0g/t0"}
                topics = server.broker.shard_of("g").topics
                assert [len(topics[f"g/t{number}"].followers) for number in range(3)] == [1, 0, 0]
        async with serving(tmp_path / "data") as server:
            names = [each.terms.name for each in server.broker.consumers_of("g")]
            assert names == ["other"]
            assert positions(server) == {b"other\0g/t0"}

    async def test_positions_that_a_crash_left_count_for_nothing(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
                await member(ann, from_="all")
                await publish(joe, 2)
                await ann.messages(2)
                await settle(ann, "ack", 1)
                consumers = server.broker.consumers_of("g")
                consumer = administration(server).find("g/t", "w")
                consumers.retire(consumer)
                consumers.delete(StateKind.CONSUMER, [consumer.terms.key])
                await consumers.stored()  # and here the broker dies
                assert positions(server) == {b"w\0g/t"}
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            ok = await member(ann, from_="all")
            assert ok["next"] == 1
            assert [line["seq"] for line in await ann.messages(2)] == [1, 2]

    async def test_one_that_was_made_meanwhile_keeps_its_position(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, from_="all")
            await publish(joe, 2)
            await ann.messages(2)
            await settle(ann, "ack", 1)
            removal = asyncio.create_task(administration(server).remove("g/t", "w"))
            await member(bob, from_="all")
            await bob.messages(2)
            assert (await settle(bob, "ack", 1))["op"] == "ok"
            await removal
            consumers = server.broker.consumers_of("g")
            again = consumers.get("g/t", "w")
            assert again is not None
            position = consumers.position_of(again, "g/t")
            assert position is not None
            assert position.floor == 1

    async def test_who_drains_is_gone_too(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await ann.send("unsub", topic="g/t", consumer="w", drain=True, rid=1)
            await ann.until("ok", rid=1)
            await administration(server).remove("g/t", "w")
            assert (await settle(ann, "ack", 1))["code"] == "not_found"


class TestStorageThatFails:
    async def test_nothing_is_changed_while_nothing_can_be_stored(self, server: Server, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann)
            consumer = administration(server).find("g/t", "w")
            log = server.broker.shard_of("g").log
            log.failed = "the disk is full"
            for change in (
                administration(server).reset("g/t", "w", ALL),
                administration(server).pause("g/t", "w", paused=True),
                administration(server).remove("g/t", "w"),
            ):
                with pytest.raises(Refusal, match="the disk is full") as caught:
                    await change
                assert caught.value.code == ErrorCode.READ_ONLY
            log.failed = None
            assert administration(server).find("g/t", "w") is consumer
            assert not consumer.terms.paused


class TestReport:
    async def test_it_tells_where_a_consumer_stands(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, max_unacked=2, backoff=[60])
            await publish(joe, 5)
            first = (await ann.messages(2))[0]
            await settle(ann, "ack", 2)
            await settle(ann, "nack", 1)
            await ann.messages(2)
            report = await administration(server).report(administration(server).find("g/t", "w"))
            assert (report.outstanding, report.waiting, report.acked, report.redelivered, report.dead) == (
                2,
                1,
                1,
                0,
                0,
            )
            assert report.standing == (4, 1, first["ts"])
            (only,) = report.members
            assert (only.agent, only.outstanding, only.max_unacked) == ("ann", 2, 2)

    async def test_a_pattern_is_counted_over_all_its_topics_also_without_members(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann:
                await member(ann, "g/*", from_="all")
                await publish(joe, 3, "g/a")
                for line in await ann.messages(3):
                    await settle(ann, "ack", line["seq"], "g/a")
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "joe") as joe:
            for number in range(250):
                await publish(joe, 1, f"g/b{number}")
            await publish(joe, 2, "g/a")
            await publish(joe, 1, "g/_hidden")
            await publish(joe, 1, "g/b/c")
            report = await administration(server).report(administration(server).find("g/*", "w"))
            assert report.standing[:2] == (252, 251)
            assert report.members == ()

    async def test_the_census_counts_all_once_in_a_while(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, max_unacked=1)
            await publish(joe, 3)
            await ann.messages(1)
        census = administration(server).census
        counting = census.refresh(10)
        assert counting is not None
        await counting
        assert {key: standing.lag for key, standing in census.standings.items()} == {("g/t", "w"): 3}
        kept = census.standings
        assert census.refresh(10) is None, "a count is good for a while"
        assert census.standings is kept
