"""Schemas, from outside: what does not fit is refused or counted, at every door, and nothing else is looked at."""

from typing import Any

import httpx
import pytest

from hubbub import Agent, BadRequest
from hubbub_broker.bus.agents import durable
from hubbub_broker.policy import Override
from hubbub_broker.schema import SchemaLimits, Schemas, read_schema
from hubbub_broker.server import Server

LIMITS = SchemaLimits(max_schema_bytes=65_536)
TASK = {"type": "object", "required": ["task"], "properties": {"task": {"type": "string"}}}


def follow(server: Server, *overrides: Override, **schemas: Any) -> None:
    """Put schemas in force: `g_task={...}` is the one of type `task` in the group `g`."""
    named = [(name.partition("_"), document) for name, document in schemas.items()]
    found = [read_schema(group, type, document, 1, LIMITS) for (group, _, type), document in named]
    server.broker._follow(overrides, Schemas(found))


@pytest.mark.parametrize("more", [{}, {"ephemeral": True}, {"headers": {"hops": 1}}])
async def test_what_does_not_fit_is_refused_with_the_field_and_leaves_no_trace(
    connect: Any, server: Server, more: dict[str, Any]
) -> None:
    async with connect("joe") as joe, connect("amy") as amy:
        await amy.sub("g/c")
        assert (await joe.pub("g/c", {}, type="task"))["op"] == "ok", "nothing is in force yet"
        follow(server, g_task=TASK)
        for _ in range(2):  # the second is no repeat of a message that was taken
            answer = await joe.pub("g/c", {"task": 3}, id="wrong", type="task", **more)
            assert (answer["op"], answer["code"], "retry_after" in answer) == ("err", "bad_request", False)
            assert "`data/task`: it is not of type" in answer["message"]
            assert "type 'task' in g" in answer["message"]
        answer = await joe.pub("g/c", {"task": "x"}, id="wrong", type="task", **more)
        assert (answer["op"], answer.get("dup", False)) == ("ok", False)
        assert [message["data"] for message in await amy.messages(2)] == [{}, {"task": "x"}]
    assert server.broker.metrics.schema_misfits == {("g", "task", "refused"): 2}
    assert server.broker.metrics.publishes_refused == {"bad_request": 2}


async def test_only_messages_of_that_type_in_that_group_are_looked_at(connect: Any, server: Server) -> None:
    follow(server, g_task=TASK)
    async with connect("joe") as joe:
        assert (await joe.pub("g/c", {}))["op"] == "ok"
        assert (await joe.pub("g/c", {}, type="other"))["op"] == "ok"
        assert (await joe.pub("h/c", {}, type="task"))["op"] == "ok"
        assert (await joe.pub("g/_notes", {}, type="task"))["op"] == "ok", "the protocol's own have forms of their own"
        assert (await joe.pub("g/c", {}, type="task"))["op"] == "err"
        assert (await joe.pub("g/@amy", {}, type="task"))["op"] == "err"


async def test_the_policy_says_whether_it_is_refused_counted_or_not_looked_at(connect: Any, server: Server) -> None:
    counts = Override("count", "g/count", 0, 1, {"schemas": "count"})
    off = Override("off", "g/off", 0, 1, {"schemas": "off"})
    follow(server, counts, off, g_task=TASK)
    async with connect("joe") as joe:
        assert (await joe.pub("g/count", {}, type="task"))["op"] == "ok"
        assert (await joe.pub("g/off", {}, type="task"))["op"] == "ok"
        assert (await joe.pub("g/else", {}, type="task"))["op"] == "err"
    assert server.broker.metrics.schema_misfits == {("g", "task", "counted"): 1, ("g", "task", "refused"): 1}


async def test_a_payload_of_bytes_fits_no_schema(connect: Any, server: Server) -> None:
    follow(server, g_task={})
    async with connect("joe") as joe:
        await joe.send_binary(b"\x00\x01", topic="g/c", id="1", type="task")
        answer = await joe.next()
        assert (answer["code"], "bytes" in answer["message"]) == ("bad_request", True)
        await joe.send_binary(b"\x00\x01", topic="g/c", id="2", type="other")
        await joe.expect("ok", id="2")


@pytest.mark.parametrize("options", [{"hold_seconds": 60}], indirect=True)
async def test_a_message_that_waited_for_its_parent_is_looked_at_when_it_is_taken(connect: Any, server: Server) -> None:
    async with connect("joe") as joe:
        await joe.send("pub", topic="g/c", id="1", data={}, type="task", parent="0")
        await joe.silent()
        follow(server, g_task=TASK)
        await joe.send("pub", topic="g/c", id="0", data={"task": "x"}, type="task")
        answers = {(line := await joe.next())["id"]: line.get("code", "ok") for _ in range(2)}
        assert answers == {"0": "ok", "1": "bad_request"}


