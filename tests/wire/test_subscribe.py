"""Subscribe: every form of `from`, replay that runs into live, patterns, unsubscribe."""

import asyncio
import json
from typing import Any

import pytest

from hubbub_broker.server import Server


async def publish(client: Any, topic: str, count: int, start: int = 0) -> None:
    for i in range(start, start + count):
        assert (await client.pub(topic, i))["op"] == "ok"


async def replayed(client: Any) -> list[Any]:
    """What comes up to `live`."""
    found = []
    while (line := await client.next())["op"] != "live":
        found.append(line["data"] if line["op"] == "msg" else (line["op"], line.get("first"), line.get("last")))
    return found


class TestFrom:
    @pytest.mark.parametrize(
        ("start", "next", "expected"),
        [
            ("new", 6, []),
            ("all", 1, [0, 1, 2, 3, 4]),
            ({"seq": 1}, 1, [0, 1, 2, 3, 4]),
            ({"seq": 4}, 4, [3, 4]),
            ({"seq": 6}, 6, []),
            ({"last": 0}, 6, []),
            ({"last": 2}, 4, [3, 4]),
            ({"last": 99}, 1, [0, 1, 2, 3, 4]),
            ({"since": 0}, 1, [0, 1, 2, 3, 4]),
            ({"since": 1e11}, 6, []),
        ],
    )
    async def test_each_form(self, connect: Any, start: Any, next: int, expected: list[int]) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 5)
            ok = await ann.sub("g/c", from_=start)
            assert (ok["topic"], ok["head"], ok["next"]) == ("g/c", 5, next)
            assert ok["epoch"]
            assert await replayed(ann) == expected
            await joe.pub("g/c", "live")
            assert (await ann.messages(1))[0]["data"] == "live"

    async def test_since_begins_with_the_first_at_or_after_that_time(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann, connect("late") as late:
            await ann.sub("g/c")
            await publish(joe, "g/c", 4)
            third = (await ann.messages(4))[2]
            await late.sub("g/c", from_={"since": third["ts"]})
            assert third["data"] in await replayed(late)

    async def test_the_default_is_new(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 2)
            assert (await ann.sub("g/c"))["next"] == 3
            await ann.expect("live", seq=2)

    async def test_a_topic_that_nobody_published_to_is_an_empty_one(self, connect: Any) -> None:
        async with connect("ann") as ann:
            ok = await ann.sub("g/c", from_="all")
            assert (ok["head"], ok["next"]) == (0, 1)
            await ann.expect("live", seq=0)

    async def test_a_seq_of_another_history_is_told_as_a_gap(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 2)
            await ann.sub("g/c", from_={"seq": 10})
            await ann.expect("gap", topic="g/c", first=3, last=9, reason="reset")
            await ann.expect("live", seq=2)

    async def test_an_epoch_that_is_not_ours_gets_everything(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/c", 2)
            await ann.sub("g/c", from_={"seq": 2, "epoch": "another"})
            await ann.expect("gap", topic="g/c", reason="reset")
            assert await replayed(ann) == [0, 1]

    @pytest.mark.parametrize(
        "start",
        [
            "newest",
            {},
            {"seq": 1, "last": 1},
            {"seq": 0},
            {"last": -1},
            {"since": -1},
            {"after": {}},
            {"x": 1},
            5,
            None,
        ],
    )
    async def test_anything_else_is_refused(self, connect: Any, start: Any) -> None:
        async with connect("ann") as ann:
            await ann.send("sub", topic="g/c", rid=1, from_=start)
            await ann.expect("err", code="bad_request", rid=1)
            assert (await ann.sub("g/c"))["next"] == 1


async def test_replay_runs_into_live_without_hole_or_duplicate(connect: Any) -> None:
    """Publishers go on while reader after reader joins from the beginning."""
    total = 6000
    async with connect("joe") as joe:

        async def publisher() -> None:
            for at in range(0, total, 20):
                lines = [
                    json.dumps({"op": "pub", "topic": "g/c", "id": str(i), "data": i, "n": i + 1})
                    for i in range(at, at + 20)
                ]
                await joe.socket.send("\n".join(lines))
                await asyncio.sleep(0)

        async def reader(name: str) -> list[int]:
            async with connect(name) as client:
                await client.sub("g/c", from_="all")
                return [message["data"] for message in await client.messages(total)]

        async def drain() -> None:
            for _ in range(total):
                await joe.until("ok")

        results = await asyncio.gather(publisher(), drain(), *(reader(f"r{i}") for i in range(8)))
        assert all(result == list(range(total)) for result in results[2:])


class TestPatterns:
    async def test_a_pattern_hears_topics_that_are_there_and_that_come(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/old", 1)
            ok = await ann.sub("g/*")
            assert ok["topic"] == "g/*"
            await ann.expect("live", topic="g/*", seq=0)
            for topic in ("g/old", "g/new", "h/other", "g/too/deep"):
                await joe.pub(topic, topic)
            await joe.pub("g/last", "last")
            assert [m["data"] for m in await ann.messages(3)] == ["g/old", "g/new", "last"]

    async def test_one_star_alone_is_refused_because_it_would_hear_nothing(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await ann.send("sub", topic="*", rid=1)
            refused = await ann.expect("err", rid=1, code="bad_request")
            assert "`**` matches every topic" in refused["message"]

    async def test_two_stars_hear_every_group(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("**")
            topics = [f"group{i}/c/{i}" for i in range(20)]
            for topic in topics:
                await joe.pub(topic, topic)
            assert sorted(m["data"] for m in await ann.messages(20)) == sorted(topics)

    async def test_from_all_replays_every_topic_then_is_live(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            for i in range(300):
                await joe.send("pub", topic=f"g/t{i}", id=str(i), data=i)
                await joe.send("pub", topic=f"g/t{i}", id=f"{i}b", data=i)
            for _ in range(600):
                await joe.until("ok")
            await ann.sub("g/*", from_="all")
            seen: dict[str, list[int]] = {}
            while (line := await ann.next()) != {"op": "live", "topic": "g/*", "seq": 0}:
                if line["op"] == "msg":
                    seen.setdefault(line["topic"], []).append(line["seq"])
            assert seen == {f"g/t{i}": [1, 2] for i in range(300)}
            await joe.pub("g/t7", "new")
            await joe.pub("g/brand-new", "newer")
            assert [m["data"] for m in await ann.messages(2)] == ["new", "newer"]

    async def test_resuming_a_pattern_brings_what_was_missed_and_nothing_twice(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await publish(joe, "g/a", 3)
            await publish(joe, "g/b", 2)
            await publish(joe, "g/c", 1)
            await ann.sub("g/*", from_={"since": 0, "after": {"g/a": 1, "g/b": 2}})
            seen = []
            while (line := await ann.next()) != {"op": "live", "topic": "g/*", "seq": 0}:
                if line["op"] == "msg":
                    seen.append((line["topic"], line["seq"]))
            assert sorted(seen) == [("g/a", 2), ("g/a", 3), ("g/c", 1)]

    async def test_overlapping_subscriptions_of_a_connection_deliver_once(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/*")
            await ann.sub("g/c")
            await ann.sub("**")
            await joe.pub("g/c", 1)
            await joe.pub("g/c", 2)
            assert [m["data"] for m in await ann.messages(2)] == [1, 2]
            await ann.send("unsub", topic="g/c", rid=1)
            await ann.until("ok", rid=1)
            await joe.pub("g/c", 3)
            assert [m["data"] for m in await ann.messages(1)] == [3]
            await ann.silent()

    async def test_unsubscribed_is_silent(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/*")
            await joe.pub("g/c", 1)
            await ann.messages(1)
            await ann.send("unsub", topic="g/*", rid=1)
            await ann.until("ok", rid=1)
            await joe.pub("g/c", 2)
            await ann.silent()


class TestUnsubscribe:
    async def test_after_the_ok_nothing_comes(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            await ann.expect("live")
            await ann.send("unsub", topic="g/c", rid="u")
            assert await ann.expect("ok", rid="u", topic="g/c")
            await joe.pub("g/c", 1)
            await ann.silent()
            assert (await ann.sub("g/c", from_={"seq": 1}))["next"] == 1
            assert await replayed(ann) == [0 + 1]

    async def test_what_is_not_subscribed_is_not_found(self, connect: Any) -> None:
        async with connect("ann") as ann:
            await ann.send("unsub", topic="g/c", rid="u")
            await ann.expect("err", rid="u", code="not_found")


async def test_the_same_topic_twice_on_a_connection_is_a_conflict(connect: Any) -> None:
    async with connect("ann") as ann:
        await ann.sub("g/c")
        await ann.expect("live")
        await ann.send("sub", topic="g/c", rid=2)
        await ann.expect("err", rid=2, code="conflict")


@pytest.mark.parametrize("options", [{"max_subscriptions": 2}], indirect=True)
async def test_subscriptions_are_bounded(connect: Any, server: Server) -> None:
    async with connect("ann") as ann:
        await ann.sub("g/a")
        await ann.sub("g/*")
        await ann.send("sub", topic="g/b", rid=3)
        refused = await ann.until("err", rid=3)
        assert refused["code"] == "overloaded"
        assert "max_subscriptions" in refused["message"]
        assert server.broker.gauges().subscriptions == 2


class TestTimeToLive:
    async def test_what_has_expired_is_not_replayed_and_is_told(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.pub("g/c", "a")
            await joe.pub("g/c", "short", ttl=0.01)
            await joe.pub("g/c", "shorter", ttl=0.01)
            await joe.pub("g/c", "long", ttl=600)
            await asyncio.sleep(0.02)  # the time that the test is about
            await ann.sub("g/c", from_="all")
            assert await replayed(ann) == ["a", ("gap", 2, 3), "long"]

    async def test_what_has_not_is_delivered(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("g/c")
            await joe.pub("g/c", 1, ttl=60)
            assert (await ann.messages(1))[0]["data"] == 1

    @pytest.mark.parametrize("options", [{"policy": [{"pattern": "g/**", "max_ttl": 10}]}], indirect=True)
    async def test_a_policy_bounds_it(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert (await joe.pub("g/c", 1, ttl=11))["code"] == "bad_request"
            assert (await joe.pub("g/c", 1, ttl=9))["seq"] == 1


async def test_a_binary_frame_that_is_not_a_publish_is_refused(connect: Any) -> None:
    async with connect("ann") as ann:
        header = b'{"op":"ping","rid":5}'
        await ann.socket.send(len(header).to_bytes(4, "big") + header)
        await ann.expect("err", rid=5, code="bad_request")
