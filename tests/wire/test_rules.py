"""Policies and schemas that are kept in the broker's own state: in force at once, all or nothing, over restarts."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import broker_process, serving, url_of
from harness.log_capture import captured_log
from harness.tokens import token, write_key
from harness.wire import WireClient, wire_client
from hubbub_broker.server import Server

OWN = "_hubbub"
TASK = {"type": "object", "required": ["task"]}


async def change(client: WireClient, **fields: Any) -> dict[str, Any]:
    client._count += 1
    return await client.ask("change", topic=OWN, id=f"{client._count}-{id(client)}", **fields)


def policy(pattern: str, priority: int = 0, **fields: Any) -> dict[str, Any]:
    return {"policy": {"pattern": pattern, "priority": priority, **fields}, "by": "boss"}


async def test_what_is_set_holds_for_the_very_next_message_of_anybody(connect: Any) -> None:
    async with connect("boss") as boss, connect("joe") as joe, connect("amy") as amy:
        assert (await joe.pub("g/c", 1))["seq"] == 1
        assert (await amy.pub("h/c", {}, type="task"))["seq"] == 1
        for durable in (False, True, False, True):
            assert (await change(boss, set={"policy/p": policy("g/**", durable=durable)}))["op"] == "ok"
            assert ("seq" in await joe.pub("g/c", 2)) is durable
        await change(boss, set={"schema/h/task": {"schema": TASK}})
        assert (await amy.pub("h/c", {}, type="task"))["code"] == "bad_request"
        await change(boss, delete=["schema/h/task"])
        assert (await amy.pub("h/c", {}, type="task"))["op"] == "ok"


async def test_two_policies_change_places_in_one_step(connect: Any) -> None:
    """Half a change, with two small ones, is never in force for whoever publishes meanwhile."""
    small, large = policy("g/**", 0, max_message=200), policy("g/**", 1, max_message=500)
    answers: list[str] = []
    async with connect("boss") as boss, connect("joe") as joe:
        await change(boss, set={"policy/a": small, "policy/b": large})

        async def publish() -> None:
            answers.extend([(await joe.pub("g/c", "x" * 300))["op"] for _ in range(200)])

        async def swap() -> None:
            for _ in range(20):
                await change(boss, set={"policy/a": large, "policy/b": small})
                await change(boss, set={"policy/a": small, "policy/b": large})

        await asyncio.gather(publish(), swap())
    assert answers == ["ok"] * 200


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "policy/p",
            policy("g/**", max_age="soon"),
            'policy/p: max_age = "soon": must be 0 (for ever), or 1s to 3650d',
        ),
        ("policy/p", policy("g/**", max_agee=1), "did you mean max_age"),
        ("policy/p", {"policy": {"max_age": 1}}, "policy/p: pattern: is missing"),
        ("policy/p", {"pattern": "g/**"}, "policy/p: a policy is an object such as"),
        ("policy/p", [1], "policy/p: not of the form that is kept"),
        ("policy/p/q", policy("g/**", max_age=1), "policy/p/q: bad policy name"),
        ("policy/p", {**policy("g/**", max_age=1), "note": "x" * 1001}, "`note` has at most 1000 characters"),
        ("schema/g/task", {"schema": {"type": "strin"}}, "schema/g/task: /type: "),
        ("schema/g/task", {"schema": {"$ref": "http://example.org"}}, "schema/g/task: /$ref: refers to"),
        ("schema/g/a/b", {"schema": {}}, "bad message type"),
        ("schema/g", {"schema": {}}, "bad message type"),
    ],
)
async def test_one_wrong_document_refuses_the_whole_change(
    connect: Any, server: Server, key: str, value: Any, said: str
) -> None:
    async with connect("boss") as boss, connect("joe") as joe:
        good = policy("g/**", durable=False)
        refused = await change(boss, set={"policy/good": good, key: value})
        assert (refused["op"], refused["code"]) == ("err", "bad_request")
        assert said in refused["message"]
        assert "seq" in await joe.pub("g/c", 1)
        assert not server.broker.rules.kept
        assert (await boss.ask("state", topic=OWN))["entries"] == []


async def test_other_keys_of_the_state_are_nobody_s_business(connect: Any, server: Server) -> None:
    async with connect("boss") as boss:
        assert (await change(boss, set={"policy": 1, "schema": 2, "registry/x": 3}))["op"] == "ok"
    assert not server.broker.rules.kept
    assert not server.broker.rules.skipped


@pytest.mark.parametrize("options", [{"max_policies": 2, "max_schemas": 1}], indirect=True)
async def test_there_are_only_so_many(connect: Any) -> None:
    async with connect("boss") as boss:
        some = policy("g/**", max_age=5)
        assert (await change(boss, set={"policy/a": some, "policy/b": some}))["op"] == "ok"
        refused = await change(boss, set={"policy/c": some})
        assert (refused["code"], "(max_policies) is 2" in refused["message"]) == ("too_large", True)
        assert (await change(boss, set={"policy/a": some}))["op"] == "ok", "changing one is not adding one"
        assert (await change(boss, set={"policy/c": some}, delete=["policy/a"]))["op"] == "ok"
        assert (await change(boss, set={"schema/g/a": {"schema": {}}}))["op"] == "ok"
        refused = await change(boss, set={"schema/g/b": {"schema": {}}})
        assert (refused["code"], "(max_schemas) is 1" in refused["message"]) == ("too_large", True)


async def test_a_change_that_is_not_made_is_not_in_force(connect: Any, server: Server) -> None:
    async with connect("boss") as boss, connect("joe") as joe:
        await change(boss, set={"policy/p": policy("g/**", durable=False)})
        conflict = await change(boss, set={"policy/p": policy("g/**", max_count=5)}, expect={"policy/p": 0})
        assert conflict["code"] == "conflict"
        assert "seq" not in await joe.pub("g/c", 1)


async def test_a_policy_may_go_by_itself(connect: Any) -> None:
    async with connect("boss") as boss, connect("joe") as joe:
        await boss.sub("_hubbub/_state")
        await change(boss, set={"policy/p": policy("g/**", durable=False)}, ttl={"policy/p": 0.2})
        assert "seq" not in await joe.pub("g/c", 1)
        gone = [await boss.until("msg") for _ in range(2)][-1]
        assert gone["data"]["delete"] == ["policy/p"]
        assert "seq" in await joe.pub("g/c", 2)


async def test_all_of_it_is_in_force_after_a_restart_and_before_the_first_message(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server, wire_client(url_of(server), "boss") as boss:
        await change(boss, set={"policy/p": policy("g/**", durable=False), "schema/h/task": {"schema": TASK}})
        await change(boss, set={"policy/gone": policy("i/**", durable=False)})
        await change(boss, delete=["policy/gone"])
    async with serving(tmp_path / "data") as server, wire_client(url_of(server), "joe") as joe:
        assert sorted(server.broker.rules.kept) == ["policy/p", "schema/h/task"]
        assert server.broker.rules.kept["policy/p"].by == "boss"
        assert "seq" not in await joe.pub("g/c", 1)
        assert (await joe.pub("h/c", {}, type="task"))["code"] == "bad_request"
        assert "seq" in await joe.pub("i/c", 1)


@pytest.mark.slow
async def test_what_was_answered_is_in_force_after_a_kill(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "data") as broker:
        for number in range(2):
            async with wire_client(broker.url, "boss") as boss:
                assert (await change(boss, set={"policy/p": policy("g/**", max_message=200 + number)}))["op"] == "ok"
            broker.kill()
            broker.start()
            await broker.wait_ready()
            async with wire_client(broker.url, "joe") as joe:
                refused = await joe.pub("g/c", "x" * 400)
                assert f"(max_message) is {200 + number}" in refused["message"]


async def test_what_this_program_does_not_understand_is_told_and_passed_over(tmp_path: Path) -> None:
    """Another version wrote it. Here it is put there behind the broker's back."""
    documents = {
        "policy/new": policy("g/**", durable=False, from_the_future=1),
        "policy/good": policy("h/**", durable=False),
        "schema/g/odd": {"schema": {"type": "from-the-future"}},
        "policy/text": "no object",
    }
    async with serving(tmp_path / "data") as server, wire_client(url_of(server), "boss") as boss:
        server.broker.states_of(OWN).check(OWN, lambda _: None)
        assert (await change(boss, set=documents))["op"] == "ok"
        assert sorted(server.broker.rules.kept) == ["policy/good"]
    with captured_log() as log:
        async with serving(tmp_path / "data") as server, wire_client(url_of(server), "joe") as joe:
            rules = server.broker.rules
            assert sorted(rules.kept) == ["policy/good"]
            assert sorted(rules.skipped) == ["policy/new", "policy/text", "schema/g/odd"]
            assert "from_the_future" in rules.skipped["policy/new"]
            assert "seq" in await joe.pub("g/c", 1)
            assert "seq" not in await joe.pub("h/c", 1)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
                told = [(await client.get(path)).json()["skipped"] for path in ("/v1/policies", "/v1/schemas")]
                assert [[each["key"] for each in one] for one in told] == [
                    ["policy/new", "policy/text"],
                    ["schema/g/odd"],
                ]
                page = (await client.get("/metrics")).text
                assert "hubbub_policies 1.0" in page
                assert "hubbub_rules_skipped 3.0" in page
    assert sum(entry["event"] == "not understood, not in force" for entry in log.read()) == 3