async def test_publishing_and_mailing_over_http_pass_the_same_check(connect: Any, server: Server) -> None:
    follow(server, g_task=TASK, agents_mail={"properties": {"subject": {"minLength": 3}}})
    async with connect("amy"), httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        message = {"from": "joe", "topic": "g/c", "id": "1", "type": "task", "data": {}}
        answer = await client.post("/v1/publish", json=message)
        assert answer.status_code == 400
        assert "`data/task`: it is missing" in answer.text
        letter = {"from": "joe", "to": "amy", "subject": "hi", "body": "x"}
        answer = await client.post("/api/send", json=letter)
        assert answer.status_code == 400
        assert "`data/subject`" in answer.text
        assert (await client.post("/api/send", json={**letter, "subject": "hello"})).status_code == 200


async def test_an_agent_gets_the_reason_as_an_error_and_goes_on(server: Server) -> None:
    follow(server, g_task=TASK)
    async with Agent("joe", group="g", url=f"ws://127.0.0.1:{server.port}", local=False) as joe:
        with pytest.raises(BadRequest, match="`data/task`: it is missing"):
            await joe.publish("c", {}, type="task")
        assert (await joe.publish("c", {"task": "x"}, type="task")).seq == 1


async def test_a_mail_to_all_that_one_group_would_refuse_reaches_nobody(connect: Any, server: Server) -> None:
    async with (
        connect() as amy,
        connect() as bob,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client,
    ):
        await amy.hello("amy", groups=["strict"])
        await bob.hello("bob", groups=["easy"])
        follow(server, strict_mail={"properties": {"subject": {"minLength": 3}}})
        letter = {"from": "joe", "to": "ALL", "subject": "hi", "body": "x"}
        answer = await client.post("/api/send", json=letter)
        assert answer.status_code == 400
        assert "type 'mail' in strict" in answer.text
        assert (await client.get("/api/inbox/bob")).json()["messages"] == []
        assert (await client.post("/api/send", json={**letter, "subject": "hello"})).json()["recipients"] == 2
        for name in ("amy", "bob"):
            assert len((await client.get(f"/api/inbox/{name}")).json()["messages"]) == 1


async def test_a_mail_to_all_that_was_promised_is_delivered_whatever_is_set_meanwhile(
    connect: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def then_a_schema_comes(*args: Any) -> None:
        await durable(*args)
        follow(server, strict_mail={"properties": {"subject": {"minLength": 3}}})

    monkeypatch.setattr("hubbub_broker.bus.to_all.durable", then_a_schema_comes)
    async with connect() as amy, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        await amy.hello("amy", groups=["strict"])
        letter = {"from": "joe", "to": "ALL", "subject": "hi", "body": "x"}
        assert (await client.post("/api/send", json=letter)).json()["recipients"] == 1
        assert len((await client.get("/api/inbox/amy")).json()["messages"]) == 1
        assert (await client.post("/api/send", json={**letter, "to": "amy"})).status_code == 400


async def test_a_message_that_goes_with_a_change_of_a_state_passes_the_same_check(connect: Any, server: Server) -> None:
    follow(server, g_task=TASK)
    async with connect("joe") as joe:

        async def change(data: Any) -> dict[str, Any]:
            part = {"topic": "g/c", "id": f"{data}", "data": data, "type": "task"}
            answer: dict[str, Any] = await joe.ask("change", topic="g/c", id=f"{data}", set={"k": 1}, publish=[part])
            return answer

        refused = await change({})
        assert (refused["code"], "`data/task`" in refused["message"]) == ("bad_request", True)
        assert (await joe.ask("state", topic="g/c"))["entries"] == [], "neither the message nor the key"
        assert (await change({"task": "x"}))["op"] == "ok"


async def test_a_conversation_that_only_a_schema_looks_at_costs_the_guard_no_memory(
    connect: Any, server: Server
) -> None:
    follow(server, g_task=TASK)
    async with connect("joe") as joe:
        assert (await joe.pub("g/c", {"task": "x"}, type="task"))["op"] == "ok"
        assert (await joe.pub("g/c", {}))["op"] == "ok"
    assert len(server.broker.shard_of("g").guard) == 0


async def test_data_goes_through_as_the_text_that_it_came_as(connect: Any, server: Server) -> None:
    follow(server, g_task=TASK)
    async with connect("joe") as joe, connect("amy") as amy:
        await amy.sub("g/c")
        text = '{"task" : "x", "n": 1.50e1}'
        await joe.socket.send(f'{{"op":"pub","topic":"g/c","id":"1","type":"task","data":{text}}}')
        await amy.expect("live", topic="g/c")
        frame = await amy.socket.recv()
        assert f'"data":{text}' in frame


async def test_misfits_are_a_metric_with_a_bounded_number_of_series(connect: Any, server: Server) -> None:
    follow(server, g_task=TASK)
    metrics = server.broker.metrics
    async with connect("joe") as joe:
        await joe.pub("g/c", {}, type="task")
    for number in range(500):
        metrics.count_misfit("g", f"type-{number}", "refused")
    assert len(metrics.schema_misfits) <= 202
    assert sum(metrics.schema_misfits.values()) == 501
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        page = (await client.get("/metrics")).text
    assert 'hubbub_schema_misfits_total{group="g",outcome="refused",type="task"} 1.0' in page
