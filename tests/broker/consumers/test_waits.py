"""What failed and waits: for how long, over what, and what it costs to remember that."""

from pathlib import Path
from typing import Any

import msgspec

from harness.broker import serving, url_of
from harness.consuming import idle, member, publish, settle
from harness.wire import wire_client
from hubbub_broker.consumers.consumer import Consumer
from hubbub_broker.consumers.failures import PAGE, Failure, Failures
from hubbub_broker.consumers.position import decode_page, decode_position, encode_page, encode_position
from hubbub_broker.consumers.settled import Settled
from hubbub_broker.kinds import StateKind
from hubbub_broker.server import Server
from hubbub_protocol.limits import FRAME_BYTES_MAX


def consumer_of(server: Server) -> Consumer:
    (consumer,) = server.broker.consumers_of("g")
    return consumer


class TestOverARestart:
    async def test_a_wait_goes_on_where_it_was(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, backoff=[1000], max_deliver=0)
            await publish(ann, 3)
            await ann.messages(3)
            await settle(ann, "nack", 1, delay=500)
            await settle(ann, "nack", 2)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            assert (await ann.until("msg"))["seq"] == 3
            await publish(ann, 1)
            assert (await ann.until("msg"))["seq"] == 4
            await idle(ann)
            place = consumer_of(server).places["g/t"]
            left = {seq: wait.due - server.broker.consumers_of("g")._loop.time() for seq, wait in place.waiting.items()}
            assert 400 < left[1] <= 500
            assert 900 < left[2] <= 1200
            assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"

    async def test_what_waits_keeps_its_key_from_the_others(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, ordered="k")
            for key in ("x", "x", "y"):
                await ann.pub("g/t", 0, headers={"k": key})
            assert [line["seq"] for line in await ann.messages(2)] == [1, 3]
            await settle(ann, "nack", 1, delay=1000)
            await settle(ann, "ack", 3)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, ordered="k")
            await ann.pub("g/t", 0, headers={"k": "y"})
            assert (await ann.until("msg"))["seq"] == 4
            await idle(ann)
            assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"
            assert (await ann.until("msg"))["seq"] == 2

    async def test_a_short_one_ends_meanwhile(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            await publish(ann, 1)
            await ann.messages(1)
            await settle(ann, "nack", 1, delay=0.2)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            assert (await ann.until("msg"))["attempt"] == 2


class TestPages:
    def test_a_position_of_before_is_read_with_its_failures(self) -> None:
        old = [1, 7, [(9, 12)], {8: [2, 1, 1.0, 2.0, "boom"]}, 5.5]
        position = decode_position(msgspec.msgpack.encode(old))
        assert position.settled().ranges == [(9, 12)]
        assert position.failures == {8: Failure(2, 1, 1.0, 2.0, "boom", 0.0)}
        failures = Failures()
        failures.load(position.failures.items(), stale=True)
        assert failures.stale == {8 // PAGE}

    def test_what_is_written_is_what_is_read(self) -> None:
        failures = Failures()
        for seq in (1, PAGE, 5 * PAGE + 3):
            failures.put(seq, Failure(1, 1, 2.0, 3.0, f"{seq}", 4.0))
        assert failures.pages == [0, 1, 5]
        assert failures.stale == {0, 1, 5}
        position = decode_position(encode_position(Settled(0, [(2, 3)]), failures.pages, 6.0))
        assert (position.pages, position.made, position.failures) == ([0, 1, 5], 6.0, {})
        again = Failures()
        for number in position.pages:
            again.load(decode_page(encode_page(failures.page(number), 6.0)).failures.items(), stale=False)
        assert [again.get(seq) for seq in (1, PAGE, 5 * PAGE + 3)] == [
            failures.get(seq) for seq in (1, PAGE, 5 * PAGE + 3)
        ]
        assert not again.stale

    def test_a_page_goes_with_its_last_failure(self) -> None:
        failures = Failures()
        failures.put(1, Failure(1, 1, 2.0, 3.0, "no"))
        failures.stale.clear()
        assert failures.pop(2) is None
        assert not failures.stale
        assert failures.pop(1) is not None
        assert (failures.pages, failures.stale, bool(failures)) == ([], {0}, False)

    async def test_an_ack_writes_nothing_of_what_waits(self, tmp_path: Path) -> None:
        """1,000 messages wait, each with a long reason: a confirmed ack costs the log a few bytes."""
        async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, max_unacked=2000)
            for number in range(1001):
                await ann.send("pub", topic="g/t", id=f"{number}", data=number)
            for line in await ann.messages(1001):
                if line["seq"] <= 1000:
                    await ann.send("nack", topic="g/t", consumer="w", seq=line["seq"], delay=1000, reason="x" * 5000)
            await ann.send("ping")
            await ann.until("pong")
            consumers = server.broker.consumers_of("g")
            await consumers.flush()
            log = server.broker.shard_of("g").log
            before = log.stats.bytes
            assert (await settle(ann, "ack", 1001))["op"] == "ok"
            assert log.stats.bytes - before < 2000
            before = log.stats.bytes
            assert (await settle(ann, "ack", 500, attempt=1))["op"] == "ok"
            assert log.stats.bytes - before < 2 * PAGE * 1024, "its page, and the position"
        async with serving(tmp_path / "d", shards=1) as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, max_unacked=2000)
            await publish(ann, 1)
            assert (await ann.until("msg"))["seq"] == 1002
            place = consumer_of(server).places["g/t"]
            found = place.failures.get(999)
            assert found is not None
            assert (found.reason, 500 in place.failures) == ("x" * 1024, False)

    async def test_they_go_with_a_consumer_that_is_removed(self, server: Server, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann)
            await publish(ann, 1)
            await ann.messages(1)
            await settle(ann, "nack", 1, delay=1000)
            log = server.broker.shard_of("g").log
            await server.broker.consumers_of("g").flush()
            assert len(list(log.states(StateKind.FAILURES))) == 1
            await server.broker.administration_of("g").remove("g/t", "w")
            assert not list(log.states(StateKind.FAILURES))


class TestReasons:
    async def test_a_reason_is_cut_at_a_character_and_its_letter_is_written(self, server: Server, connect: Any) -> None:
        """However large the message is, and however long what was said of it."""
        async with connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann)
            largest = FRAME_BYTES_MAX - 1024
            assert (await ann.pub("g/t", "x" * largest))["op"] == "ok"
            await ann.until("msg")
            await settle(ann, "term", 1, reason="é" * 20_000)
            letter = await ops.until("msg")
            assert (letter["headers"]["dead"]["reason"], len(letter["data"])) == ("é" * 512, largest)
