"""A reader that stops reading costs the broker a number: nobody waits for it, and it gets every message later."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hubbub_broker.server import Server

HANDSHAKE = (
    b"GET /v1/ws?agent=%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class DeafReader:
    """A raw connection that reads only when told to, with small socket buffers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def subscribed(cls, server: Server, topic: str) -> AsyncIterator["DeafReader"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        try:
            deaf = cls(reader, writer)
            writer.write(HANDSHAKE % b"deaf")
            await reader.readuntil(b"\r\n\r\n")
            deaf.send({"op": "sub", "topic": topic})
            assert (await deaf.frame())[0]["op"] == "ok"
            assert (await deaf.frame())[0]["op"] == "live"
            yield deaf
        finally:
            writer.transport.abort()

    def send(self, line: dict[str, Any]) -> None:
        payload = json.dumps(line).encode()
        assert len(payload) < 126
        self.writer.write(bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload)  # masked with zeros

    async def frame(self) -> list[dict[str, Any]]:
        while True:
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            payload = await self.reader.readexactly(size)
            if first == 0x81:
                return [json.loads(line) for line in payload.split(b"\n")]

    async def messages(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        while len(found) < count:
            async with asyncio.timeout(10):
                for line in await self.frame():
                    (found if line["op"] == "msg" else others).append(line)
        self.others = others
        return found


@pytest.mark.parametrize("options", [{"write_buffer": 65536}], indirect=True)
async def test_it_is_left_behind_and_gets_every_message_later(connect: Any, server: Server) -> None:
    body = "x" * 4000
    async with DeafReader.subscribed(server, "g/c") as deaf, connect("joe") as joe, connect("ann") as ann:
        await ann.sub("g/c")
        sent = 0
        while not server.broker.catch_up.behind:  # until its socket and the broker's share of it are full
            assert (await joe.pub("g/c", {"i": sent, "x": body}))["seq"] == sent + 1
            sent += 1
            assert sent < 20_000
        for _ in range(500):
            await joe.pub("g/c", {"i": sent, "x": body})
            sent += 1
        assert [m["data"]["i"] for m in await ann.messages(sent)] == list(range(sent))  # live, meanwhile
        gauges = server.broker.gauges()
        assert gauges.lagging == 1
        assert gauges.largest_lag >= 500
        assert [m["data"]["i"] for m in await deaf.messages(sent)] == list(range(sent))
        await joe.pub("g/c", {"i": "live"})
        assert (await deaf.messages(1))[0]["data"]["i"] == "live"
        assert server.broker.gauges().lagging == 0


@pytest.mark.parametrize("options", [{"write_buffer": 65536}], indirect=True)
async def test_signals_that_it_could_not_take_are_counted_and_told(connect: Any, server: Server) -> None:
    body = "x" * 4000
    async with DeafReader.subscribed(server, "g/c") as deaf, connect("joe") as joe:
        sent = 0
        while not server.broker.catch_up.behind:
            await joe.pub("g/c", {"i": sent, "x": body}, ephemeral=True)
            sent += 1
            assert sent < 20_000
        for _ in range(10):
            await joe.pub("g/c", {"i": sent, "x": body}, ephemeral=True)
            sent += 1
        kept = await joe.pub("g/c", {"i": "durable"})
        assert kept["seq"] == 1
        seen: list[dict[str, Any]] = []
        gaps: list[dict[str, Any]] = []
        while not gaps or not seen or seen[-1]["data"]["i"] != "durable":
            async with asyncio.timeout(10):
                for line in await deaf.frame():
                    if line["op"] in ("msg", "gap"):
                        (seen if line["op"] == "msg" else gaps).append(line)
        assert len(gaps) == 1
        assert gaps[0]["reason"] == "slow"
        assert gaps[0]["dropped"] == sent - (len(seen) - 1) >= 10
        assert server.broker.metrics.ephemeral_dropped == gaps[0]["dropped"]


@pytest.mark.parametrize(
    "options",
    [{"write_buffer": 65536, "slow_timeout": 0.05, "heartbeat": 0.05, "heartbeat_misses": 100}],
    indirect=True,
)
async def test_one_that_takes_nothing_for_too_long_is_closed(connect: Any, server: Server) -> None:
    async with DeafReader.subscribed(server, "g/c"), connect("joe") as joe:
        sent = 0
        while not server.broker.catch_up.behind:
            await joe.pub("g/c", {"i": sent, "x": "x" * 4000})
            sent += 1
        async with asyncio.timeout(10):
            while server.broker.gauges().connections > 1:
                await joe.send("ping")
                await joe.until("pong")
    assert server.broker.metrics.connections_closed[4008] == 1
