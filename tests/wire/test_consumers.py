"""Consumers over the wire: what docs/consumers.md promises, request by request."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.wire import Line, WireClient, wire_client
from hubbub_broker.server import Server

FAST: dict[str, Any] = {"backoff": [0.02]}


async def member(client: WireClient, topic: str = "g/t", name: str = "w", **fields: Any) -> Line:
    """Join a consumer, and return the `ok`."""
    await client.send("sub", topic=topic, consumer=name, rid=f"join {topic}", **fields)
    return await client.until("ok", rid=f"join {topic}")


async def settle(client: WireClient, op: str, seq: int, topic: str = "g/t", name: str = "w", **fields: Any) -> Line:
    """Ack, nack, extend or term with a `rid`, and return the answer."""
    return await client.ask(op, topic=topic, consumer=name, seq=seq, **fields)


async def idle(client: WireClient) -> None:
    """Assert that no message has come (`live` may have)."""
    await client.send("ping", rid="idle?")
    while (line := await client.next())["op"] != "pong":
        assert line["op"] != "msg", line


async def publish(client: WireClient, count: int, topic: str = "g/t", **fields: Any) -> None:
    for number in range(count):
        assert (await client.pub(topic, number, **fields))["op"] == "ok"


class TestDelivery:
    async def test_what_is_acked_does_not_come_again_and_what_is_not_does(self, connect: Any) -> None:
        async with connect("joe") as joe:
            async with connect("ann") as ann:
                ok = await member(ann, from_="all")
                assert (ok["head"], ok["next"]) == (0, 1)
                await ann.until("live", topic="g/t", seq=0)
                await publish(joe, 3)
                messages = await ann.messages(3)
                assert [(line["seq"], line["data"], line["consumer"]) for line in messages] == [
                    (1, 0, "w"),
                    (2, 1, "w"),
                    (3, 2, "w"),
                ]
                assert not any("attempt" in line for line in messages)
                assert (await settle(ann, "ack", 2))["op"] == "ok"
            async with connect("bob") as bob:
                ok = await member(bob)
                assert (ok["head"], ok["next"]) == (3, 1)
                again = await bob.messages(2)
                assert [(line["seq"], line["attempt"]) for line in again] == [(1, 2), (3, 2)]
                await idle(bob)

    async def test_a_new_consumer_begins_with_what_comes_after_it_and_keeps_what_comes_while_it_is_away(
        self, connect: Any
    ) -> None:
        async with connect("joe") as joe:
            await publish(joe, 2)
            async with connect("ann") as ann:
                ok = await member(ann)
                assert (ok["head"], ok["next"]) == (2, 3)
            await publish(joe, 2)
            async with connect("ann") as ann:
                await member(ann)
                assert [line["seq"] for line in await ann.messages(2)] == [3, 4]

    @pytest.mark.parametrize(
        ("start", "expected"), [("all", [1, 2, 3, 4]), ({"seq": 3}, [3, 4]), ({"last": 1}, [4]), ("new", [])]
    )
    async def test_it_starts_where_it_is_asked_to(self, connect: Any, start: Any, expected: list[int]) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 4)
            await member(ann, from_=start)
            assert [line["seq"] for line in await ann.messages(len(expected))] == expected
            await ann.expect("live", topic="g/t", seq=4)
            await idle(ann)

    async def test_never_more_than_max_unacked_are_out(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, max_unacked=2)
            await publish(joe, 5)
            assert [line["seq"] for line in await ann.messages(2)] == [1, 2]
            await idle(ann)
            await settle(ann, "ack", 1)
            assert [line["seq"] for line in await ann.messages(1)] == [3]
            await idle(ann)

    async def test_members_share_the_work_the_least_busy_first(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, max_unacked=10)
            await member(bob, max_unacked=10)
            await publish(joe, 6)
            first, second = await ann.messages(3), await bob.messages(3)
            assert sorted(line["seq"] for line in first + second) == [1, 2, 3, 4, 5, 6]
            for line in first:
                await settle(ann, "ack", line["seq"])
            await publish(joe, 3)
            assert [line["seq"] for line in await ann.messages(3)] == [7, 8, 9]
            await idle(bob)

    async def test_a_pattern_takes_conversations_as_they_appear_but_for_hidden_ones(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, 1, "g/before")
            await member(ann, "g/*", from_="all")
            await publish(joe, 1, "g/after")
            await publish(joe, 1, "g/_hidden")
            assert [line["topic"] for line in await ann.messages(2)] == ["g/before", "g/after"]
            await idle(ann)
            assert (await settle(ann, "ack", 1, "g/after"))["op"] == "ok"

    async def test_a_pattern_finds_a_conversation_that_began_while_nobody_was_there(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await publish(joe, 1, "g/old")
            async with connect("ann") as ann:
                await member(ann, "g/*")
            await publish(joe, 1, "g/fresh")
            await publish(joe, 1, "g/old")
            async with connect("ann") as ann:
                await member(ann, "g/*")
                found = {(line["topic"], line["seq"]) for line in await ann.messages(2)}
                assert found == {("g/fresh", 1), ("g/old", 2)}

    async def test_a_late_request_that_overtakes_the_search_for_topics_hides_none_of_them(self, tmp_path: Path) -> None:
        """It brings a topic into memory before the pattern's search has come by."""
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann, "g/*", from_="all")
            await publish(ann, 3, "g/old")
            await ann.messages(3)
        async with serving(tmp_path / "d") as server, wire_client(url_of(server), "ann") as ann:
            join = {"op": "sub", "topic": "g/*", "consumer": "w"}
            late = {"op": "extend", "topic": "g/old", "consumer": "w", "seq": 2}
            await ann.socket.send(f"{json.dumps(join)}\n{json.dumps(late)}")
            assert [line["seq"] for line in await ann.messages(3)] == [1, 2, 3]
            await idle(ann)

    async def test_bytes_come_as_bytes_also_the_second_time(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, **FAST)
            await joe.send_binary(b"\x00\xff" * 100, topic="g/t", id="b")
            first = await ann.until("msg")
            await settle(ann, "nack", 1)
            second = await ann.until("msg")
            assert (first["payload"], second["payload"], second["attempt"]) == (b"\x00\xff" * 100,) * 2 + (2,)

    async def test_a_signal_goes_to_one_member_and_needs_no_ack(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann)
            await member(bob)
            await joe.pub("g/t", "psst", ephemeral=True)
            heard = asyncio.create_task(ann.until("msg")), asyncio.create_task(bob.until("msg"))
            done, waiting = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result()["data"] for task in done] == ["psst"]
            for task in waiting:
                task.cancel()

    async def test_a_plain_subscription_beside_it_gets_everything_too(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/t")
            await member(ann)
            await publish(joe, 1)
            both = await ann.messages(2)
            assert {line.get("consumer") for line in both} == {None, "w"}

    async def test_it_stands_where_it_stood_after_a_restart(self, tmp_path: Any) -> None:
        async with serving(tmp_path / "data") as server:
            async with wire_client(url_of(server), "joe") as joe, wire_client(url_of(server), "ann") as ann:
                await member(ann, from_="all", max_deliver=9)
                await publish(joe, 5)
                await ann.messages(5)
                await ann.send("ack", topic="g/t", consumer="w", seqs=[1, 2, 4])
                await idle(ann)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            ok = await member(ann, from_="new")
            assert ok["next"] == 3
            assert [line["seq"] for line in await ann.messages(2)] == [3, 5]
            await idle(ann)


class TestSettling:
    async def test_what_is_nacked_comes_again_after_its_delay(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            assert (await settle(ann, "nack", 1, delay=0.05))["op"] == "ok"
            again = await ann.until("msg")
            assert (again["seq"], again["attempt"]) == (1, 2)

    async def test_what_is_given_back_comes_again_at_once_and_does_not_count(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, backoff=[60])
            await publish(joe, 1)
            await ann.until("msg")
            await member(bob)
            await settle(ann, "nack", 1, returned=True)
            line = await bob.until("msg")
            assert "attempt" not in line

    async def test_what_takes_too_long_goes_to_another_and_the_late_worker_is_told(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, ack_wait=0.05, **FAST)
            await publish(joe, 1)
            await ann.until("msg")
            await member(bob)
            line = await bob.until("msg")
            assert (line["seq"], line["attempt"]) == (1, 2)
            await ann.send("ack", topic="g/t", consumer="w", seq=1, attempt=1)
            await ann.until("err", code="conflict", topic="g/t", consumer="w", seq=1)
            for op in ("extend", "nack", "term"):
                assert (await settle(ann, op, 1))["code"] == "conflict"
            assert (await settle(bob, "ack", 1, attempt=2))["op"] == "ok"
            assert (await settle(bob, "ack", 1, attempt=2))["op"] == "ok", "a repeat of one's own"
            assert (await settle(ann, "ack", 1, attempt=1))["code"] == "conflict"

    async def test_who_says_that_it_is_at_work_keeps_its_message(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, ack_wait=0.2, **FAST)
            await publish(joe, 1)
            await ann.until("msg")
            await member(bob)
            loop = asyncio.get_running_loop()
            end = loop.time() + 0.8
            while loop.time() < end:
                assert (await settle(ann, "extend", 1))["op"] == "ok"
                await asyncio.sleep(0.05)  # work
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await idle(bob)

    async def test_an_attempt_that_was_superseded_settles_nothing(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, ack_wait=0.05, **FAST)
            await publish(joe, 1)
            await ann.until("msg")
            await ann.until("msg", attempt=2)
            assert (await settle(ann, "ack", 1, attempt=1))["code"] == "conflict"

    async def test_upto_acks_what_this_connection_has(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, max_unacked=2)
            await publish(joe, 4)
            await ann.messages(2)
            await member(bob, max_unacked=2)
            assert [line["seq"] for line in await bob.messages(2)] == [3, 4]
            await ann.send("ack", topic="g/t", consumer="w", upto=4, rid="all")
            await ann.until("ok", rid="all")
            assert (await settle(bob, "ack", 3))["op"] == "ok"
            async with connect("cat") as cat:
                await publish(joe, 1)
                await ann.until("msg", seq=5)
                await member(cat)
                await idle(cat)

    @pytest.mark.parametrize("op", ["ack", "nack", "extend", "term"])
    async def test_there_is_nothing_to_settle_where_there_is_nothing(self, connect: Any, op: str) -> None:
        async with connect("ann") as ann:
            assert (await settle(ann, op, 1))["code"] == "not_found"
            await member(ann)
            assert (await settle(ann, op, 0))["code"] == "bad_request"
            assert (await settle(ann, op, 1))["code"] == "bad_request"

    @pytest.mark.parametrize("fields", [{}, {"seq": 1, "upto": 1}])
    async def test_an_ack_says_which_one_way_only(self, connect: Any, fields: dict[str, int]) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await publish(joe, 1)
            await ann.send("ack", topic="g/t", consumer="w", rid=1, **fields)
            await ann.until("err", rid=1, code="bad_request")


class TestMembership:
    async def test_the_work_of_a_lost_connection_goes_to_another_at_once(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("bob") as bob:
            async with connect("ann") as ann:
                await member(ann, backoff=[60])
                await publish(joe, 2)
                await ann.messages(2)
                await member(bob)
            assert [(line["seq"], line["attempt"]) for line in await bob.messages(2)] == [(1, 2), (2, 2)]

    async def test_an_exclusive_one_has_one_reader_and_the_next_takes_over(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("bob") as bob:
            async with connect("ann") as ann:
                await member(ann, exclusive=True)
                await member(bob, exclusive=True)
                await publish(joe, 2)
                assert [line["seq"] for line in await ann.messages(2)] == [1, 2]
                await idle(bob)
                await settle(ann, "ack", 1)
            await publish(joe, 1)
            assert [line["seq"] for line in await bob.messages(2)] == [2, 3]

    async def test_messages_of_a_key_come_one_after_the_other_and_keys_in_parallel(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, ordered="key", **FAST)
            for key in "aab":
                await joe.pub("g/t", key, headers={"key": key})
            await joe.pub("g/t", "none")
            assert [line["seq"] for line in await ann.messages(3)] == [1, 3, 4]
            await idle(ann)
            await settle(ann, "nack", 1)
            again = await ann.until("msg")
            assert (again["seq"], again["attempt"]) == (1, 2)
            await idle(ann)
            await settle(ann, "ack", 1)
            assert [line["seq"] for line in await ann.messages(1)] == [2]

    async def test_each_topic_of_a_pattern_comes_in_its_order_where_the_topic_is_the_key(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, topic="g/*", from_="all", ordered="*", **FAST)
            for topic in ("g/t", "g/t", "g/u", "g/u"):
                await joe.pub(topic, 1)
            assert {(line["topic"], line["seq"]) for line in await ann.messages(2)} == {("g/t", 1), ("g/u", 1)}
            await idle(ann)
            await settle(ann, "nack", 1)
            again = await ann.until("msg")
            assert (again["topic"], again["seq"], again["attempt"]) == ("g/t", 1, 2)
            await idle(ann)
            await settle(ann, "ack", 1)
            following = await ann.until("msg")
            assert (following["topic"], following["seq"]) == ("g/t", 2)

    async def test_all_of_a_key_go_to_one_member(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann, ordered="key")
            await member(bob, ordered="key")
            by: dict[str, set[str]] = {}

            async def work(name: str, client: WireClient) -> None:
                while True:
                    line = await client.until("msg")
                    by.setdefault(line["headers"]["key"], set()).add(name)
                    await client.send("ack", topic="g/t", consumer="w", seq=line["seq"])
                    if sum(map(len, by.values())) == 20:
                        done.set()

            done = asyncio.Event()
            tasks = [asyncio.create_task(work("ann", ann)), asyncio.create_task(work("bob", bob))]
            for number in range(60):
                await joe.pub("g/t", number, headers={"key": str(number % 20)})
            await asyncio.wait_for(done.wait(), 10)
            for task in tasks:
                task.cancel()
            assert all(len(names) == 1 for names in by.values())
            assert len({next(iter(names)) for names in by.values()}) == 2

    async def test_how_it_is_shared_can_only_change_when_nobody_is_there(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("bob") as bob:
            await member(ann)
            await bob.send("sub", topic="g/t", consumer="w", exclusive=True, rid=1)
            await bob.until("err", rid=1, code="conflict")
            await ann.send("unsub", topic="g/t", consumer="w", rid=2)
            await ann.until("ok", rid=2)
            await member(bob, exclusive=True)

    async def test_two_of_one_name_must_not_read_the_same_topic(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann, "g/*")
            await ann.send("sub", topic="g/t", consumer="w", rid=1)
            await ann.until("err", rid=1, code="conflict")
            await member(ann, "g/t", "other")
            await member(ann, "h/t")

    async def test_who_drains_gets_nothing_new_and_keeps_what_it_has(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await ann.send("unsub", topic="g/t", consumer="w", drain=True, rid=1)
            await ann.until("ok", rid=1)
            await member(bob)
            await publish(joe, 1)
            assert [line["seq"] for line in await bob.messages(1)] == [2]
            assert (await settle(ann, "ack", 1))["op"] == "ok"
            await idle(ann)
            await idle(bob)

    async def test_who_leaves_gives_back_what_it_has(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
            await member(ann)
            await publish(joe, 1)
            await ann.until("msg")
            await member(bob)
            await ann.send("unsub", topic="g/t", consumer="w")
            assert (await bob.until("msg"))["seq"] == 1

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"consumer": "a/b"}, "bad_request"),
            ({"consumer": "_mine"}, "forbidden"),
            ({"topic": "*/t"}, "bad_request"),
            ({"topic": "**"}, "bad_request"),
            ({"max_unacked": 0}, "bad_request"),
            ({"ack_wait": 0}, "bad_request"),
            ({"max_deliver": -1}, "bad_request"),
            ({"backoff": [-1]}, "bad_request"),
            ({"exclusive": True, "ordered": "key"}, "bad_request"),
            ({"topic": "g/*", "from": {"seq": 3}}, "bad_request"),
        ],
    )
    async def test_a_wish_that_makes_no_sense_is_refused(self, connect: Any, fields: dict[str, Any], code: str) -> None:
        async with connect("ann") as ann:
            await ann.send("sub", **{"topic": "g/t", "consumer": "w", "rid": 1, **fields})
            await ann.expect("err", rid=1, code=code)


class TestDeadLetters:
    async def test_after_max_deliver_it_goes_to_the_dead_letters_as_it_was(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await member(ann, max_deliver=2, **FAST)
            await ops.sub("g/_dead")
            await joe.pub("g/t", {"poison": True}, id="p1", type="task", headers={"k": 1}, lc=41)
            await publish(joe, 1)
            await ann.until("msg", seq=1)
            await ann.until("msg", seq=2)
            await settle(ann, "nack", 1, reason="boom")
            await ann.until("msg", seq=1, attempt=2)
            await settle(ann, "nack", 1, reason="boom again")
            letter = await ops.until("msg")
            about = letter["headers"]["dead"]
            assert (letter["data"], letter["type"], letter["from"]) == ({"poison": True}, "dead_letter", "joe")
            assert (about["reason"], about["attempts"], about["topic"], about["seq"]) == ("boom again", 2, "g/t", 1)
            assert about["consumer"] == "w"
            assert about["first_failure"] < about["last_failure"]
            original = about["original"]
            assert (original["id"], original["type"], original["headers"], original["lc"]) == (
                "p1",
                "task",
                {"k": 1},
                42,
            )
            assert (await settle(ann, "ack", 2))["op"] == "ok"
            await idle(ann)

    async def test_what_is_terminated_goes_at_once(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await member(ann)
            await ops.sub("g/_dead")
            await joe.send_binary(b"\x00\x01", topic="g/t", id="b")
            await ann.until("msg")
            await settle(ann, "term", 1, reason="not for me")
            letter = await ops.until("msg")
            assert (letter["payload"], letter["headers"]["dead"]["reason"]) == (b"\x00\x01", "not for me")

    async def test_what_has_expired_goes_there_too(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("ops") as ops:
            await ops.sub("g/_dead")
            await member(ann, max_unacked=1, **FAST)
            await publish(joe, 1)
            await ann.until("msg")
            await joe.pub("g/t", "late", ttl=0.05)
            await asyncio.sleep(0.06)  # its life
            await settle(ann, "ack", 1)
            letter = await ops.until("msg")
            assert (letter["data"], letter["headers"]["dead"]["reason"]) == ("late", "expired")

    async def test_a_poison_message_does_not_hold_up_the_others(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann, max_unacked=1, backoff=[60])
            await publish(joe, 3)
            await ann.until("msg", seq=1)
            await settle(ann, "nack", 1)
            await ann.until("msg", seq=2)
            await settle(ann, "ack", 2)
            await ann.until("msg", seq=3)

    async def test_only_the_broker_publishes_there(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert (await joe.pub("g/_dead", 1))["code"] == "forbidden"


class TestReceipts:
    async def test_the_publisher_hears_what_became_of_it(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await member(ann)
            await joe.pub("g/t", 1, id="t1", track=True)
            message = await ann.until("msg")
            assert message["track"] is True
            await joe.until("receipt", id="t1", topic="g/t", seq=1, state="delivered", consumer="w", by="ann")
            await settle(ann, "extend", 1)
            await joe.until("receipt", id="t1", state="working")
            await settle(ann, "ack", 1)
            await joe.until("receipt", id="t1", state="done", by="ann")

    async def test_also_when_it_was_away(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await member(ann, max_deliver=1)
            async with connect("joe") as joe:
                await joe.pub("g/t", 1, id="t1", track=True)
                await joe.pub("g/t", 2, id="t2", track=True)
            await ann.messages(2)
            await settle(ann, "ack", 1)
            await settle(ann, "nack", 2, reason="no")
            async with connect("joe") as joe:
                found = {line["id"]: line for line in [await joe.until("receipt") for _ in range(2)]}
                assert found["t1"]["state"] == "done"
                if found["t2"]["state"] != "dead":  # the letter was still on its way to the disk
                    found["t2"] = await joe.until("receipt", id="t2")
                assert (found["t2"]["state"], found["t2"]["reason"]) == ("dead", "no")

    async def test_also_after_a_restart(self, tmp_path: Any) -> None:
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "ann") as ann:
            await member(ann)
            async with wire_client(url_of(server), "joe") as joe:
                await joe.pub("g/t", 1, id="t1", track=True)
            await ann.until("msg")
            await settle(ann, "ack", 1)
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "joe") as joe:
            await joe.until("receipt", id="t1", state="done", by="ann")


class TestMandatory:
    async def test_a_question_that_nobody_hears_is_refused_at_once(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.sub("g/t")
            assert (await joe.pub("g/t", 1, mandatory=True))["code"] == "not_found"
            await ann.sub("g/*")
            assert (await joe.pub("g/t", 2, mandatory=True))["op"] == "ok"

    async def test_a_consumer_counts_if_it_has_a_member(self, connect: Any) -> None:
        async with connect("joe") as joe:
            async with connect("ann") as ann:
                await member(ann)
                assert (await joe.pub("g/t", 1, mandatory=True))["op"] == "ok"
                await ann.send("unsub", topic="g/t", consumer="w", rid=1)
                await ann.until("ok", rid=1)
            assert (await joe.pub("g/t", 1, mandatory=True))["code"] == "not_found"


async def test_many_members_of_many_acks(server: Server, connect: Any) -> None:
    """2,000 tasks, 8 members, one in ten nacked once: each is done once."""
    async with connect("joe") as joe:
        lines = [json.dumps({"op": "pub", "topic": "g/t", "id": str(n), "data": n}) for n in range(2000)]
        done: list[int] = []
        finished = asyncio.Event()

        async def work(number: int) -> None:
            async with connect(f"w{number}") as client:
                await member(client, from_="all", max_unacked=16, **FAST)
                while True:
                    line = await client.until("msg")
                    fails = line["data"] % 10 == 0 and "attempt" not in line
                    await client.send("nack" if fails else "ack", topic="g/t", consumer="w", seq=line["seq"])
                    if not fails:
                        done.append(line["data"])
                        if len(done) >= 2000:
                            finished.set()

        tasks = [asyncio.create_task(work(number)) for number in range(8)]
        await joe.socket.send("\n".join(lines))
        await asyncio.wait_for(finished.wait(), 30)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(done) == list(range(2000))


@pytest.mark.parametrize("options", [{"max_inflight": 1}], indirect=True)
async def test_acks_take_nothing_of_the_window_of_publishes(connect: Any) -> None:
    async with connect("joe") as joe:
        await member(joe)
        await publish(joe, 3)
        await joe.messages(3)
        lines = [{"op": "ack", "topic": "g/t", "consumer": "w", "seq": seq, "rid": seq} for seq in (1, 2, 3)]
        lines.append({"op": "pub", "topic": "g/t", "id": "last", "data": 1})
        await joe.socket.send("\n".join(json.dumps(line) for line in lines))
        answers = [await joe.until("ok") for _ in range(4)]
        assert {line.get("rid", line.get("id")) for line in answers} == {1, 2, 3, "last"}