async def test_narrower_limits_of_the_broker_narrow_what_was_set(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", max_frame=2**20) as server, wire_client(url_of(server), "boss") as boss:
        await change(boss, set={"policy/p": policy("g/**", max_message="1MiB", max_count=5)})
    async with serving(tmp_path / "data", max_frame=8192) as server:
        found = server.broker.policies.of("g/c")
        assert (found.max_message, found.max_count) == (8192, 5)


async def test_only_operators_change_them(tmp_path: Path) -> None:
    keys = write_key(tmp_path)
    async with serving(tmp_path / "data", token_keys=keys) as server:
        for credential, allowed in (
            (token("ann", pub=["**"], subscribe=["**"]), False),
            (token("ann", pub=["_hubbub/**"]), False),
            (token("ann", admin=True), True),
        ):
            headers = {"Authorization": f"Bearer {credential}"}
            async with wire_client(url_of(server), "ann", additional_headers=headers) as ann:
                answer = await change(ann, set={"policy/p": policy("g/**", durable=False)})
                assert (answer["op"] == "ok") is allowed, answer
            assert bool(server.broker.rules.kept) is allowed


async def test_a_change_that_the_disk_did_not_take_is_not_in_force(
    connect: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect("boss") as boss, connect("joe") as joe:
        await change(boss, set={"policy/p": policy("g/**", max_message=500)})

        def broken(fd: int) -> None:
            raise OSError(errno.EIO, "the disk is gone")

        monkeypatch.setattr(server.broker.shard_of(OWN).log._files, "sync", broken)
        refused = await change(boss, set={"policy/p": policy("g/**", max_message=200)})
        assert refused["code"] == "read_only"
        assert server.broker.policies.of("g/c").max_message == 500
        refused = await joe.pub("g/c", "x" * 600)
        assert refused["code"] == ("too_large" if server.broker.shard_of("g").log.failed is None else "read_only")
