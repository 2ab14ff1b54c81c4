"""What holds for a connection before anybody knows whose it is: how many, how long, how large."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.broker import url_of
from harness.tokens import BUS_TOKEN
from harness.wire import PATIENCE, wire_client
from hubbub_broker.addresses import Addresses
from hubbub_broker.open_files import Room
from hubbub_broker.server import Server

REQUEST = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"GET /v1/ws?agent=raw HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Raw:
    """A socket, and what comes out of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        """The next answer's head."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def to_the_end(self) -> bytes:
        """Everything until the broker closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


@asynccontextmanager
async def raw(server: Server) -> AsyncIterator[Raw]:
    client = Raw(*await asyncio.open_connection("127.0.0.1", server.port))
    try:
        yield client
    finally:
        client.writer.close()


def refused(server: Server) -> dict[str, int]:
    return server.broker.metrics.connections_refused


def test_addresses_are_counted_each_by_itself() -> None:
    room = Room(files=100, sockets=4, connections=3, fits=True)
    addresses = Addresses(2, room)
    leave_a, again, too_many, leave_b = [addresses.enter(one) for one in ("a", "a", "a", "b")]
    assert (leave_a is again, too_many) == (True, None)
    assert leave_a is not None
    assert leave_b is not None
    leave_a()
    assert (addresses.of("a"), addresses.of("b")) == (1, 1)
    assert not addresses.full
    assert addresses.enter("a") is leave_a
    assert addresses.enter("a") is None
    for leave in (leave_a, leave_a, leave_b):
        leave()
    assert (addresses.of("a"), addresses.of("b")) == (0, 0)
    assert all(Addresses(0, room).enter("a") for _ in range(1000))


