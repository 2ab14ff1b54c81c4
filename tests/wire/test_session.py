"""Connections: who it is, what keeps it alive, what ends it, and with which code."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import httpx
import pytest
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import InvalidStatus

from harness.broker import url_of
from harness.log_capture import captured_log
from harness.until import until
from harness.wire import wire_client
from hubbub import Agent, Backoff
from hubbub_broker.server import Server
from hubbub_broker.session import intake
from hubbub_broker.session.sessions import SURPLUS_LEAST
from hubbub_protocol.errors import CloseCode


class TestHello:
    async def test_welcome_tells_the_limits(self, connect: Any) -> None:
        async with connect() as joe:
            welcome = await joe.hello("joe", rid=1)
            assert welcome["rid"] == 1
            assert welcome["session"]
            assert welcome["server"].startswith("hubbub/")
            assert welcome["heartbeat"] == 30.0
            assert welcome["limits"]["max_frame"] == 2**20
            assert welcome["limits"]["max_inflight"] == 4096

    async def test_the_name_may_stand_in_the_address(self, server: Server) -> None:
        async with wire_client(url_of(server) + "?agent=joe") as joe, wire_client(url_of(server) + "?agent=ann") as ann:
            await ann.sub("g/c")
            await joe.pub("g/c", 1)
            assert (await ann.messages(1))[0]["from"] == "joe"

    @pytest.mark.parametrize("agent", ["", "a b", "a/b", "x" * 128, "*"])
    async def test_a_bad_name_is_refused(self, connect: Any, agent: str) -> None:
        async with connect() as client:
            await client.send("hello", agent=agent, rid=1)
            await client.expect("err", rid=1, code="bad_request")
            await client.hello("joe")

    async def test_more_groups_than_anybody_works_in_are_refused(self, connect: Any) -> None:
        """Each is looked at: hundreds of thousands in one line would hold everybody up."""
        async with connect() as client:
            await client.send("hello", agent="joe", groups=[f"g{number}" for number in range(1001)], rid=1)
            refused = await client.expect("err", rid=1, code="bad_request")
            assert "1000 groups at most" in refused["message"]
            await client.hello("joe")

    async def test_a_bad_name_in_the_address_closes(self, server: Server) -> None:
        async with wire_client(url_of(server) + "?agent=a%20b") as client:
            assert await client.closed() == 4500

    async def test_it_can_be_said_again_but_not_as_another(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.hello("joe")
            await joe.send("hello", agent="ann", rid=1)
            await joe.expect("err", rid=1, code="bad_request")

    @pytest.mark.parametrize("options", [{"hello_timeout": 0.05}], indirect=True)
    async def test_who_says_nothing_is_closed(self, connect: Any) -> None:
        async with connect() as nobody, connect("joe") as joe:
            assert await nobody.closed() == 4500
            await joe.silent()

    async def test_a_newer_connection_of_the_same_session_replaces_the_older(self, connect: Any) -> None:
        async with connect() as old, connect() as new, connect("joe") as other:
            await old.hello("joe", session="life")
            await new.hello("joe", session="life")
            assert await old.closed() == 4509
            await new.silent()
            await other.silent()


async def test_ping_is_answered(connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.send("ping", rid="p")
        await joe.expect("pong", rid="p")
        await joe.send("ping")
        await joe.expect("pong")


@pytest.mark.parametrize("op", ["ack", "nack", "extend", "term"])
async def test_a_consumer_that_there_is_not_is_said_so(connect: Any, op: str) -> None:
    async with connect("joe") as joe:
        await joe.send(op, topic="g/c", consumer="w", seq=1, rid=1)
        assert "consumer" in (await joe.expect("err", rid=1, code="not_found"))["message"]


class TestHandshake:
    async def test_the_subprotocol_is_optional_and_named(self, server: Server) -> None:
        async with open_socket(url_of(server), subprotocols=["other", "hubbub.v1"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "hubbub.v1"
        async with open_socket(url_of(server)) as socket:
            assert socket.subprotocol is None

    async def test_another_subprotocol_alone_is_not_ours(self, server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        )
        response = await reader.readuntil(b"\r\n\r\n")
        assert response.startswith(b"HTTP/1.1 101")
        close = await reader.readexactly(4)
        assert int.from_bytes(close[2:4], "big") == 4501
        writer.close()

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
    async def test_a_page_of_another_host_is_refused(self, server: Server, origin: str) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(url_of(server), origin=origin)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
        assert server.broker.metrics.connections_refused == {"origin": 1}

    async def test_a_page_of_this_host_is_welcome(self, server: Server) -> None:
        async with open_socket(url_of(server), origin="http://localhost:3000") as socket:  # type: ignore[arg-type]
            assert socket.response is not None

    async def test_another_path_is_not_found(self, server: Server) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await open_socket(url_of(server).replace("/v1/ws", "/ws"))
        assert refused.value.response.status_code == 404

    @pytest.mark.parametrize("options", [{"max_connections": 2}], indirect=True)
    async def test_connections_are_bounded(self, connect: Any, server: Server) -> None:
        async with connect("a"), connect("b"):
            async with connect() as third:
                await third.send("hello", agent="c", session="new")
                assert await third.closed() == 1013  # try again later: no fault of this client's
                assert "max_connections" in (third.socket.close_reason or "")
            assert server.broker.metrics.connections_refused == {"max_connections": 1}
        async with asyncio.timeout(10):
            await server.broker.sessions.all_gone()
        async with connect("c") as later:
            await later.silent()

    @pytest.mark.parametrize("options", [{"max_connections": 2}], indirect=True)
    async def test_whoever_replaces_a_connection_of_its_own_finds_a_place_at_the_limit(
        self, connect: Any, server: Server
    ) -> None:
        async with connect() as half_open, connect("b"), connect() as back:
            await half_open.hello("joe", session="life-1")
            await back.hello("joe", session="life-1")
            assert await half_open.closed() == 4509
            await back.silent()
            assert not server.broker.metrics.connections_refused

    @pytest.mark.parametrize("options", [{"max_connections": 2}], indirect=True)
    @pytest.mark.parametrize("life", ["life-2", None])
    async def test_another_life_of_the_same_agent_does_not(self, connect: Any, life: str | None) -> None:
        async with connect() as first, connect("b"), connect() as other:
            await first.hello("joe", session="life-1")
            await other.send("hello", agent="joe", session=life)
            assert await other.closed() == 1013
            await first.silent()

    @pytest.mark.parametrize("options", [{"max_connections": 2}], indirect=True)
    async def test_beyond_the_limit_nothing_is_done_before_hello(self, server: Server, connect: Any) -> None:
        async with connect("a"), connect("b"):
            async with wire_client(url_of(server) + "?agent=c") as third:
                await third.send("pub", topic="g/c", id="i", data=1)
                assert await third.closed() == 1013
            async with connect() as silent:
                assert await silent.closed() == 1013

    @pytest.mark.parametrize("options", [{"max_connections": 2}], indirect=True)
    async def test_handshakes_beyond_the_limit_are_bounded_too(self, server: Server, connect: Any) -> None:
        async with connect("a"), connect("b"), AsyncExitStack() as stack:
            waiting = [await stack.enter_async_context(connect()) for _ in range(SURPLUS_LEAST)]
            async with connect() as one_too_many:
                assert await one_too_many.closed() == 1013
            assert {client.socket.close_code for client in waiting} == {None}

    @pytest.mark.parametrize("options", [{"max_connections": 1}], indirect=True)
    async def test_an_agent_that_finds_no_place_comes_back_until_there_is_one(
        self, server: Server, connect: Any
    ) -> None:
        url = url_of(server).removesuffix("/v1/ws")
        async with connect("a") as first, asyncio.timeout(10):
            async with Agent("joe", group="g", url=url, local=False, backoff=Backoff(0.01, 0.05)) as joe:
                await until(lambda: bool(server.broker.metrics.connections_refused))
                await first.socket.close()
                assert (await joe.publish("c", 1)).seq == 1


class TestRefusals:
    OPTIONS: ClassVar[dict[str, Any]] = {
        "hold_seconds": 600,
        "max_inflight": 1,
        "max_subscriptions": 1,
        "publish_rate": 0.001,
        "publish_burst": 2,
        "max_frame": 8192,
    }

    @pytest.mark.parametrize("options", [OPTIONS], indirect=True)
    async def test_what_a_limit_refuses_is_counted_and_logged_under_its_name(
        self, server: Server, connect: Any
    ) -> None:
        metrics = server.broker.metrics
        with captured_log("warning") as log:
            async with connect("joe") as joe:
                await joe.send("pub", topic="g/c", id="a", data="s3cr3t", parent="never")
                assert (await joe.pub("g/c", 2))["code"] == "overloaded"
                await joe.sub("g/c")
                assert (await joe.ask("sub", topic="g/d"))["code"] == "overloaded"
                assert (await joe.ask("unsub", topic="g/d"))["code"] == "not_found"
            async with connect("ann") as ann:
                for _ in range(2):
                    await ann.pub("g/c", "s3cr3t")
                assert (await ann.pub("g/c", "s3cr3t"))["code"] == "rate_limited"
                assert (await ann.pub("g/c", "x" * 8100))["code"] in ("too_large", "rate_limited")
                await ann.socket.send("x" * 9000)
                assert await ann.closed() == 1009
        assert metrics.publishes_refused["max_inflight"] == 1
        assert metrics.publishes_refused["publish_rate"] >= 1
        assert metrics.requests_refused == {"max_subscriptions": 1, "not_found": 1}
        lines = [line for line in log.read() if line["event"] == "refused"]
        assert {(line["level"], line["client"], line["limit"]) for line in lines} >= {
            ("warning", "joe", "max_inflight"),
            ("warning", "joe", "max_subscriptions"),
            ("warning", "ann", "publish_rate"),
            ("warning", "ann", "max_frame"),
        }
        assert "s3cr3t" not in str(lines)

    async def test_the_life_of_a_connection_is_told_at_debug(self, server: Server, connect: Any) -> None:
        with captured_log("debug") as log:
            async with connect("joe") as joe:
                await joe.sub("g/c")
                for session in list(server.broker.sessions.of("joe")):
                    session.close(CloseCode.TOO_SLOW, "took nothing")
                assert await joe.closed() == 4008
            await until(lambda: not server.broker.sessions.open)
        lines = [line for line in log.read() if line["logger"].startswith("hubbub_broker.session")]
        assert [line["event"] for line in lines] == [
            "connection opened",
            "welcomed",
            "subscribed",
            "connection closed",
        ]
        assert {line["level"] for line in lines} == {"debug"}
        assert (lines[1]["agent"], lines[2]["topic"]) == ("joe", "g/c")
        assert (lines[3]["code"], lines[3]["reason"]) == (4008, "took nothing")


class TestHeartbeat:
    @pytest.mark.parametrize("options", [{"heartbeat": 0.02, "heartbeat_misses": 2}], indirect=True)
    async def test_the_silent_are_closed_and_the_living_are_not(self, connect: Any, server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /v1/ws?agent=dead HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        async with connect("alive") as alive, asyncio.timeout(10):
            received = await reader.read()  # it answers no ping, and reads until the end
            assert b"\x89\x00" in received
            assert (4012).to_bytes(2, "big") in received
            await alive.silent()
        writer.close()


class TestMalformed:
    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            "1",
            '"x"',
            "{}",
            '{"op":1}',
            '{"op":"nope"}',
            '{"op":"welcome"}',
            '{"op":"pub"',
            '{"op":"pub","topic":"g/c","id":"i","data":01}',
            "[" * 100_000,
            '{"op":"pub","topic":"g/c","id":"i","data":' + "[" * 100_000 + "]" * 100_000 + "}",
            '{"op":"pub","topic":"g/c","id":"i","data":1,"lc":1e400}',
            "\x00",
            "{" * 1000,
        ],
    )
    async def test_a_bad_line_is_answered_and_nothing_else_happens(self, connect: Any, text: str) -> None:
        async with connect("joe") as joe:
            await joe.socket.send(text)
            await joe.expect("err", code="bad_request")
            assert (await joe.pub("g/c", 1))["seq"] == 1

    async def test_the_answer_repeats_rid_and_id(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.socket.send('{"op":"pub","rid":"r","id":"i","topic":5,"data":1}')
            refused = await joe.expect("err", code="bad_request", rid="r", id="i")
            assert "$.topic" in refused["message"]

    async def test_a_bad_line_spoils_only_itself(self, connect: Any) -> None:
        async with connect("joe") as joe:
            good = json.dumps({"op": "pub", "topic": "g/c", "id": "1", "data": 1})
            await joe.socket.send(f'{{"op":"x"}}\n{good}\n\n')
            await joe.expect("err", code="bad_request")
            await joe.expect("ok", id="1")

    async def test_text_that_is_not_utf8_is_refused(self, connect: Any) -> None:
        async with connect("joe") as joe:
            await joe.socket.send(b'{"op":"pub","topic":"g/c","id":"1","data":"\xff"}', text=True)
            await joe.expect("err", code="bad_request")

    @pytest.mark.parametrize(
        "frame", [b"", b"\x00", b"\xff\xff\xff\xff{}", b"\x00\x00\x00\x02{}x", b"\x00\x00\x00\x01{"]
    )
    async def test_a_bad_binary_frame_is_refused(self, connect: Any, frame: bytes) -> None:
        async with connect("joe") as joe:
            await joe.socket.send(frame)
            await joe.expect("err", code="bad_request")
            await joe.silent()


async def test_what_was_too_long_is_not_sent_back(connect: Any) -> None:
    async with connect("joe") as joe:
        await joe.send("pub", topic="g/c", id="x" * 5000, data=1)
        assert "id" not in await joe.expect("err", code="bad_request")
        await joe.send("pub", topic="g/" + "c" * 5000, id="x", data=1)
        assert "topic" not in await joe.expect("err", code="bad_request", id="x")
        await joe.send("pub", topic=1, id="x" * 5000, data=1)
        assert "id" not in await joe.expect("err", code="bad_request")


async def test_a_client_that_sends_much_at_once_waits_behind_others(
    server: Server, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn is over after a few lines; all of it is taken, in its order."""
    monkeypatch.setattr(intake, "TURN_SECONDS", -1.0)
    lines = [json.dumps({"op": "pub", "topic": f"g/t{number}", "id": "i", "data": 1}) for number in range(4000)]
    async with connect("greedy") as greedy, connect("joe") as joe:
        await greedy.socket.send("\n".join(lines))
        answers = [await greedy.expect("ok")]
        await joe.send("ping")
        await joe.expect("pong")
        assert len(server.broker.shard_of("g").topics) < 4000
        answers += [await greedy.expect("ok") for _ in lines[1:]]
        assert [line["topic"] for line in answers] == [f"g/t{number}" for number in range(4000)]


async def test_an_operator_disconnects_an_agent(server: Server) -> None:
    url = url_of(server)
    async with (
        wire_client(url, "joe") as one,
        wire_client(url, "joe") as other,
        wire_client(url, "ann") as ann,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http,
    ):
        await one.hello("joe", will={"topic": "g/c", "data": "joe is gone", "delay": 0})
        await ann.sub("g/c")
        await ann.expect("live")
        answer = await http.delete("/v1/sessions", params={"agent": "joe"})
        assert (answer.status_code, answer.json()) == (200, {"agent": "joe", "connections": 2})
        assert [await one.closed(), await other.closed()] == [4503, 4503]
        assert (await ann.until("msg"))["data"] == "joe is gone"
        assert (await http.delete("/v1/sessions", params={"agent": "joe"})).json()["connections"] == 0
        assert server.broker.metrics.connections_closed[4503] == 2
        assert (await http.delete("/v1/sessions")).status_code == 400
        async with wire_client(url, "joe") as again:
            await again.silent()
