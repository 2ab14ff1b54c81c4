"""Mail to ALL: everybody or nobody, whatever fails and whenever."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from harness.broker import broker_process, serving
from hubbub_broker.bus import to_all
from hubbub_broker.bus.agents import durable
from hubbub_broker.log.inspect import dump
from hubbub_broker.log.record import Message
from hubbub_broker.refusal import Refusal
from hubbub_broker.server import Server
from hubbub_protocol.errors import ErrorCode

NAMES = ("ann", "jack", "kim")


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server.port) as client:
        for name in NAMES:
            await client.get(f"/api/inbox/{name}")
        yield client


def client_of(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)


async def send(http: httpx.AsyncClient, body: Any, **fields: Any) -> httpx.Response:
    return await http.post("/api/send", json={"from": "joe", "to": "ALL", "body": body, **fields})


async def who_has(http: httpx.AsyncClient, body: Any) -> list[str]:
    """Who has a mail, once for each time that it is there."""
    found = []
    for name in NAMES:
        messages = (await http.get(f"/api/inbox/{name}")).json()["messages"]
        found += [name for message in messages if message["body"] == body]
    return found


class Disk:
    """Decides when what ALL is promised with is on stable storage, or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(to_all, "durable", self._durable)

    async def _durable(self, *args: Any) -> None:
        self.asked.set()
        await asyncio.shield(self.answer)
        await durable(*args)


