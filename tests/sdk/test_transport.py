"""The WebSocket behind the transport's four methods, against a plain server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from hubbub.transport import ConnectFailed, Connection, ConnectionLost, WebSocketTransport, is_binary, open_within
from hubbub_protocol import SUBPROTOCOL, codec

pytestmark = pytest.mark.real_time

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], **options) as listening:  # type: ignore[list-item]
        port = next(iter(listening.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/ws"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def connect(url: str, **headers: str) -> Connection:
    return await open_within(WebSocketTransport(), url, headers, 10)


async def test_frames_of_both_kinds_go_and_come() -> None:
    async with server(echo) as url:
        connection = await connect(url)
        text = '{"é":1}\n{"b":2}'.encode()
        payload = codec.join_binary(b"{}", bytes(range(256)) * 1000)
        await connection.send(text)
        await connection.send(payload, binary=True)
        assert await connection.receive() == text
        assert await connection.receive() == payload
        assert (is_binary(text), is_binary(payload)) == (False, True)
        await connection.close()


async def test_large_frames_come_in_one_piece() -> None:
    async with server(echo, max_size=None) as url:
        connection = await connect(url)
        await connection.send(b"x" * (5 << 20))
        assert len(await connection.receive()) == 5 << 20
        await connection.close()


async def test_the_handshake_says_what_and_who() -> None:
    seen: dict[str, str | None] = {}

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen["token"] = connection.request.headers.get("Authorization")
        seen["extensions"] = connection.request.headers.get("Sec-WebSocket-Extensions")
        seen["subprotocol"] = connection.subprotocol
        await connection.wait_closed()

    async with server(handler) as url:
        connection = await connect(url, Authorization="Bearer x")
        await connection.close()
    assert seen == {"token": "Bearer x", "extensions": None, "subprotocol": SUBPROTOCOL}


@pytest.mark.parametrize("code", [1000, 1001, 4001, 4500])
async def test_how_the_server_ended_it_is_told(code: int) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(code, "because")

    async with server(handler) as url:
        connection = await connect(url)
        assert await connection.receive() == b"last words"
        with pytest.raises(ConnectionLost, match="because") as caught:
            await connection.receive()
        assert caught.value.code == code
        with pytest.raises(ConnectionLost):
            await connection.send(b"too late")
        await connection.close()


async def test_an_abort_ends_a_receive() -> None:
    async with server(echo) as url:
        connection = await connect(url)
        receiving = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(ConnectionLost) as caught:
            await receiving
        assert caught.value.code == 1006


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with server(echo) as url:
        connection = await connect(url)
        receiving = asyncio.create_task(connection.receive())
        await asyncio.sleep(0.01)
        receiving.cancel()
        await asyncio.wait([receiving])
        await connection.send(b"kept")
        assert await connection.receive() == b"kept"
        await connection.close()


@pytest.mark.parametrize("status", [401, 403, 404, 503])
async def test_an_http_answer_is_told_by_its_status(status: int) -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(HTTPStatus(status), "no")

    async with server(echo, process_request=refuse) as url:
        with pytest.raises(ConnectFailed) as caught:
            await connect(url)
        assert caught.value.status == status


async def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ConnectFailed):
        await connect(f"ws://127.0.0.1:{port}/v1/ws")


async def test_somebody_who_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s"):
            await open_within(WebSocketTransport(), f"ws://127.0.0.1:{silent.getsockname()[1]}/", {}, 0.05)


async def test_what_is_no_websocket_server() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.org ready\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed):
            await connect(f"ws://127.0.0.1:{port}/v1/ws")
