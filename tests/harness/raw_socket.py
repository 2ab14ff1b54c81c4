"""A TCP client that sends any bytes at all to a broker, and judges every byte that comes back."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from hubbub_protocol.codec import decode_broker, split_binary
from hubbub_protocol.errors import CloseCode
from hubbub_protocol.frames import Msg

from .wire import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
MASK = b"\x21\x42\x63\x84"

HANDSHAKE = (
    b"GET /v1/ws?agent=%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

CLOSE_CODES = frozenset(int(code) for code in CloseCode)


def masked(first: int, payload: bytes, key: bytes = MASK) -> bytes:
    """One frame as a client sends it. `first` is the byte with fin, reserved bits and opcode."""
    if not any(key):
        return header(first, len(payload), key) + payload  # a key of zeros: quick to make
    return header(first, len(payload), key) + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def header(first: int, size: int, key: bytes | None = MASK) -> bytes:
    """A frame's header that claims `size` bytes; without a key, an unmasked one."""
    bit = 0x80 if key is not None else 0
    if size < 126:
        start = bytes((first, bit | size))
    elif size < 65_536:
        start = bytes((first, bit | 126)) + struct.pack(">H", size)
    else:
        start = bytes((first, bit | 127)) + struct.pack(">Q", size)
    return start + (key or b"")


def text(lines: Iterable[dict[str, Any]]) -> bytes:
    """A text frame of these lines."""
    return masked(TEXT, b"\n".join(json.dumps(line).encode() for line in lines))


class RawSocket:
    """One TCP connection. `lines` and `close_code` are what has come so far; whatever is no frame of the protocol is
    an assertion error. `take` may be set to keep something else of the lines than all of them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._rest = b""
        self.lines: list[dict[str, Any]] = []
        self.take: Callable[[dict[str, Any]], None] = self.lines.append
        self.pongs: list[bytes] = []
        self.close_code: int | None = None
        self.closed = False
        """Whether a closing frame has come."""

    @classmethod
    async def open(cls, port: int, *, receive_buffer: int = 0) -> RawSocket:
        """Connect; with `receive_buffer`, the kernel keeps little for a client that does not read."""
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=raw, limit=65_536 if receive_buffer else 2**20))

    async def upgrade(self, agent: str = "raw") -> None:
        """The WebSocket handshake."""
        self.writer.write(HANDSHAKE % agent.encode())
        async with asyncio.timeout(PATIENCE):
            answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each in a segment of its own as far as that can be had. An end from the other side is no error:
        what it said before is there to be read."""
        with suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                await asyncio.sleep(0)

    async def request(self, *lines: dict[str, Any]) -> None:
        """Send lines in one text frame."""
        await self.send(text(lines))

    async def receive(self, limit: int = 65_536) -> bool:
        """Take what comes next. False at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            try:
                data = await self._reader.read(limit)
            except ConnectionError:
                return False
        self._take(data)
        return bool(data)

    async def until(self, op: str, **fields: Any) -> dict[str, Any]:
        """Read until a line like this has come, and return it."""
        seen = 0
        while True:
            for line in self.lines[seen:]:
                if line["op"] == op and all(line.get(name) == value for name, value in fields.items()):
                    return line
            seen = len(self.lines)
            assert await self.receive(), f"the broker closed ({self.close_code}) before it sent {op} {fields}"

    async def to_the_end(self) -> None:
        """Say that nothing more comes, and read until the broker has closed."""
        with suppress(OSError):
            if self.writer.can_write_eof():
                self.writer.write_eof()
        while await self.receive():
            pass

    def cut(self) -> None:
        """End it as a crash of the machine would: a reset, no goodbye."""
        raw = self.writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def _take(self, data: bytes) -> None:
        data = self._rest + data
        at = 0
        while (frame := split_frame(data, at)) is not None:
            assert not self.closed, f"after its closing frame the broker sent {data[at : at + 40]!r}"
            first, payload, at = frame
            self._judge(first, payload)
        self._rest = data[at:]

    def _judge(self, first: int, payload: bytes) -> None:
        if first == TEXT:
            for line in payload.split(b"\n"):
                decode_broker(line)
                self.take(json.loads(line))
        elif first == BINARY:
            head, body = split_binary(payload)
            assert isinstance(decode_broker(head), Msg)
            self.take({**json.loads(head), "payload": body})
        elif first == PONG:
            self.pongs.append(payload)
        elif first == CLOSE:
            self.closed = True
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
        else:
            assert first == PING, f"the broker sent a frame that begins with {first:#x}"


def split_frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """The frame that begins at `at`: its first byte, its payload, and where the next one begins."""
    if len(data) - at < 2:
        return None
    assert data[at + 1] < 128, "a broker's frames are not masked"
    size = data[at + 1]
    body = at + 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        if len(data) < body + wide:
            return None
        size = int.from_bytes(data[body : body + wide], "big")
        body += wide
    if len(data) < body + size:
        return None
    return data[at], data[body : body + size], body + size


@asynccontextmanager
async def raw_socket(port: int, agent: str | None = "raw", *, receive_buffer: int = 0) -> AsyncIterator[RawSocket]:
    """A connected raw client; upgraded, unless `agent` is None."""
    client = await RawSocket.open(port, receive_buffer=receive_buffer)
    try:
        if agent is not None:
            await client.upgrade(agent)
        yield client
    finally:
        client.writer.transport.abort()
