"""Dead letters: which are open, and what becomes of them. Never is a message lost, and never is one handled twice."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.consuming import idle, kill, member, publish, settle
from harness.wire import Line, WireClient, wire_client
from hubbub_broker.consumers import DeadLetters, Which
from hubbub_broker.refusal import Refusal
from hubbub_broker.schema import SchemaLimits, Schemas, read_schema
from hubbub_broker.server import Server
from hubbub_broker.shard import Start
from hubbub_protocol.errors import ErrorCode

EVERY = Which()


def letters(server: Server) -> DeadLetters:
    return server.broker.consumers_of("g").dead_letters


async def open_seqs(server: Server, which: Which = EVERY) -> list[int]:
    found, _ = await letters(server).page("g", which, 0, 1000)
    return [letter.seq for letter in found]


async def buried(ops: WireClient, count: int) -> list[Line]:
    """Wait until that many letters are there."""
    return await ops.messages(count)


class TestRedriving:
    async def test_the_message_comes_again_as_for_the_first_time(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, max_deliver=2, backoff=[0.01])
            await publish(joe, 1)
            for _ in range(2):
                await ann.until("msg", seq=1)
                await settle(ann, "nack", 1, reason="boom")
            await buried(ops, 1)
            assert await open_seqs(server) == [1]
            outcome = await letters(server).redrive("g", Which(seqs=(1,)))
            assert (outcome.done, outcome.already, outcome.refused) == (1, 0, 0)
            assert await open_seqs(server) == []
            again = await ann.until("msg")
            assert (again["seq"], "attempt" in again) == (1, False)
            await settle(ann, "nack", 1)
            assert (await ann.until("msg"))["attempt"] == 2
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await idle(ann)

    async def test_only_the_consumer_that_failed_gets_it(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await member(bob, name="other")
            await publish(joe, 1)
            await ann.until("msg")
            await bob.until("msg")
            await kill(ann, 1)
            await buried(ops, 1)
            await letters(server).redrive("g", EVERY)
            await ann.until("msg", seq=1)
            await idle(bob)

    async def test_twice_is_as_good_as_once(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await kill(ann, 1)
            await buried(ops, 1)
            both = await asyncio.gather(*(letters(server).redrive("g", Which(seqs=(1,))) for _ in range(2)))
            assert sorted((each.done, each.already) for each in both) == [(0, 1), (1, 0)]
            await ann.until("msg", seq=1)
            await settle(ann, "ack", 1)
            assert (await letters(server).redrive("g", Which(seqs=(1,)))).already == 1
            await idle(ann)

    async def test_who_dies_again_has_another_letter_that_says_why(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 1)
            for death, reason in enumerate(("first", "second", "third"), 1):
                await ann.until("msg", seq=1)
                await kill(ann, 1, reason=reason)
                await buried(ops, 1)
                assert await open_seqs(server) == [death]
                assert (await letters(server).letter("g", death)).about.reason == reason
                assert (await letters(server).redrive("g", EVERY)).done == 1
            await ann.until("msg", seq=1)

    async def test_who_dies_again_after_a_reset_has_an_open_letter_too(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg", seq=1)
            await kill(ann, 1)
            await buried(ops, 1)
            await letters(server).drop("g", EVERY)
            await server.broker.administration_of("g").reset("g/t", "w", Start(all=True))
            await ann.until("msg", seq=1)
            await kill(ann, 1)
            await buried(ops, 1)
            assert await open_seqs(server) == [2]

    async def test_it_waits_for_a_member_over_a_restart(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ops") as ops:
                await ops.sub("g/_dead")
                async with wire_client(url, "ann") as ann:
                    await member(ann)
                    await publish(joe, 3)
                    await ann.messages(3)
                    await settle(ann, "ack", 1)
                    await kill(ann, 2)
                    await settle(ann, "ack", 3)
                    await buried(ops, 1)
                await letters(server).redrive("g", EVERY)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            assert await open_seqs(server) == []
            await member(ann)
            assert (await ann.until("msg"))["seq"] == 2
            await idle(ann)

    async def test_a_crash_before_the_letter_is_marked_loses_nothing_and_doubles_nothing(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ops") as ops, wire_client(url, "ann") as ann:
                await ops.sub("g/_dead")
                await member(ann)
                await publish(joe, 1)
                await ann.until("msg")
                await kill(ann, 1)
                await buried(ops, 1)
                consumers = server.broker.consumers_of("g")
                consumer = consumers.get("g/t", "w")
                assert consumer is not None
                place = consumers.place(consumer, "g/t")
                await ann.socket.close()
                consumer.redeliver(place, 1)  # the first half of a redrive, and then the broker dies
                await consumers.stored(place)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            assert await open_seqs(server) == [1]
            outcome = await letters(server).redrive("g", EVERY)
            assert (outcome.done, outcome.refused) == (1, 0)
            await member(ann)
            await ann.until("msg", seq=1)
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await idle(ann)

    async def test_what_lies_ahead_comes_once(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ops") as ops, wire_client(url, "ann") as ann:
                await ops.sub("g/_dead")
                await member(ann)
                await publish(joe, 5)
                await ann.messages(5)
                await kill(ann, 4)
                await buried(ops, 1)
                await settle(ann, "ack", 5)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            await letters(server).redrive("g", EVERY)  # a hole behind 1, which is not given out yet
            await member(ann)
            assert [line["seq"] for line in await ann.messages(4)] == [1, 2, 3, 4]
            await idle(ann)

    async def test_of_an_ordered_consumer_it_waits_for_its_turn(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, ordered="key")
            await publish(joe, 2, headers={"key": "k"})
            await ann.until("msg", seq=1)
            await kill(ann, 1)
            await buried(ops, 1)
            await ann.until("msg", seq=2)
            await letters(server).redrive("g", EVERY)
            await idle(ann)
            await settle(ann, "ack", 2)
            await ann.until("msg", seq=1)

    async def test_bytes_come_back_as_bytes(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await joe.send_binary(b"\x00\xff", topic="g/t", id="b")
            await ann.until("msg")
            await kill(ann, 1)
            await buried(ops, 1)
            await letters(server).redrive("g", EVERY)
            assert (await ann.until("msg"))["payload"] == b"\x00\xff"
            await kill(ann, 1)
            await buried(ops, 1)
            await letters(server).redrive("g", EVERY, republish=True)
            assert (await ann.until("msg", seq=2))["payload"] == b"\x00\xff"

    @pytest.mark.parametrize("options", [{"consumer_window": 2}], indirect=True)
    async def test_no_more_than_the_window_at_a_time(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 3)
            for seq in (1, 2, 3):
                await ann.until("msg", seq=seq)
                await kill(ann, seq)
            await buried(ops, 3)
            await ann.socket.close()
            outcome = await letters(server).redrive("g", EVERY)
            assert (outcome.done, outcome.refused) == (2, 1)
            assert "consumer_window" in outcome.refusals[0].refusal.message
            assert await open_seqs(server) == [3]


class TestWhatCanNotBeRedriven:
    async def test_of_a_consumer_that_is_gone_a_copy_can_be_published(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await joe.pub("g/t", {"n": 1}, id="x", type="task", headers={"k": "v"}, reply_to="g/answers")
            await ann.until("msg")
            await kill(ann, 1)
            await buried(ops, 1)
            await server.broker.administration_of("g").remove("g/t", "w")
            outcome = await letters(server).redrive("g", EVERY)
            assert (outcome.done, outcome.refused) == (0, 1)
            assert outcome.refusals[0].refusal.code == ErrorCode.NOT_FOUND
            assert "republish" in outcome.refusals[0].refusal.message
            await ops.sub("g/t")
            assert (await letters(server).redrive("g", EVERY, republish=True)).done == 1
            copy = await ops.until("msg", topic="g/t")
            assert (copy["seq"], copy["data"], copy["type"], copy["from"]) == (2, {"n": 1}, "task", "joe")
            assert (copy["headers"], copy["reply_to"]) == ({"k": "v"}, "g/answers")
            assert await open_seqs(server) == []

    @pytest.mark.parametrize(
        "options",
        [{"segment_bytes": 4096, "shards": 1, "policy": [{"pattern": "g/t", "max_count": 1}, {"pattern": "**"}]}],
        indirect=True,
    )
    async def test_of_what_retention_took_a_copy_can_be_published(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, ack_wait=600)
            await joe.pub("g/t", "precious", id="x")
            await ann.until("msg", seq=1)
            await publish(joe, 60, headers={"filler": "f" * 200})
            await ann.messages(60)
            await settle(ann, "term", 1, reason="late")
            await buried(ops, 1)
            await ann.send("ack", topic="g/t", consumer="w", seqs=list(range(2, 62)))
            await publish(joe, 60, "g/other", headers={"filler": "f" * 200})
            log = server.broker.shard_of("g").log
            assert await log.enforce_retention(server.broker._retention_of, time.time())
            assert log.first_seq(log.topic("g/t")) > 1
            outcome = await letters(server).redrive("g", EVERY)
            assert "retention took message 1 of g/t" in outcome.refusals[0].refusal.message
            assert await open_seqs(server) == [1]
            assert (await letters(server).redrive("g", EVERY, republish=True)).done == 1
            copy = await ann.until("msg", topic="g/t")
            assert (copy["seq"], copy["data"], copy["from"]) == (62, "precious", "joe")

    async def test_what_has_expired_would_expire_again(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await joe.pub("g/t", 1, ttl=0.05)
            line = await ann.until("msg")
            await settle(ann, "nack", 1, delay=0.06)
            letter = (await buried(ops, 1))[0]
            assert letter["headers"]["dead"]["reason"] == "expired"
            outcome = await letters(server).redrive("g", EVERY)
            assert "time-to-live" in outcome.refusals[0].refusal.message
            await letters(server).redrive("g", EVERY, republish=True)
            copy = await ann.until("msg")
            assert (copy["seq"], copy["data"]) == (2, line["data"])


class TestDropping:
    async def test_some_or_all_of_a_consumer_or_all(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, "g/a", "one")
            await member(ann, "g/b", "two")
            for topic, name in (("g/a", "one"), ("g/b", "two")):
                await publish(joe, 3, topic)
                for seq in (1, 2, 3):
                    await ann.until("msg", topic=topic, seq=seq)
                    assert (await settle(ann, "term", seq, topic, name))["op"] == "ok"
            await buried(ops, 6)
            assert (await letters(server).drop("g", Which(seqs=(2, 3, 99)))).already == 1, "99 is none"
            assert await open_seqs(server) == [1, 4, 5, 6]
            assert await open_seqs(server, Which(consumer="two")) == [4, 5, 6]
            assert await open_seqs(server, Which(topic="g/a")) == [1]
            assert (await letters(server).drop("g", Which(consumer="two"))).done == 3
            assert (await letters(server).drop("g", EVERY)).done == 1
            assert await open_seqs(server) == []
            with pytest.raises(Refusal, match="was redriven or dropped"):
                await letters(server).letter("g", 1)
            with pytest.raises(Refusal, match="no dead letter 99"):
                await letters(server).letter("g", 99)

    async def test_what_was_dropped_stays_dropped(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            url = url_of(server)
            async with wire_client(url, "joe") as joe, wire_client(url, "ann") as ann, wire_client(url, "ops") as ops:
                await ops.sub("g/_dead")
                await member(ann)
                await publish(joe, 3)
                for seq in (1, 2, 3):
                    await ann.until("msg", seq=seq)
                    await kill(ann, seq)
                await buried(ops, 3)
                await letters(server).drop("g", Which(seqs=(2,)))
        async with serving(tmp_path / "data") as server:
            assert await open_seqs(server) == [1, 3]

    async def test_pages_go_on_where_the_last_one_ended(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 7)
            for seq in range(1, 8):
                await ann.until("msg", seq=seq)
                await kill(ann, seq)
            await buried(ops, 7)
            await letters(server).drop("g", Which(seqs=(3, 4)))
            seen: list[int] = []
            after: int | None = 0
            while after is not None:
                page, after = await letters(server).page("g", EVERY, after, 2)
                seen += [letter.seq for letter in page]
            assert seen == [1, 2, 5, 6, 7]

    async def test_nobody_settles_letters_by_wire(self, connect: Any, server: Server) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(joe, 2)
            for seq in (1, 2):
                await ann.until("msg", seq=seq)
                await kill(ann, seq)
            await buried(ops, 2)
            await letters(server).drop("g", Which(seqs=(1,)))
            assert (await settle(ann, "ack", 2, "g/_dead", "_dlq"))["code"] == "not_found"
            assert await open_seqs(server) == [2]


class TestWhateverIsInOne:
    """A letter is always written, and what its publisher put there makes no other one unreadable."""

    @pytest.mark.parametrize(
        "options",
        [{"policy": [{"pattern": "g/tasks", "max_message": "512KiB"}, {"pattern": "g/**", "max_message": "1KiB"}]}],
        indirect=True,
    )
    async def test_it_takes_what_any_topic_of_its_group_took(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, "g/tasks")
            assert (await ann.pub("g/tasks", "x" * 100_000))["op"] == "ok"
            await ann.until("msg")
            await kill(ann, 1, "g/tasks")
            assert len((await ops.until("msg"))["data"]) == 100_000

    async def test_no_schema_keeps_it_out(self, server: Server, connect: Any) -> None:
        limits = SchemaLimits(max_schema_bytes=65_536)
        strict = read_schema("g", "dead_letter", {"type": "object", "required": ["never"]}, 1, limits)
        server.broker._follow((), Schemas([strict]))
        async with connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(ann, 1)
            await ann.until("msg")
            await kill(ann, 1)
            assert (await ops.until("msg"))["data"] == 0

    async def test_headers_as_deep_as_can_be_published_hide_no_letter(self, server: Server, connect: Any) -> None:
        deep = "[" * 900 + "]" * 900
        async with connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            await publish(ann, 1)
            await ann.socket.send(
                f'{{"op":"pub","topic":"g/t","id":"deep","data":"d","type":"kind","headers":{{"k":{deep}}}}}'
            )
            await publish(ann, 1)
            for seq in (1, 2, 3):
                await ann.until("msg", seq=seq)
                await kill(ann, seq)
            await buried(ops, 3)
            found, _ = await letters(server).page("g", EVERY, 0, 100)
            assert [letter.about.seq for letter in found] == [1, 2, 3]
            assert [letter.about.said("id") for letter in found][1] == "deep"
            url = url_of(server).replace("ws://", "http://").removesuffix("/v1/ws")
            async with httpx.AsyncClient(base_url=url) as http:
                for path in ("/v1/dead/g", "/v1/dead/g/2"):
                    assert (await http.get(path)).status_code == 200
            outcome = await letters(server).redrive("g", Which(seqs=(2,)), republish=True)
            assert outcome.done == 1
            copy = (await ann.until("msg", type="kind"))["headers"]["k"]
            depth = 0
            while copy:
                copy, depth = copy[0], depth + 1
            assert depth == 899
            outcome = await letters(server).redrive("g", EVERY)
            assert (outcome.done, outcome.refused) == (2, 0)