@pytest.mark.parametrize("options", [{"max_connections_per_address": 3}], indirect=True)
class TestAddresses:
    async def test_an_address_has_so_many_sockets_of_both_kinds(self, server: Server) -> None:
        async with raw(server) as http, wire_client(url_of(server), "joe") as socket:
            await http.send(REQUEST + b"\r\n")
            assert (await http.head()).startswith(b"HTTP/1.1 200 ")
            async with raw(server) as third:
                await third.send(UPGRADE + b"\r\n")
                assert (await third.head()).startswith(b"HTTP/1.1 101 ")
                async with raw(server) as fourth:
                    answer = await fourth.to_the_end()
                    assert answer.startswith(b"HTTP/1.1 429 ")
                    assert b"max_connections_per_address" in answer
                await socket.silent()
            assert refused(server) == {"max_connections_per_address": 1}

    async def test_whoever_leaves_makes_room(self, server: Server) -> None:
        for request in (REQUEST, UPGRADE, b""):
            for _ in range(5):
                async with raw(server) as client:
                    if request:
                        await client.send(request + b"\r\n")
                        await client.head()
                    client.writer.write_eof()
                    await client.to_the_end()
        assert refused(server) == {}

    async def test_refused_ones_take_no_room(self, server: Server) -> None:
        async with raw(server), raw(server), raw(server) as last:
            for _ in range(5):
                async with raw(server) as more:
                    assert (await more.to_the_end()).startswith(b"HTTP/1.1 429 ")
            await last.send(REQUEST + b"Connection: close\r\n\r\n")
            assert (await last.to_the_end()).startswith(b"HTTP/1.1 200 ")
            async with raw(server) as next:
                await next.send(REQUEST + b"\r\n")
                assert (await next.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("options", [{"handshake_seconds": 0.3}], indirect=True)
class TestTime:
    @pytest.mark.parametrize("begin", [b"", b"G", REQUEST, UPGRADE, REQUEST + b"X-Long: "])
    async def test_a_head_that_does_not_end_is_not_waited_for(self, server: Server, begin: bytes) -> None:
        async with raw(server) as slow:
            if begin:
                await slow.send(begin)
            answer = await slow.to_the_end()
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"handshake_seconds" in answer
        assert refused(server) == {"handshake_seconds": 1}

    async def test_one_byte_now_and_then_is_no_way_round(self, server: Server) -> None:
        async with raw(server) as slow:
            reading = asyncio.create_task(slow.to_the_end())
            while not reading.done():
                slow.writer.write(b"G"[: not reading.done()])
                await asyncio.wait([reading], timeout=0.05)
            assert (await reading).startswith(b"HTTP/1.1 ")

    async def test_the_second_request_of_a_connection_has_its_own_time(self, server: Server) -> None:
        async with raw(server) as client:
            for _ in range(2):
                await client.send(REQUEST + b"\r\n")
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                await client.reader.readexactly(len('{"status":"ok","version":"0.1.0"}'))
            await client.send(REQUEST)
            assert (await client.to_the_end()).startswith(b"HTTP/1.1 408 ")

    async def test_a_socket_that_is_welcome_stays(self, server: Server) -> None:
        async with wire_client(url_of(server), "joe") as joe, raw(server) as slow:
            assert (await slow.to_the_end()).startswith(b"HTTP/1.1 408 ")
            await joe.silent()


@pytest.mark.parametrize("options", [{"max_header_bytes": 2048, "handshake_seconds": 30}], indirect=True)
class TestSize:
    @pytest.mark.parametrize(
        "head",
        [
            REQUEST + b"X-Long: " + b"x" * 3000 + b"\r\n\r\n",
            REQUEST + b"".join(b"X-%d: many\r\n" % number for number in range(300)) + b"\r\n",
            b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            UPGRADE + b"X-Long: " + b"x" * 3000 + b"\r\n\r\n",
            b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nX: "
            + b"x" * 3000
            + b"\r\n\r\nbody more",
        ],
    )
    async def test_a_large_head_is_refused(self, server: Server, head: bytes) -> None:
        async with raw(server) as client:
            await client.send(head)
            answer = await client.to_the_end()
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert b"2048 bytes (max_header_bytes)" in answer
        assert refused(server) == {"max_header_bytes": 1}

    async def test_a_head_without_end_is_refused_as_soon_as_it_is_too_large(self, server: Server) -> None:
        async with raw(server) as client:
            await client.send(REQUEST + b"X-Endless: ")
            reading = asyncio.create_task(client.to_the_end())
            sent = 0
            while not reading.done() and sent < 10_000_000:
                client.writer.write(b"x" * 1000)
                sent += 1000
                await asyncio.wait([reading], timeout=0.01)
            with_reset: Any = (await asyncio.gather(reading, return_exceptions=True))[0]
            assert isinstance(with_reset, ConnectionError) or with_reset.startswith(b"HTTP/1.1 431 ")
        assert refused(server) == {"max_header_bytes": 1}

    async def test_a_body_is_no_head(self, server: Server) -> None:
        body = b'{"topic":"g/c","data":"' + b"x" * 100_000 + b'"}'
        request = (
            b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        async with raw(server) as client:
            for _ in range(3):
                await client.send(request + body)
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                async with asyncio.timeout(PATIENCE):
                    await client.reader.readuntil(b"}")
            await client.send((request + body) * 3 + REQUEST)  # one behind the other, the last one cut short
            for _ in range(3):
                assert (await client.head()).startswith(b"HTTP/1.1 200 ")
                async with asyncio.timeout(PATIENCE):
                    await client.reader.readuntil(b"}")
            await client.send(b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert refused(server) == {}

    async def test_a_fitting_head_is_taken(self, server: Server) -> None:
        async with raw(server) as client:
            await client.send(REQUEST + b"X-Long: " + b"x" * (2048 - 200) + b"\r\n\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")


POST = b"POST /v1/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("options", [{"bus_token": BUS_TOKEN, "handshake_seconds": 0.3}], indirect=True)
class TestBody:
    """What a request that was answered already, or one of nobody that is known, may still send."""

    @pytest.mark.parametrize(
        ("head", "status", "bytes_of_body"),
        [
            (POST + b"Content-Length: 1000000\r\n\r\n", b"401", b"x"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"401", b"1\r\nx\r\n"),
            (REQUEST + b"Content-Length: 1000000\r\n\r\n", b"200", b"x"),
            (POST.replace(b"/v1/publish", b"/v1/health") + b"Content-Length: 1000000\r\n\r\n", b"405", b"x"),
        ],
    )
    async def test_a_body_that_nobody_waits_for_does_not_hold_the_connection(
        self, server: Server, head: bytes, status: bytes, bytes_of_body: bytes
    ) -> None:
        async with raw(server) as slow:
            await slow.send(head)
            assert (await slow.head()).startswith(b"HTTP/1.1 " + status)
            reading = asyncio.create_task(slow.to_the_end())
            while not reading.done():
                slow.writer.write(bytes_of_body)
                await asyncio.wait([reading], timeout=0.05)
            await asyncio.gather(reading, return_exceptions=True)  # it may end with a reset
        assert refused(server) == {"handshake_seconds": 1}

    async def test_one_byte_more_is_no_way_round(self, server: Server) -> None:
        async with raw(server) as slow:
            await slow.send(POST + b"Content-Length: 1000000\r\n\r\n")
            assert (await slow.head()).startswith(b"HTTP/1.1 401 ")
            await slow.send(b"x")
            await slow.to_the_end()
        assert refused(server) == {"handshake_seconds": 1}

    async def test_a_body_that_comes_in_time_costs_nobody_the_connection(self, server: Server) -> None:
        async with raw(server) as client:
            for _ in range(3):
                await client.send(POST + b"Content-Length: 5\r\n\r\n12")
                assert (await client.head()).startswith(b"HTTP/1.1 401 ")
                await client.send(b"345")
                async with asyncio.timeout(PATIENCE):
                    await client.reader.readuntil(b"}")
            await client.send(REQUEST + b"\r\n")
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert refused(server) == {}

    async def test_what_is_no_request_does_not_hold_the_connection(self, server: Server) -> None:
        async with raw(server) as slow:
            await slow.send(REQUEST + b"\r\n")
            assert (await slow.head()).startswith(b"HTTP/1.1 200 ")
            await slow.send(b"\r\n")
            await slow.to_the_end()

    async def test_an_answer_that_is_not_read_does_not_hold_the_connection(self, server: Server) -> None:
        async with raw(server) as slow:
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await slow.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 90)
            async with asyncio.timeout(PATIENCE):
                while refused(server) != {"handshake_seconds": 1}:  # noqa: ASYNC110 - the broker sets no event for it
                    await asyncio.sleep(0.02)

    async def test_requests_that_run_ahead_of_their_answers_are_bounded(self, server: Server) -> None:
        async with raw(server) as client:
            await client.send((REQUEST + b"\r\n") * 100)
            for _ in range(100):
                assert b"HTTP/1.1 200 " in await client.head()
            assert refused(server) == {}
        async with raw(server) as client:
            await client.send((REQUEST + b"\r\n") * 102)
            await asyncio.gather(client.to_the_end(), return_exceptions=True)
            assert refused(server) == {"max_pipelined": 1}
        async with raw(server) as client:
            asking = asyncio.create_task(self._ask(client, 100_000))
            async with asyncio.timeout(PATIENCE):
                while refused(server) != {"max_pipelined": 2}:  # noqa: ASYNC110 - the broker sets no event for it
                    await asyncio.sleep(0.02)
            await asyncio.gather(asking, return_exceptions=True)

    @staticmethod
    async def _ask(client: Raw, times: int) -> None:
        for _ in range(times):
            await client.send(REQUEST + b"\r\n")

    async def test_a_socket_that_follows_a_request_stays(self, server: Server) -> None:
        server._http.config.timeout_keep_alive = 0.1  # type: ignore[assignment]
        async with raw(server) as client, raw(server) as witness:
            await witness.send(REQUEST + b"\r\n")
            await client.send(POST + b"Content-Length: 5\r\n\r\n12")
            assert (await client.head()).startswith(b"HTTP/1.1 401 ")
            await client.send(b"345" + UPGRADE.replace(b"?agent=raw", b"?agent=raw&access_token=" + BUS_TOKEN.encode()))
            await client.send(b"\r\n")
            assert b"101" in await client.head()
            await witness.to_the_end()  # the time that idle connections have is over
            await client.send(b"\x89\x80\0\0\0\0")
            async with asyncio.timeout(PATIENCE):
                assert b"\x8a\x00" in await client.reader.readexactly(2)
        assert refused(server) == {}