class TestTheSameAgainMeanwhile:
    async def test_waits_for_the_promise_and_nobody_has_it_before(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = Disk(monkeypatch)
        asking = [asyncio.create_task(send(http, "x", id="r"))]
        await asyncio.wait_for(disk.asked.wait(), 10)
        asking.append(asyncio.create_task(send(http, "x", id="r")))
        assert await who_has(http, "x") == []  # each of these requests lets the second one get on
        assert not any(task.done() for task in asking)
        disk.answer.set_result(None)
        first, second = [(await task).json() for task in asking]
        assert (first["recipients"], first["dup"]) == (3, False)
        assert (second["recipients"], second["dup"]) == (3, True)
        assert await who_has(http, "x") == list(NAMES)

    async def test_is_refused_as_the_first_is_and_nobody_ever_has_it(
        self, server: Server, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        disk = Disk(monkeypatch)
        asking = [asyncio.create_task(send(http, "x", id="r"))]
        await asyncio.wait_for(disk.asked.wait(), 10)
        asking.append(asyncio.create_task(send(http, "x", id="r")))
        assert await who_has(http, "x") == []
        disk.answer.set_exception(Refusal(ErrorCode.READ_ONLY, "this shard is read-only: disk", 1.0))
        assert [(await task).json()["code"] for task in asking] == ["read_only", "read_only"]
        assert await who_has(http, "x") == []
        monkeypatch.undo()
        again = await send(http, "x", id="r")
        assert (again.json()["dup"], again.json()["recipients"]) == (False, 3)
        assert await who_has(http, "x") == list(NAMES)

    async def test_a_sender_that_leaves_leaves_the_promise(
        self, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        disk = Disk(monkeypatch)
        sending = asyncio.create_task(server.broker.bus.mail.send("joe", "ALL", _data("x"), "r"))
        await asyncio.wait_for(disk.asked.wait(), 10)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        disk.answer.set_result(None)
        for name in NAMES:
            (mail,) = (await http.get(f"/api/inbox/{name}", params={"wait": 10})).json()["messages"]
            assert mail["body"] == "x"


async def test_a_promise_that_was_refused_is_not_kept_by_the_next_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have reached the log with a later batch."""
    async with serving(tmp_path / "data") as server, client_of(server.port) as http:
        for name in NAMES:
            await http.get(f"/api/inbox/{name}")
        disk = Disk(monkeypatch)
        sending = asyncio.create_task(send(http, "x", id="r"))
        await asyncio.wait_for(disk.asked.wait(), 10)
        await durable(server.broker.shards[0], asyncio.get_running_loop())
        await http.post("/v1/agents", json={"agent": "new"})  # is on stable storage, and what went with it too
        disk.answer.set_exception(Refusal(ErrorCode.READ_ONLY, "this shard is read-only: disk", 1.0))
        assert (await sending).status_code == 503
    monkeypatch.undo()
    async with serving(tmp_path / "data") as server, client_of(server.port) as http:
        await http.post("/v1/agents", json={"agent": "late"})
        assert await who_has(http, "x") == []
        assert (await send(http, "x", id="r")).json()["dup"] is False


class TestTheGuard:
    async def test_is_asked_once_before_the_promise(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("joe") as joe:
            answer = await joe.pub("_mail/@ALL", {"body": "deep"}, headers={"hops": 65})
            assert (answer["op"], answer["code"]) == ("err", "loop")
            assert "max_depth" in answer["message"]
            assert (await joe.pub("_mail/@ALL", {"body": "fine"}, headers={"hops": 64}))["op"] == "ok"
        assert await who_has(http, "deep") == []
        assert await who_has(http, "fine") == list(NAMES)

    @pytest.mark.parametrize(
        "options",
        [
            {"policy": [{"pattern": "agents/@jack", "budget_messages": 1}]},
            {"policy": [{"pattern": "agents/*", "sender_rate": 0.001, "sender_burst": 1}]},
            {"policy": [{"pattern": "agents/*", "repeat_messages": 1, "echo_stop": 0}]},
        ],
        ids=["budget", "rate", "repeats"],
        indirect=True,
    )
    async def test_stops_no_copy(self, http: httpx.AsyncClient) -> None:
        for _ in range(3):
            assert (await send(http, "x")).json()["recipients"] == 3
        assert Counter(await who_has(http, "x")) == dict.fromkeys(NAMES, 3)

    @pytest.mark.parametrize(
        "options", [{"policy": [{"pattern": "_mail/@ALL", "sender_rate": 0.001, "sender_burst": 1}]}], indirect=True
    )
    async def test_goes_by_the_policy_for_mail_to_all(self, http: httpx.AsyncClient) -> None:
        assert (await send(http, "x")).status_code == 200
        refused = await send(http, "y")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert await who_has(http, "y") == []


class TestWhatOneInboxDoesNotTake:
    @pytest.mark.parametrize("options", [{"policy": [{"pattern": "agents/@jack", "max_message": 400}]}], indirect=True)
    async def test_is_too_large_for_all(self, http: httpx.AsyncClient) -> None:
        refused = await send(http, "x" * 400)
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert ("agents/@jack" in refused.json()["message"], "max_message" in refused.json()["message"]) == (True, True)
        assert await who_has(http, "x" * 400) == []
        assert (await send(http, "x")).status_code == 200
        assert await who_has(http, "x") == list(NAMES)

    @pytest.mark.parametrize("options", [{"policy": [{"pattern": "agents/@kim", "max_ttl": 10}]}], indirect=True)
    async def test_lives_too_long_for_all(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("joe") as joe:
            refused = await joe.pub("_mail/@ALL", {"body": "long"}, ttl=100)
            assert (refused["code"], "agents/@kim" in refused["message"]) == ("bad_request", True)
            assert (await joe.pub("_mail/@ALL", {"body": "short"}, ttl=9))["op"] == "ok"
        assert await who_has(http, "long") == []
        assert await who_has(http, "short") == list(NAMES)


class TestAnIdWithANul:
    async def test_is_an_id_at_every_door(self, http: httpx.AsyncClient, connect: Any, server: Server) -> None:
        async with connect("joe") as joe:
            for dup in (False, True):
                answer = await joe.pub("_mail/@ALL", {"body": "x"}, id="a\0b")
                assert (answer["op"], answer.get("dup", False)) == ("ok", dup)
            assert [session.in_flight for session in server.broker.sessions.open] == [0]
        assert await who_has(http, "x") == list(NAMES)
        assert (await send(http, "y", id="c\0d")).json()["id"] == "c\0d"
        assert await who_has(http, "y") == list(NAMES)

    async def test_hurts_no_restart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving(tmp_path / "data") as server, client_of(server.port) as http:
            for name in NAMES:
                await http.get(f"/api/inbox/{name}")
            begun = asyncio.Event()

            async def never(*_: object) -> None:
                begun.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(to_all.ToAll, "_deliver", never)
            deep = msgspec.Raw(b"[" * 900 + b"]" * 900)  # and with what takes all of a stack to read
            content = msgspec.json.encode({"from": "joe", "to": "ALL", "subject": "x", "body": deep, "id": "a\0b"})
            content_type = {"Content-Type": "application/json"}
            sending = asyncio.create_task(http.post("/api/send", content=content, headers=content_type))
            await asyncio.wait_for(begun.wait(), 10)
            sending.cancel()
        monkeypatch.undo()
        async with serving(tmp_path / "data") as server, client_of(server.port) as http:
            for name in NAMES:
                (mail,) = (await http.get(f"/api/inbox/{name}", params={"wait": 10})).json()["messages"]
                assert (mail["id"], mail["subject"]) == ("a\0b", "x")


async def test_a_mistake_of_the_broker_is_answered_and_carried_on(
    http: httpx.AsyncClient, connect: Any, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    async def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(to_all.ToAll, "_copy", breaks)
    async with connect("joe") as joe:
        answer = await joe.pub("_mail/@ALL", {"body": "x"}, id="r")
        assert (answer["code"], "retry_after" in answer) == ("internal", True)
        assert [session.in_flight for session in server.broker.sessions.open] == [0]
        monkeypatch.undo()
        again = await joe.pub("_mail/@ALL", {"body": "x"}, id="r")
        assert (again["op"], again["dup"]) == ("ok", True)
    assert await who_has(http, "x") == list(NAMES)


@pytest.mark.slow
async def test_a_broker_that_is_killed_among_the_copies_leaves_nobody_out(tmp_path: Path) -> None:
    """More agents than copies go out at once, and SIGKILL as soon as the first of them has its own."""
    names = [f"agent-{number}" for number in range(to_all.COPIES_AT_ONCE + 100)]
    data = tmp_path / "data"
    async with broker_process(data) as broker:
        async with client_of(broker.port) as http:
            for begin in range(0, len(names), 50):
                await asyncio.gather(
                    *(http.post("/v1/agents", json={"agent": name}) for name in names[begin : begin + 50])
                )
            first = asyncio.create_task(http.get(f"/api/inbox/{names[0]}", params={"wait": 30}))
            sending = asyncio.create_task(send(http, "x", id="r"))
            assert len((await first).json()["messages"]) == 1
            broker.kill()
            assert not sending.done(), "it was answered: the kill came too late to mean anything"
            await asyncio.gather(sending, return_exceptions=True)
        before = sum(isinstance(each.record, Message) for each in dump(data, "agents/*"))
        assert 0 < before < len(names), "not in the middle"
        broker.start()
        await broker.wait_ready()
        async with client_of(broker.port) as http:
            again = (await send(http, "x", id="r")).json()
            assert (again["dup"], again["recipients"]) == (True, len(names))
            for begin in range(0, len(names), 50):
                pages = [http.get(f"/api/inbox/{name}") for name in names[begin : begin + 50]]
                for answer in await asyncio.gather(*pages):
                    assert [mail["body"] for mail in answer.json()["messages"]] == ["x"]


def _data(body: str) -> msgspec.Raw:
    return msgspec.Raw(b'{"to":"ALL","subject":"","body":"%b"}' % body.encode())
