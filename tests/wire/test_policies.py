"""Policies that are changed while the broker runs: what is in force for the very next message."""

from typing import Any

import pytest

from hubbub_broker.policy import Override
from hubbub_broker.server import Server

FILE = {"policy": [{"pattern": "kept/**", "max_count": 3}, {"pattern": "**", "max_depth": 64}]}


def override(pattern: str, priority: int = 0, **changes: Any) -> Override:
    return Override(f"{pattern} {priority}", pattern, priority, 1, changes)


def follow(server: Server, overrides: list[Override]) -> None:
    server.broker._follow(overrides, server.broker.schemas)


async def test_a_topic_that_is_in_use_follows_at_once(connect: Any, server: Server) -> None:
    async with connect("joe") as joe:
        assert (await joe.pub("g/c", 1))["seq"] == 1
        follow(server, [override("g/*", durable=False)])
        answer = await joe.pub("g/c", 2)
        assert (answer["op"], "seq" in answer) == ("ok", False), "ephemeral from now on"
        assert (await joe.pub("h/c", 1))["seq"] == 1, "of no concern to another group"
        follow(server, [override("g/*", max_message=200)])
        assert (await joe.pub("g/c", 3))["seq"] == 2
        assert (await joe.pub("g/c", "x" * 300))["code"] == "too_large"
        follow(server, [])
        assert (await joe.pub("g/c", "x" * 300))["seq"] == 3


async def test_a_topic_that_comes_later_follows_too(connect: Any, server: Server) -> None:
    follow(server, [override("g/**", max_ttl=5.0)])
    async with connect("joe") as joe:
        answer = await joe.pub("g/new", 1, ttl=6.0)
        assert (answer["code"], "max_ttl" in answer["message"]) == ("bad_request", True)


async def test_the_guard_follows_in_conversations_that_it_knows(connect: Any, server: Server) -> None:
    async with connect("joe") as joe:
        for number in range(6):
            parent = {"parent": str(number - 1)} if number else {}
            assert (await joe.pub("g/c", number, id=str(number), **parent))["op"] == "ok"
        follow(server, [override("g/**", max_depth=6)])
        assert (await joe.pub("g/c", 6, id="6", parent="5"))["op"] == "ok"
        assert (await joe.pub("g/c", 7, id="7", parent="6"))["code"] == "loop"
        follow(server, [override("g/**", max_depth=0)])
        assert (await joe.pub("g/c", 7, id="7", parent="6"))["op"] == "ok"


async def test_a_rule_about_every_message_begins_and_ends(connect: Any, server: Server) -> None:
    """Most topics are not looked at message by message: one that is to be, is from the next one on."""
    async with connect("joe") as joe:
        for number in range(20):
            assert (await joe.pub("g/c", number))["op"] == "ok"
        follow(server, [override("g/**", sender_rate=0.001, sender_burst=2)])
        answers = [(await joe.pub("g/c", number)).get("code", "ok") for number in range(3)]
        assert answers == ["ok", "ok", "rate_limited"]
        follow(server, [override("g/**", sender_rate=0.001, sender_burst=5)])
        answers = [(await joe.pub("g/c", number)).get("code", "ok") for number in range(6)]
        assert answers == [*["ok"] * 5, "rate_limited"], "a new rate begins with its own burst"
        follow(server, [])
        assert (await joe.pub("g/c", 1))["op"] == "ok"


async def test_a_conversation_that_was_let_go_and_is_still_known_to_the_guard_follows(
    connect: Any, server: Server
) -> None:
    follow(server, [override("g/**", sender_rate=0.001, sender_burst=1)])
    async with connect("joe") as joe:
        assert (await joe.pub("g/c", 1))["op"] == "ok"
        assert (await joe.pub("g/c", 2))["code"] == "rate_limited"
        shard = server.broker.shard_of("g")
        gone = shard.topics.pop("g/c")
        gone.gone = True
        follow(server, [override("g/**", sender_rate=0.001, sender_burst=3)])
        answers = [(await joe.pub("g/c", number)).get("code", "ok") for number in range(4)]
        assert answers == ["ok", "ok", "ok", "rate_limited"]


async def test_the_dedup_window_and_retention_follow(connect: Any, server: Server) -> None:
    async with connect("joe") as joe:
        assert (await joe.pub("g/c", 1, id="a"))["seq"] == 1
        assert (await joe.pub("g/c", 1, id="a"))["dup"] is True
        follow(server, [override("g/**", dedup_window=0.0, max_count=4, max_age=6.0)])
        answer = await joe.pub("g/c", 1, id="a")
        assert (answer["seq"], "dup" in answer) == (2, False)
    retention = server.broker._retention_of("g/c")
    assert (retention.max_age, retention.max_count) == (6.0, 4)


@pytest.mark.parametrize("options", [FILE], indirect=True)
async def test_dead_letters_stay_durable_and_unguarded(server: Server) -> None:
    follow(server, [override("**", durable=False, sender_rate=1.0, max_message=500)])
    policy = server.broker.shard_of("kept").topic("kept/_dead").policy
    assert (policy.durable, policy.sender_rate, policy.max_count) == (True, 0.0, 3)
    assert policy.max_message > 500


@pytest.mark.parametrize("options", [{"hold_seconds": 60}], indirect=True)
async def test_a_message_that_waits_for_its_parent_goes_by_what_holds_when_it_is_taken(
    connect: Any, server: Server
) -> None:
    async with connect("joe") as joe:
        await joe.send("pub", topic="g/c", id="1", data="x" * 300, parent="0")
        await joe.silent()
        follow(server, [override("g/**", max_message=200)])
        await joe.send("pub", topic="g/c", id="0", data=0)
        answers = {(line := await joe.next())["id"]: line.get("code", "ok") for _ in range(2)}
        assert answers == {"0": "ok", "1": "too_large"}
