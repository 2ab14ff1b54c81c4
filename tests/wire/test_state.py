"""Shared state over the socket: reads, changes in one step, versions, keys that go by themselves."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving, url_of
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server

CONV = "research/c"
TOPIC = "research/_state/c"


async def change(client: WireClient, topic: str = CONV, id: str | None = None, **fields: Any) -> dict[str, Any]:
    client._count += 1
    return await client.ask("change", topic=topic, id=id or f"{client._count}-{id_of(client)}", **fields)


def id_of(client: WireClient) -> int:
    return id(client)


async def get(client: WireClient, *keys: str, topic: str = CONV) -> dict[str, tuple[Any, int]]:
    ok = await client.ask("state", topic=topic, **({"keys": list(keys)} if keys else {}))
    assert ok["op"] == "ok", ok
    return {entry["key"]: (entry["value"], entry["version"]) for entry in ok["entries"]}


class TestVersions:
    async def test_what_is_set_is_read_with_the_change_s_seq_as_its_version(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            assert await get(ann) == {}
            ok = await change(joe, id="1", set={"plan": {"steps": [1, 2.50, None]}, "a/b": "x"})
            assert {name: ok[name] for name in ("op", "id", "topic", "seq")} == {
                "op": "ok",
                "id": "1",
                "topic": TOPIC,
                "seq": 1,
            }
            assert (await change(joe, set={"plan": 2}))["seq"] == 2
            assert await get(ann) == {"a/b": ("x", 1), "plan": (2, 2)}
            assert await get(ann, "plan", "nothing") == {"plan": (2, 2)}

    async def test_a_change_that_expects_another_version_changes_nothing(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set={"k": 1, "other": 1})
            refused = await change(joe, set={"k": 2, "other": 2}, delete=["more"], expect={"other": 1, "k": 0})
            assert {name: refused[name] for name in ("code", "key", "expected", "current", "topic")} == {
                "code": "conflict",
                "key": "k",
                "expected": 0,
                "current": 1,
                "topic": TOPIC,
            }
            assert await get(joe) == {"k": (1, 1), "other": (1, 1)}
            assert (await change(joe, set={"k": 2}, expect={"k": 1, "nothing": 0}))["seq"] == 2

    async def test_the_whole_state_has_the_version_of_its_last_change(self, connect: Any) -> None:
        async with connect("joe") as joe:
            first = await change(joe, set={"k": 1}, expect=0)
            refused = await change(joe, set={"k": 2}, expect=0)
            assert (refused["code"], refused.get("key"), refused["current"]) == ("conflict", None, first["seq"])
            assert (await change(joe, set={"j": 1}, expect=first["seq"]))["seq"] == 2

    async def test_a_deleted_key_is_at_version_zero_and_no_version_comes_twice(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set={"k": 1})
            await change(joe, delete=["k", "never"], expect={"k": 1})
            assert await get(joe) == {}
            assert (await change(joe, set={"k": 1}, expect={"k": 1}))["current"] == 0
            assert (await change(joe, set={"k": 1}, expect={"k": 0}))["seq"] == 3

    async def test_null_is_a_value(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set={"k": None})
            assert await get(joe) == {"k": (None, 1)}

    async def test_a_group_and_its_conversations_have_states_of_their_own(self, connect: Any) -> None:
        async with connect("joe") as joe:
            assert (await change(joe, "research", set={"k": "group"}))["topic"] == "research/_state"
            await change(joe, set={"k": "conversation"})
            await change(joe, "research/c/d", set={"k": "below"})
            states = [await get(joe, topic=topic) for topic in ("research", CONV, "research/c/d")]
            assert [state["k"][0] for state in states] == ["group", "conversation", "below"]

    async def test_of_two_that_expect_the_same_one_wins(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            answers = await asyncio.gather(*(change(one, set={"k": 1}, expect={"k": 0}) for one in (joe, ann)))
            assert sorted(answer["op"] for answer in answers) == ["err", "ok"]


class TestRepeats:
    async def test_the_same_id_again_gets_the_first_answer_and_no_conflict(self, connect: Any) -> None:
        async with connect("joe") as joe:
            asked: dict[str, Any] = {
                "set": {"k": 1},
                "expect": {"k": 0},
                "publish": [{"topic": CONV, "id": "m", "data": 1}],
            }
            first = await change(joe, id="once", **asked)
            again = await change(joe, id="once", **asked)
            assert again["dup"] is True
            assert {**again, "rid": 0} == {**first, "rid": 0, "dup": True}
            assert await get(joe) == {"k": (1, 1)}
            assert (await change(joe, id="twice", **asked))["code"] == "conflict"

    async def test_over_a_restart_too(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as server, wire_client(url_of(server), "joe") as joe:
            await change(joe, id="once", set={"k": 1}, expect={"k": 0})
        async with serving(tmp_path) as server, wire_client(url_of(server), "joe") as joe:
            assert (await change(joe, id="once", set={"k": 1}, expect={"k": 0}))["dup"] is True
            assert await get(joe) == {"k": (1, 1)}


class TestMessages:
    async def test_a_change_and_its_messages_come_together(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub(CONV)
            await ann.sub(TOPIC)
            await joe.pub(CONV, "before", id="m0")
            ok = await change(
                joe,
                id="c",
                set={"k": 1},
                publish=[
                    {"topic": CONV, "id": "m1", "data": {"n": 1}, "type": "note", "parent": "m0", "headers": {"h": 1}},
                    {"topic": CONV, "id": "m2", "data": 2},
                    {"topic": "research/other", "id": "m1", "data": 3},
                ],
            )
            places = [(each["topic"], each["id"], each["seq"]) for each in ok["published"]]
            assert places == [(CONV, "m1", 2), (CONV, "m2", 3), ("research/other", "m1", 1)]
            messages = {(line["topic"], line["seq"]): line for line in await ann.messages(4)}
            assert messages[CONV, 2]["parent"] == "m0"
            assert (messages[CONV, 2]["type"], messages[CONV, 3]["data"]) == ("note", 2)
            told = messages[TOPIC, 1]
            assert (told["id"], told["type"], told["from"], told["data"]["set"]) == ("c", "state", "joe", {"k": 1})
            assert told["data"]["published"] == ok["published"]

    async def test_a_message_that_is_refused_takes_the_change_with_it(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for wrong in (
                {"topic": "other/c", "id": "m", "data": 1},
                {"topic": "research/_dead", "id": "m", "data": 1},
                {"topic": TOPIC, "id": "m", "data": 1},
                {"topic": "research", "id": "m", "data": 1},
                {"topic": CONV, "id": "m"},
                {"topic": CONV, "id": "", "data": 1},
                {"topic": CONV, "id": "m", "data": 1, "ttl": -1},
                {"topic": CONV, "id": "good", "data": 2},
            ):
                refused = await change(joe, set={"k": 1}, publish=[{"topic": CONV, "id": "good", "data": 1}, wrong])
                assert refused["op"] == "err", wrong
                assert refused["code"] in ("bad_request", "forbidden")
            assert await get(joe) == {}
            assert (await joe.sub(CONV))["head"] == 0

    async def test_a_message_that_was_published_before_is_not_published_again(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.pub(CONV, 1, id="m")
            ok = await change(joe, set={"k": 1}, publish=[{"topic": CONV, "id": "m", "data": 1}])
            assert ok["published"] == [{"topic": CONV, "id": "m", "seq": 1, "lc": 1, "dup": True}]
            assert (await joe.sub(CONV))["head"] == 1

    async def test_nobody_publishes_to_a_state_s_topic(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for topic in (TOPIC, "research/_state"):
                assert (await joe.pub(topic, 1))["code"] == "forbidden"

    async def test_messages_alone_may_depend_on_a_version(self, connect: Any) -> None:
        async with connect("joe") as joe:
            part = {"topic": CONV, "id": "m", "data": 1}
            assert (await change(joe, publish=[part], expect={"k": 7}))["code"] == "conflict"
            assert (await change(joe, publish=[part], expect={"k": 0}))["published"][0]["seq"] == 1

    async def test_a_held_back_message_whose_parent_comes_with_a_change_is_freed(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.send("pub", topic=CONV, id="child", data=1, parent="m")
            ok = await change(joe, set={"k": 1}, publish=[{"topic": CONV, "id": "m", "data": 1}])
            assert ok["published"][0]["seq"] == 1
            assert (await joe.until("ok", id="child"))["seq"] == 2


class TestReading:
    async def test_a_page_at_a_time_in_the_order_of_the_keys(self, connect: Any) -> None:
        async with connect("joe") as joe:
            names = [f"k{number:03d}" for number in range(150)] + ["z/a", "z/b", "z/b/c"]
            for begin in range(0, len(names), 50):
                await change(joe, set=dict.fromkeys(names[begin : begin + 50], 1))
            seen, after = [], None
            while True:
                ok = await joe.ask("state", topic=CONV, limit=40, **({"after": after} if after else {}))
                seen += [entry["key"] for entry in ok["entries"]]
                after = ok.get("more")
                if after is None:
                    break
            assert seen == sorted(names)
            assert ok["head"] == 4

    async def test_by_pattern(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set=dict.fromkeys(("a", "a/x", "a/x/y", "ab", "b/x"), 1))
            for pattern, keys in {
                "**": ["a", "a/x", "a/x/y", "ab", "b/x"],
                "*": ["a", "ab"],
                "a/**": ["a/x", "a/x/y"],
                "*/x": ["a/x", "b/x"],
                "a": ["a"],
            }.items():
                ok = await joe.ask("state", topic=CONV, match=pattern)
                assert [entry["key"] for entry in ok["entries"]] == keys, pattern

    async def test_large_values_make_short_pages(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for number in range(5):
                await change(joe, set={f"k{number}": "x" * 100_000})
            ok = await joe.ask("state", topic=CONV)
            assert (len(ok["entries"]), ok["more"]) == (2, "k1")
            ok = await joe.ask("state", topic=CONV, keys=["k0", "k3", "k4"])
            assert (len(ok["entries"]), ok["more"]) == (2, "k3")

    @pytest.mark.parametrize("options", [{"segment_bytes": 4096}], indirect=True)
    async def test_values_outlive_their_segments_and_retention(self, server: Server, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set={"old": "kept", "gone": 1})
            await change(joe, delete=["gone"])
            for number in range(60):
                await change(joe, set={f"k{number % 7}": "x" * 500})
                await joe.pub(CONV, "y" * 300)
            for shard in server.broker.shards:
                await shard.log.settled()
                await shard.log.enforce_retention(lambda _: _nothing_is_kept(), 9e9)
            found = await get(joe)
            assert found["old"] == ("kept", 1)
            assert sorted(found) == [f"k{number}" for number in range(7)] + ["old"]
            assert (await joe.sub(TOPIC, from_="all"))["next"] > 2, "the history of changes is gone"


def _nothing_is_kept() -> Any:
    from hubbub_broker.log import Retention

    return Retention(max_age=1.0, max_bytes=0, max_count=0)


class TestWatching:
    async def test_a_snapshot_and_the_changes_behind_its_head_leave_nothing_out(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await change(joe, set={"k": 1})
            ok = await ann.ask("state", topic=CONV)
            await change(joe, set={"k": 2})
            await change(joe, delete=["k"])
            await ann.sub(TOPIC, from_={"seq": ok["head"] + 1, "epoch": ok["epoch"]})
            told = [line["data"] for line in await ann.messages(2)]
            assert told == [{"set": {"k": 2}}, {"delete": ["k"]}]

    async def test_who_reads_a_whole_group_hears_nothing_of_its_states(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await ann.sub("research/**")
            await ann.sub("research/_state/**")
            await change(joe, set={"k": 1}, publish=[{"topic": CONV, "id": "m", "data": 1}])
            assert sorted(line["topic"] for line in await ann.messages(2)) == [TOPIC, CONV]
            await ann.send("unsub", topic="research/_state/**")
            await ann.until("ok")
            await change(joe, set={"k": 2})
            await joe.pub(CONV, "after")
            assert (await ann.until("msg"))["data"] == "after"


class TestLeases:
    async def test_a_key_goes_by_itself_and_its_watchers_are_told(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.sub(TOPIC)
            ok = await change(joe, set={"l": "joe", "k": 1}, ttl={"l": 0.15})
            entries = (await joe.ask("state", topic=CONV))["entries"]
            assert {entry["key"]: "left" in entry for entry in entries} == {"k": False, "l": True}
            set_, gone = await joe.messages(2)
            assert set_["seq"] == ok["seq"]
            assert (gone["from"], gone["data"]) == ("hubbub", {"delete": ["l"], "expired": True})
            assert gone["ts"] - set_["ts"] >= 0.15
            assert await get(joe) == {"k": (1, 1)}

    async def test_renewed_it_stays_at_its_version(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            token = (await change(joe, set={"l": "joe"}, ttl={"l": 0.4}))["seq"]
            for _ in range(4):
                await asyncio.sleep(0.2)  # as its holder does: time has to pass for it to go
                assert (await joe.ask("renew", topic=CONV, keys={"l": token}))["op"] == "ok"
                assert await get(ann) == {"l": ("joe", token)}
            assert (await joe.sub(TOPIC))["head"] == token, "nothing was written"
            await joe.until("msg")
            refused = await joe.ask("renew", topic=CONV, keys={"l": token})
            assert (refused["code"], refused["current"]) == ("conflict", 0)

    async def test_a_late_holder_changes_nothing(self, connect: Any) -> None:
        async with connect("joe") as joe, connect("ann") as ann:
            await joe.sub(TOPIC)
            token = (await change(joe, set={"l": "joe"}, ttl={"l": 0.1}))["seq"]
            await joe.messages(2)
            await change(ann, set={"l": "ann"}, ttl={"l": 60}, expect={"l": 0})
            refused = await change(joe, set={"doc": "joe's"}, expect={"l": token})
            assert (refused["code"], refused["current"]) == ("conflict", 3)
            assert "doc" not in await get(joe)

    async def test_set_without_a_time_it_stays(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.sub(TOPIC)
            await change(joe, set={"l": 1, "m": 1}, ttl={"l": 0.1, "m": 0.2})
            await change(joe, set={"l": 2})
            await joe.messages(2)
            assert (await joe.until("msg"))["data"]["delete"] == ["m"]
            assert await get(joe) == {"l": (2, 2)}

    async def test_after_a_restart_it_has_its_whole_time_again_and_then_goes(self, tmp_path: Path) -> None:
        async with serving(tmp_path) as server, wire_client(url_of(server), "joe") as joe:
            token = (await change(joe, set={"l": "joe"}, ttl={"l": 1.0}))["seq"]
        async with serving(tmp_path) as server, wire_client(url_of(server), "joe") as joe:
            await joe.sub(TOPIC)
            entry = (await joe.ask("state", topic=CONV))["entries"][0]
            assert (entry["key"], entry["version"]) == ("l", token)
            assert 0 < entry["left"] <= 1.0
            assert (await joe.until("msg"))["data"] == {"delete": ["l"], "expired": True}

    @pytest.mark.parametrize("options", [{"state_leases": 2, "shards": 1}], indirect=True)
    async def test_there_are_so_many_at_most(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await change(joe, set={"a": 1, "b": 1}, ttl={"a": 60, "b": 60})
            refused = await change(joe, set={"c": 1}, ttl={"c": 60})
            assert refused["code"] == "overloaded"
            assert "state_leases" in refused["message"]
            await change(joe, set={"a": 2}, ttl={"a": 60})
            await change(joe, delete=["a"])
            assert (await change(joe, set={"c": 1}, ttl={"c": 60}))["op"] == "ok"


WRONG: list[dict[str, Any]] = [
    {},
    {"set": {"": 1}},
    {"set": {"a//b": 1}},
    {"set": {"a b": 1}},
    {"set": {"k" * 129: 1}},
    {"set": {"/".join(["k" * 100] * 6): 1}},
    {"set": {"k": 1}, "delete": ["k"]},
    {"set": {"k": 1}, "expect": -1},
    {"set": {"k": 1}, "expect": {"k": -1}},
    {"set": {"k": 1}, "expect": {"a*": 1}},
    {"set": {"k": 1}, "ttl": {"k": 0}},
    {"set": {"k": 1}, "ttl": {"k": 1e9}},
    {"set": {"k": 1}, "ttl": {"j": 1}},
    {"set": {f"k{number}": 1 for number in range(300)}},
    {"topic": "research/_state", "set": {"k": 1}},
    {"topic": "research/_state/c", "set": {"k": 1}},
    {"topic": "research/*", "set": {"k": 1}},
    {"topic": "a b", "set": {"k": 1}},
    {"topic": "research/" + "/".join(["c" * 100] * 5)[:500], "set": {"k": 1}},
    {"id": "x" * 300, "set": {"k": 1}},
]


class TestLimits:
    async def test_what_is_wrong_is_refused_and_named(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for wrong in WRONG:
                refused = await change(joe, **wrong)
                assert (refused["op"], refused["code"]) == ("err", "bad_request"), wrong
                assert len(refused["message"]) > 10
            assert await get(joe) == {}

    @pytest.mark.parametrize(
        "options", [{"state_value": 100, "state_keys": 3, "state_bytes": 1024, "state_change_keys": 4}], indirect=True
    )
    async def test_sizes_are_settings_and_each_refusal_names_its_own(self, connect: Any) -> None:
        async with connect("joe") as joe:
            too_much: list[tuple[dict[str, Any], str]] = [
                ({"set": {"k": "x" * 99}}, "state_value"),
                ({"set": dict.fromkeys("abcd", 1)}, "state_keys"),
                ({"set": dict.fromkeys("abcde", 1)}, "state_change_keys"),
            ]
            for fields, limit in too_much:
                assert limit in (await change(joe, **fields))["message"]
            await change(joe, set=dict.fromkeys("abc", "x" * 90))
            assert "state_keys" in (await change(joe, set={"d": 1}))["message"]
            assert (await change(joe, set={"d": 1}, delete=["a"]))["op"] == "ok"
            assert (await change(joe, set={"d": 2}))["op"] == "ok"

    @pytest.mark.parametrize("options", [{"state_bytes": 1024}], indirect=True)
    async def test_a_state_has_so_many_bytes(self, connect: Any) -> None:
        async with connect("joe") as joe:
            for number in range(4):
                await change(joe, set={f"k{number}": "x" * 240})
            assert "state_bytes" in (await change(joe, set={"k9": "x" * 240}))["message"]
            assert (await change(joe, set={"k0": "", "k9": "x" * 240}))["op"] == "ok"

    @pytest.mark.parametrize("options", [{"publish_rate": 1.0, "publish_burst": 3}], indirect=True)
    async def test_the_guard_counts_changes_and_their_messages_as_publishes(self, connect: Any) -> None:
        async with connect("joe") as joe:
            part = {"topic": CONV, "id": "m", "data": 1}
            assert (await change(joe, set={"k": 1}, publish=[part]))["op"] == "ok"
            assert (await change(joe, set={"k": 1}))["op"] == "ok"
            assert (await change(joe, set={"k": 1}))["code"] == "rate_limited"

    async def test_reads_and_renewals_are_checked(self, connect: Any) -> None:
        async with connect("joe") as joe:
            wrong: list[dict[str, Any]] = [
                {"topic": "a b"},
                {"topic": CONV, "keys": ["a*"]},
                {"topic": CONV, "match": "a**"},
                {"topic": CONV, "keys": ["a"], "match": "**"},
                {"topic": CONV, "limit": 0},
                {"topic": CONV, "after": "?"},
            ]
            for fields in wrong:
                assert (await joe.ask("state", **fields))["code"] == "bad_request", fields
            for keys in ({}, {"k": 0}, {"k": -1}, {"a*": 1}):
                assert (await joe.ask("renew", topic=CONV, keys=keys))["code"] == "bad_request", keys

    async def test_before_hello_nothing_is_told(self, connect: Any) -> None:
        async with connect() as client:
            asked: dict[str, dict[str, Any]] = {
                "state": {"topic": CONV},
                "change": {"topic": CONV, "id": "1", "set": {"k": 1}},
                "renew": {"topic": CONV, "keys": {"k": 1}},
            }
            for op, fields in asked.items():
                assert (await client.ask(op, **fields))["code"] == "unauthorized"


async def test_metrics_count_what_happens(server: Server, connect: Any) -> None:
    async with connect("joe") as joe:
        await change(joe, id="1", set={"k": 1})
        await change(joe, id="1", set={"k": 1})
        await change(joe, set={"k": 1}, expect={"k": 9})
        await change(joe, set={"l": 1}, ttl={"l": 60})
        await get(joe)
    figures = server.broker.state_figures
    assert (figures.changes, figures.repeats, figures.conflicts, figures.reads, figures.leases) == (2, 1, 1, 1, 1)


async def test_the_broker_itself_reads_a_state_and_hears_of_its_changes(server: Server, connect: Any) -> None:
    states = server.broker.states_of("research")
    heard: asyncio.Queue[Any] = asyncio.Queue()
    states.on_change("research", heard.put_nowait)
    async with connect("joe") as joe:
        await change(joe, "research", set={"policy/a": {"x": 1}, "k": 1})
        await change(joe, "research", delete=["k"])
    changes = [await heard.get() for _ in range(2)]
    assert [(each.version, each.by, each.set, each.delete) for each in changes] == [
        (1, "joe", {"policy/a": {"x": 1}, "k": 1}, ()),
        (2, "joe", {}, ("k",)),
    ]
    assert states.entries("research") == {"policy/a": {"x": 1}}
    assert states.entries("research", "policy/*") == {"policy/a": {"x": 1}}
