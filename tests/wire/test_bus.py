"""The simple bus: mail over HTTP and over the socket, against a broker that listens."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.wire import wire_client
from hubbub_broker.bus.to_all import ToAll
from hubbub_broker.server import Server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:
        yield client


async def send(http: httpx.AsyncClient, to: str, body: Any = "b", **fields: Any) -> dict[str, Any]:
    answer = await http.post("/api/send", json={"from": "joe", "to": to, "subject": "s", "body": body, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def read(http: httpx.AsyncClient, agent: str, **query: Any) -> list[Any]:
    answer = await http.get(f"/api/inbox/{agent}", params=query)
    assert answer.status_code == 200, answer.text
    return [message["body"] for message in answer.json()["messages"]]


async def curl(*arguments: str) -> Any:
    """What curl prints, as JSON."""
    process = await asyncio.create_subprocess_exec("curl", "-sS", *arguments, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return json.loads(out)


class TestCurl:
    async def test_the_two_lines_work_as_they_stand(self, server: Server) -> None:
        base = f"http://127.0.0.1:{server.port}"
        assert (await curl(f"{base}/api/inbox/jack?mark_read=true", "-H", "X-Bus-Token: TOKEN"))["messages"] == []
        sent = await curl(
            *("-X", "POST", f"{base}/api/send", "-H", "Content-Type: application/json", "-H", "X-Bus-Token: TOKEN"),
            *("-d", '{"from":"joe","to":"jack","subject":"Task","body":"Handle blog publishing"}'),
        )
        assert (sent["to"], sent["seq"]) == ("jack", 1)
        inbox = await curl(f"{base}/api/inbox/jack?mark_read=true", "-H", "X-Bus-Token: TOKEN")
        (message,) = inbox["messages"]
        assert (inbox["agent"], inbox["remaining"]) == ("jack", 0)
        assert {name: message[name] for name in ("id", "from", "to", "subject", "body")} == {
            "id": sent["id"],
            "from": "joe",
            "to": "jack",
            "subject": "Task",
            "body": "Handle blog publishing",
        }
        assert isinstance(message["timestamp"], float)
        assert (await curl(f"{base}/api/inbox/jack?mark_read=true", "-H", "X-Bus-Token: TOKEN"))["messages"] == []


class TestSend:
    async def test_mail_to_a_name_that_nobody_registered_is_refused_unless_it_is_to_be_kept(
        self, http: httpx.AsyncClient
    ) -> None:
        answer = await http.post("/api/send", json={"from": "joe", "to": "jack"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert "create" in answer.json()["message"]
        await send(http, "jack", "kept", create=True)
        assert await read(http, "jack") == ["kept"]

    async def test_the_same_id_is_sent_once(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        first = await send(http, "jack", id="m1")
        second = await send(http, "jack", id="m1")
        assert (first["seq"], second["seq"], second["dup"]) == (1, 1, True)
        answer = await http.post("/api/send", json={"from": "joe", "to": "jack"}, headers={"Idempotency-Key": "m1"})
        assert answer.json()["dup"] is True
        assert await read(http, "jack") == ["b"]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{}",
            b"[]",
            b'{"from":"joe"}',
            b'{"from":"a b","to":"jack"}',
            b'{"from":"joe","to":"a/b","create":true}',
            b'{"from":"joe","to":"jack","colour":1}',
            b'{"from":"joe","to":"jack","id":"' + b"x" * 300 + b'"}',
            b"\xff",
        ],
    )
    async def test_what_is_no_mail_is_refused(self, http: httpx.AsyncClient, body: bytes) -> None:
        answer = await http.post("/api/send", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == "bad_request"

    async def test_all_is_everybody_but_the_sender_those_offline_too(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        await http.post("/v1/agents", json={"agent": "ann", "group": "other"})
        for name in ("joe", "jack"):
            await read(http, name)
        async with connect("eve"):
            sent = await send(http, "ALL", "hear", id="all-1")
            again = await send(http, "ALL", "hear", id="all-1")
        assert (sent["recipients"], again["recipients"], again["dup"]) == (3, 3, True)
        for name in ("ann", "jack", "eve"):
            assert await read(http, name) == ["hear"]
        assert await read(http, "joe") == []

    async def test_all_is_finished_by_the_next_broker_if_the_first_one_dies_in_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                for name in ("ann", "jack"):
                    await read(http, name)
                begun = asyncio.Event()

                async def never(*_: object) -> None:
                    begun.set()
                    await asyncio.Event().wait()

                monkeypatch.setattr(ToAll, "_deliver", never)
                sending = asyncio.create_task(http.post("/api/send", json={"from": "joe", "to": "ALL", "id": "r"}))
                await asyncio.wait_for(begun.wait(), 10)
                sending.cancel()
        monkeypatch.undo()
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                for name in ("ann", "jack"):
                    assert await read(http, name, wait=5) == [""]
                answer = await http.post("/api/send", json={"from": "joe", "to": "ALL", "id": "r"})
                assert answer.json()["dup"] is True
                for name in ("ann", "jack"):
                    assert await read(http, name) == [""]
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                await read(http, "late")  # was not there when it was sent
                answer = await http.post("/api/send", json={"from": "joe", "to": "ALL", "id": "r"})
                assert (answer.json()["dup"], answer.json()["recipients"]) == (True, 2)
                assert await read(http, "late") == []


class TestInbox:
    async def test_reading_alone_marks_nothing(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        for number in range(3):
            await send(http, "jack", number)
        assert await read(http, "jack") == await read(http, "jack") == [0, 1, 2]

    async def test_pages(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        for number in range(5):
            await send(http, "jack", number)
        answer = (await http.get("/api/inbox/jack", params={"limit": 2})).json()
        assert ([message["body"] for message in answer["messages"]], answer["remaining"]) == ([0, 1], 3)
        assert await read(http, "jack", limit=2, after=answer["messages"][-1]["seq"]) == [2, 3]
        assert await read(http, "jack", limit=2, mark_read=True) == [0, 1]
        assert await read(http, "jack") == [2, 3, 4]

    async def test_single_messages_are_marked_by_id_or_seq(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        ids = [(await send(http, "jack", number))["id"] for number in range(4)]
        answer = await http.post("/api/inbox/jack/read", json={"ids": [ids[1], "none"], "seqs": [4]})
        assert answer.json() == {"marked": 2}
        assert await read(http, "jack") == [0, 2]
        assert (await http.post("/api/inbox/jack/read", json={"ids": [ids[1]]})).json() == {"marked": 0}
        assert (await http.post("/api/inbox/jack/read", json={"seqs": [9]})).status_code == 400

    async def test_an_id_of_two_senders_marks_as_many_as_are_named_oldest_first(self, http: httpx.AsyncClient) -> None:
        """Who has read only the first must not lose the second."""
        await read(http, "jack")
        for sender in ("joe", "ann"):
            await send(http, "jack", sender, **{"from": sender, "id": "same"})
        for left in (["ann"], []):
            assert (await http.post("/api/inbox/jack/read", json={"ids": ["same"]})).json() == {"marked": 1}
            assert await read(http, "jack") == left
        for sender in ("joe", "ann"):
            await send(http, "jack", sender, **{"from": sender, "id": "both"})
        assert (await http.post("/api/inbox/jack/read", json={"ids": ["both", "both"]})).json() == {"marked": 2}

    async def test_it_waits_for_mail(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        waiting = asyncio.create_task(read(http, "jack", wait=10, mark_read=True))
        await send(http, "jack", "there")
        assert await waiting == ["there"]
        assert await read(http, "jack", wait=0.05) == []
        assert (await http.get("/api/inbox/jack", params={"wait": 1e6})).status_code == 400

    async def test_what_is_marked_stays_marked_over_a_restart(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                await read(http, "jack")
                for number in range(3):
                    await send(http, "jack", number)
                assert await read(http, "jack", mark_read=True, limit=2) == [0, 1]
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                assert await read(http, "jack") == [2]

    async def test_what_a_socket_has_in_work_is_not_read_and_what_is_read_comes_to_no_socket(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        async with connect() as jack:
            inbox = (await jack.hello("jack", groups=["research"]))["inbox"]
            assert inbox == "research/@jack"
            await send(http, "jack", "first")
            assert await read(http, "jack", mark_read=True) == ["first"]
            await send(http, "jack", "second")
            await jack.ask("sub", topic=inbox, consumer="inbox", max_unacked=1, **{"from": "all"})
            message = await jack.until("msg")
            assert message["data"] == {"to": "jack", "subject": "s", "body": "second"}
            assert (await http.get("/api/inbox/jack")).json()["remaining"] == 0  # what a poller could get
            await send(http, "jack", "third")
            assert await read(http, "jack", mark_read=True) == ["third"]
            await jack.ask("ack", topic=inbox, consumer="inbox", seq=message["seq"])
            assert await read(http, "jack") == []

    @pytest.mark.parametrize("by", ["ids", "seqs"])
    async def test_what_a_socket_has_in_work_can_be_marked_by_id_and_by_seq(
        self, http: httpx.AsyncClient, connect: Any, by: str
    ) -> None:
        await read(http, "jack")
        sent = await send(http, "jack", id="m1")
        async with connect("jack") as jack:
            await jack.ask("sub", topic="agents/@jack", consumer="inbox")
            assert (await jack.until("msg"))["id"] == "m1"
            named = {"ids": ["m1"]} if by == "ids" else {"seqs": [sent["seq"]]}
            assert (await http.post("/api/inbox/jack/read", json=named)).json() == {"marked": 1}
            assert (await http.post("/api/inbox/jack/read", json=named)).json() == {"marked": 0}
        async with connect("jack") as jack:
            await jack.ask("sub", topic="agents/@jack", consumer="inbox")
            await send(http, "jack", id="m2")
            assert (await jack.until("msg"))["id"] == "m2"

    @pytest.mark.parametrize("start", [{}, {"from": "new"}, {"from": {"last": 0}}])
    async def test_a_socket_that_does_not_say_from_where_gets_what_is_unread(
        self, http: httpx.AsyncClient, connect: Any, start: dict[str, Any]
    ) -> None:
        """The consumer `inbox` is the read mark: to begin later would mark what nobody has read."""
        await http.post("/v1/agents", json={"agent": "kim"})
        await send(http, "kim", "waiting")
        async with connect("kim") as kim:
            assert (await kim.ask("sub", topic="agents/@kim", consumer="inbox", **start))["next"] == 1
            assert (await kim.until("msg"))["data"]["body"] == "waiting"

    async def test_two_who_pull_at_once_share_the_mail(self, http: httpx.AsyncClient) -> None:
        await read(http, "jack")
        for number in range(40):
            await send(http, "jack", number)
        pulls = await asyncio.gather(*(read(http, "jack", mark_read=True, limit=3) for _ in range(20)))
        assert sorted(body for pull in pulls for body in pull) == list(range(40))

    async def test_what_was_published_to_the_inbox_is_shown_too(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect() as joe:
            await joe.hello("joe", groups=["g"])
            await joe.pub("g/@joe", {"q": 1}, type="question")
            await joe.send_binary(b"\x00", topic="g/@joe", id="b")
            await joe.until("ok", id="b")
        found = (await http.get("/api/inbox/joe")).json()["messages"]
        assert [(each["type"], each["body"]) for each in found] == [
            ("question", {"q": 1}),
            (None, {"data_base64": "AA=="}),
        ]


class TestOverTheSocket:
    async def test_mail_goes_to_wherever_the_inbox_is(self, http: httpx.AsyncClient, connect: Any) -> None:
        await http.post("/v1/agents", json={"agent": "jack", "group": "far"})
        async with connect("joe") as joe:
            ok = await joe.pub("_mail/@jack", {"to": "jack", "subject": "s", "body": "b"}, n=1)
            assert (ok["topic"], ok["seq"]) == ("far/@jack", 1)
            assert (await joe.pub("_mail/@jack", {"to": "jack", "body": "c"}, n=2))["seq"] == 2
            assert (await joe.pub("_mail/@nobody", {}))["code"] == "not_found"
            assert (await joe.pub("_mail/@new", {"body": 1}, headers={"create": True}))["op"] == "ok"
            assert (await joe.pub("_mail/x", {}))["code"] == "forbidden"
        assert await read(http, "jack") == ["b", "c"]
        assert await read(http, "new") == [1]

    async def test_and_to_all(self, http: httpx.AsyncClient, connect: Any) -> None:
        await read(http, "jack")
        async with connect("joe") as joe:
            ok = await joe.pub("_mail/@ALL", {"to": "ALL", "subject": "s", "body": "b"}, id="x")
            assert ok["topic"] == "_mail/@ALL"
        assert await read(http, "jack") == ["b"]
        assert await read(http, "joe") == []

    @pytest.mark.parametrize("options", [{"publish_rate": 1, "publish_burst": 1}], indirect=True)
    async def test_mails_to_all_keep_their_order_over_refusals(self, http: httpx.AsyncClient, connect: Any) -> None:
        await read(http, "jack")
        async with connect() as joe:
            await joe.hello("joe", session="s")
            assert (await joe.pub("_mail/@ALL", {"body": 1}, n=1))["op"] == "ok"
            refusals = [await joe.pub("_mail/@ALL", {"body": n}, n=n, id=f"i{n}") for n in (2, 3)]
            assert [refusal["code"] for refusal in refusals] == ["rate_limited", "rate_limited"]
            await asyncio.sleep(refusals[1]["retry_after"])  # what it asks for
            early = await joe.pub("_mail/@ALL", {"body": 3}, n=3, id="i3")
            assert (early["code"], early["expect"]) == ("order", 2)
            for n in (2, 3):
                answer = await joe.pub("_mail/@ALL", {"body": n}, n=n, id=f"i{n}")
                while answer["op"] == "err":
                    assert answer["code"] == "rate_limited"
                    await asyncio.sleep(answer["retry_after"])
                    answer = await joe.pub("_mail/@ALL", {"body": n}, n=n, id=f"i{n}")
        assert await read(http, "jack") == [1, 2, 3]

    async def test_a_mail_to_all_keeps_its_headers_and_expires(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("ann") as ann, connect("joe") as joe:
            await ann.ask("sub", topic="agents/@ann", consumer="inbox", **{"from": "all"})
            await joe.pub("_mail/@ALL", {"to": "ALL", "body": 1}, headers={"in_reply_to": "x"}, ttl=0.2)
            message = await ann.until("msg")
            assert message["headers"] == {"in_reply_to": "x", "broadcasts": 1}
            await ann.ask("nack", topic="agents/@ann", consumer="inbox", seq=message["seq"], delay=0.5)
            dead = await ann.sub("agents/_dead", from_="all")
            assert dead["op"] == "ok"
            assert (await ann.until("msg", topic="agents/_dead"))["headers"]["dead"]["reason"] == "expired"


class TestAgents:
    async def test_who_says_hello_is_registered_and_online_while_it_is(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        async with connect("joe"):
            (joe,) = (await http.get("/v1/agents")).json()["agents"]
            assert (joe["agent"], joe["group"], joe["online"]) == ("joe", "agents", True)
        async with asyncio.timeout(10):
            while (await http.get("/v1/agents/joe")).json()["online"]:  # noqa: ASYNC110 - over HTTP there is no event
                await asyncio.sleep(0.01)  # the broker hears of the closed socket a moment later
        gone = (await http.get("/v1/agents/joe")).json()
        assert gone["seen"] >= joe["seen"] - 1

    async def test_they_are_found_by_what_they_can_do(self, http: httpx.AsyncClient) -> None:
        for name, can in (("a", ["search"]), ("b", ["search", "sum"]), ("c", [])):
            await http.post("/v1/agents", json={"agent": name, "capabilities": can, "description": name * 3})
        found = (await http.get("/v1/agents", params={"capability": "search"})).json()
        assert [agent["agent"] for agent in found["agents"]] == ["a", "b"]
        await http.post("/v1/agents", json={"agent": "a", "capabilities": ["sum"]})
        found = (await http.get("/v1/agents", params={"capability": "search"})).json()
        assert [agent["agent"] for agent in found["agents"]] == ["b"]
        assert (await http.get("/v1/agents/a")).json()["description"] == "aaa"

    async def test_and_by_what_they_say_in_their_hello(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect() as joe:
            await joe.hello("joe", capabilities=["search", "sum", "sum"], description="finds things")
        async with connect("joe"):  # who says nothing changes nothing
            (found,) = (await http.get("/v1/agents", params={"capability": "sum"})).json()["agents"]
        assert (found["capabilities"], found["description"]) == (["search", "sum"], "finds things")
        async with connect() as joe:
            await joe.hello("joe", capabilities=[])
            assert (await http.get("/v1/agents", params={"capability": "sum"})).json()["agents"] == []

    @pytest.mark.parametrize(
        "card", [{"capabilities": ["x"] * 101}, {"capabilities": [""]}, {"description": "x" * 5000}]
    )
    async def test_a_card_has_limits_at_every_door(
        self, http: httpx.AsyncClient, connect: Any, card: dict[str, Any]
    ) -> None:
        async with connect() as joe:
            assert (await joe.ask("hello", agent="joe", **card))["code"] == "bad_request"
        assert (await http.post("/v1/agents", json={"agent": "joe", **card})).status_code == 400
        assert (await http.get("/v1/agents/joe")).status_code == 404

    async def test_who_is_unregistered_stays_so_when_its_socket_closes(
        self, server: Server, http: httpx.AsyncClient, connect: Any
    ) -> None:
        async with connect("joe"):
            assert (await http.delete("/v1/agents/joe")).status_code == 204
        async with asyncio.timeout(10):
            while server.broker.sessions.open:  # noqa: ASYNC110 - a closed socket is no event here
                await asyncio.sleep(0.01)
        assert (await http.get("/v1/agents/joe")).status_code == 404

    async def test_the_group_stays_and_unregistering_forgets(self, http: httpx.AsyncClient) -> None:
        await http.post("/v1/agents", json={"agent": "a", "group": "one"})
        assert (await http.post("/v1/agents", json={"agent": "a", "group": "two"})).status_code == 409
        assert (await http.delete("/v1/agents/a")).status_code == 204
        assert (await http.delete("/v1/agents/a")).status_code == 404
        assert (await http.get("/v1/agents/a")).status_code == 404
        assert (await http.post("/v1/agents", json={"agent": "a", "group": "two"})).status_code == 200

    async def test_the_register_survives_a_restart(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                await http.post("/v1/agents", json={"agent": "a", "group": "one", "capabilities": ["x"]})
                await http.post("/v1/agents", json={"agent": "b"})
                await http.delete("/v1/agents/b")
        async with serving(tmp_path / "data") as server:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
                found = (await http.get("/v1/agents", params={"capability": "x"})).json()["agents"]
                assert [(agent["agent"], agent["inbox"]) for agent in found] == [("a", "one/@a")]
                assert (await http.get("/v1/agents")).json()["total"] == 1


class TestPresence:
    async def test_those_who_are_there_hear_who_comes_and_goes(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("ann") as ann:
            await ann.sub("g/room")
            assert (await ann.ask("join", topic="g/room"))["present"] == ["ann"]
            await ann.until("msg", type="presence")
            async with connect("joe") as joe:
                assert (await joe.ask("join", topic="g/room"))["present"] == ["ann", "joe"]
                assert (await joe.ask("join", topic="g/room"))["present"] == ["ann", "joe"]
                assert (await ann.until("msg"))["data"] == {"event": "join", "agent": "joe"}
                assert (await http.get("/v1/topics/g/room/presence")).json()["agents"] == ["ann", "joe"]
                await joe.ask("leave", topic="g/room")
                await joe.ask("leave", topic="g/room")
                assert (await ann.until("msg"))["data"] == {"event": "leave", "agent": "joe"}
                await joe.ask("join", topic="g/room")
                assert (await ann.until("msg"))["data"] == {"event": "join", "agent": "joe"}
            assert (await ann.until("msg"))["data"] == {"event": "leave", "agent": "joe"}
            await ann.ask("unsub", topic="g/room")
            assert (await http.get("/v1/topics/g/room/presence")).json()["agents"] == ["ann"]
            await ann.ask("leave", topic="g/room")
            assert (await http.get("/v1/topics/g/room/presence")).json()["agents"] == []

    async def test_two_connections_of_one_agent_are_one_presence(self, connect: Any) -> None:
        async with connect("ann") as ann, connect("joe") as joe:
            await ann.sub("g/room")
            await joe.ask("join", topic="g/room")
            assert (await ann.until("msg"))["data"] == {"event": "join", "agent": "joe"}
            async with connect("joe") as twin:
                await twin.ask("join", topic="g/room")
            await joe.ask("leave", topic="g/room")
            assert (await ann.until("msg"))["data"] == {"event": "leave", "agent": "joe"}

    @pytest.mark.parametrize("options", [{"max_subscriptions": 2}], indirect=True)
    async def test_a_connection_is_present_in_so_many_topics(self, connect: Any) -> None:
        async with connect("ann") as ann:
            for topic in ("g/a", "g/b"):
                assert (await ann.ask("join", topic=topic))["op"] == "ok"
            refusal = await ann.ask("join", topic="g/c")
            assert (refusal["code"], "max_subscriptions" in refusal["message"]) == ("overloaded", True)
            await ann.ask("leave", topic="g/a")
            assert (await ann.ask("join", topic="g/c"))["op"] == "ok"
            assert (await ann.ask("join", topic="g/*"))["code"] == "bad_request"


class TestWills:
    async def test_it_is_said_for_who_drops_but_not_for_who_closes_or_comes_back(self, connect: Any) -> None:
        will = {"topic": "g/room", "data": {"gone": True}, "delay": 0.05}
        async with connect("ann") as ann:
            await ann.sub("g/room")
            await ann.until("live")
            async with connect() as closes:
                await closes.hello("closes", will=will)
            async with connect() as back:
                await back.hello("back", will=will)
                back.socket.transport.abort()
                async with connect() as again:
                    await again.hello("back", will=will)
                    async with connect() as drops:
                        await drops.hello("drops", will=will)
                        drops.socket.transport.abort()
                        message = await ann.until("msg")
                        assert (message["from"], message["data"], message["type"]) == ("drops", {"gone": True}, "will")
                        assert message["seq"] == 1
            await ann.silent()

    @pytest.mark.parametrize("will", [{"topic": "_x/y"}, {"topic": "g/a", "delay": -1}, {"topic": "g/*"}, {}])
    async def test_a_will_that_makes_no_sense_is_refused(self, connect: Any, will: dict[str, Any]) -> None:
        async with connect() as joe:
            assert (await joe.ask("hello", agent="joe", will=will))["op"] == "err"

    async def test_a_refused_will_is_never_said(self, server: Server, connect: Any) -> None:
        async with connect("ann") as ann:
            await ann.sub("_x/y")
            await ann.until("live")
            async with connect() as joe:
                will = {"topic": "_x/y", "data": "forged", "delay": 0, "ephemeral": True}
                assert (await joe.ask("hello", agent="joe", will=will))["code"] == "forbidden"
                joe.socket.transport.abort()
            async with asyncio.timeout(10):
                while len(server.broker.sessions.open) > 1:  # noqa: ASYNC110 - a closed socket is no event here
                    await asyncio.sleep(0.01)
            await ann.silent()


class TestStream:
    async def test_a_topic_as_events_that_go_on_where_they_were_left(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        async with connect("joe") as joe:
            for number in range(3):
                await joe.pub("g/t", number)
            events = await self.take(http, 3, params={"after": 0})
            assert [json.loads(event["data"])["data"] for event in events] == [0, 1, 2]
            last = {"Last-Event-ID": events[1]["id"]}
            taking = asyncio.create_task(self.take(http, 2, headers=last))
            await joe.pub("g/t", 3)
            assert [json.loads(event["data"])["data"] for event in await taking] == [2, 3]

    async def test_signals_come_too_and_have_no_id(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("joe") as joe, http.stream("GET", "/v1/topics/g/t/stream") as response:
            lines = response.aiter_lines()
            await anext(lines)  # a sign of life: it listens
            await joe.pub("g/t", "psst", ephemeral=True)
            await joe.pub("g/t", "kept")
            found = [event async for event in self.events(lines, 2)]
        assert [(json.loads(event["data"])["data"], "id" in event) for event in found] == [
            ("psst", False),
            ("kept", True),
        ]

    async def test_another_history_is_told(self, http: httpx.AsyncClient, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.pub("g/t", 1)
            first, second = await self.take(http, 2, headers={"Last-Event-ID": "other:7"})
        assert (first["event"], json.loads(first["data"])["reason"]) == ("gap", "reset")
        assert json.loads(second["data"])["data"] == 1

    async def test_who_is_cut_off_before_the_first_message_misses_nothing(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        """The stream begins with an id, which is no event."""
        async with connect("joe") as joe:
            await joe.pub("g/t", "before")
            async with http.stream("GET", "/v1/topics/g/t/stream") as response:
                lines = response.aiter_lines()
                begin = [await anext(lines) for _ in range(3)]
            assert (begin[0], begin[2]) == (": here", "")
            name, _, id = begin[1].partition(": ")
            assert (name, id.rpartition(":")[2]) == ("id", "1")
            await joe.pub("g/t", "while it was cut")
            (event,) = await self.take(http, 1, headers={"Last-Event-ID": id})
        assert json.loads(event["data"])["data"] == "while it was cut"

    async def test_after_another_history_it_stands_at_the_beginning_of_this_one(
        self, http: httpx.AsyncClient, connect: Any
    ) -> None:
        async with connect("joe") as joe:
            await joe.pub("g/t", 1)
            (reset,) = await self.take(http, 1, headers={"Last-Event-ID": "other:7"})
            (event,) = await self.take(http, 1, headers={"Last-Event-ID": reset["id"]})
        assert (event["event"], json.loads(event["data"])["data"]) == ("msg", 1)

    async def test_what_is_no_place_is_refused(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/v1/topics/g/t/stream", headers={"Last-Event-ID": "x"})
        assert answer.status_code == 400
        assert (await http.get("/v1/topics/g/stream")).status_code == 400

    @pytest.mark.parametrize("options", [{"max_streams": 1}], indirect=True)
    async def test_there_are_only_so_many(self, http: httpx.AsyncClient) -> None:
        async with http.stream("GET", "/v1/topics/g/t/stream"):
            assert (await http.get("/v1/topics/g/t/stream")).status_code == 503

    async def test_a_stopping_broker_does_not_wait_for_them(self, tmp_path: Path) -> None:
        async with serving(tmp_path / "data", shutdown_grace=30) as server:
            client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20)
            async with client, client.stream("GET", "/v1/topics/g/t/stream") as response:
                async with asyncio.timeout(10):
                    stopping = asyncio.create_task(server.stop())
                    async for _ in response.aiter_lines():
                        pass
                    await stopping

    async def take(self, http: httpx.AsyncClient, count: int, **options: Any) -> list[dict[str, str]]:
        async with http.stream("GET", "/v1/topics/g/t/stream", **options) as response:
            return [event async for event in self.events(response.aiter_lines(), count)]

    async def events(self, lines: AsyncIterator[str], count: int) -> AsyncIterator[dict[str, str]]:
        event: dict[str, str] = {}
        async for line in lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value
            else:
                if "data" in event:  # without it is no event, though its id counts
                    yield event
                    count -= 1
                    if not count:
                        return
                event = {}


async def test_two_sockets_and_a_poller_share_one_inbox(server: Server, http: httpx.AsyncClient) -> None:
    """100 mails: each is read once, whoever gets it."""
    await read(http, "jack")
    seen: list[int] = []
    everything = asyncio.Event()

    def got(body: int) -> None:
        seen.append(body)
        if len(seen) >= 100:
            everything.set()

    async def hold() -> None:
        async with wire_client(url_of(server), "jack") as jack:
            await jack.ask("sub", topic="agents/@jack", consumer="inbox", max_unacked=4)
            while True:
                message = await jack.until("msg")
                await jack.ask("ack", topic="agents/@jack", consumer="inbox", seq=message["seq"])
                got(message["data"]["body"])

    async def poll() -> None:
        while True:
            for body in await read(http, "jack", mark_read=True, limit=5, wait=1):
                got(body)

    tasks = [asyncio.create_task(each) for each in (hold(), hold(), poll())]
    for number in range(100):
        await send(http, "jack", number)
    await asyncio.wait_for(everything.wait(), 30)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(seen) == list(range(100))
