"""A broker that may have few files open: connections are refused by name of the limit, and the log does not starve."""

import asyncio
import contextlib
from pathlib import Path

from websockets.exceptions import ConnectionClosed

from harness.broker import broker_process
from harness.wire import wire_client
from hubbub_protocol.errors import CloseCode

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


async def test_the_limit_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    async with broker_process(tmp_path / "d", files=(64, 512)) as broker, contextlib.AsyncExitStack() as stack:
        for number in range(100):
            client = await stack.enter_async_context(wire_client(broker.url))
            await client.hello(f"a{number}")


async def test_connections_are_refused_before_the_log_starves(tmp_path: Path) -> None:
    """Every publish is taken, each into a segment of its own, while a crowd is at the door."""
    async with (
        broker_process(tmp_path / "d", files=(256, 256), segment_bytes=4096) as broker,
        contextlib.AsyncExitStack() as stack,
    ):

        async def segments(first: int) -> None:
            for number in range(first, first + 20):
                assert (await joe.pub("g/c", "x" * 5000, id=str(number)))["op"] == "ok"

        joe = await stack.enter_async_context(wire_client(broker.url))
        await joe.hello("joe")
        refused: ConnectionClosed | None = None
        for number in range(300):
            client = await stack.enter_async_context(wire_client(broker.url))
            try:
                await client.hello(f"a{number}")
            except ConnectionClosed as closed:
                refused = closed
                break
        assert refused is not None, "all of them were let in"
        assert refused.rcvd is not None
        assert refused.rcvd.code == CloseCode.TRY_AGAIN_LATER
        assert "256 open files" in refused.rcvd.reason
        await segments(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)  # operators still get through
        writer.write(REQUEST)
        assert b'hubbub_connections_refused_total{reason="open files"} 1.0' in await reader.read()
        writer.close()

        idle = [await asyncio.open_connection("127.0.0.1", broker.port) for _ in range(100)]
        answers = asyncio.gather(*(reader.read() for reader, _ in idle))
        for _, writer in idle:
            stack.callback(writer.close)
        await segments(20)
        for _, writer in idle:
            writer.write(REQUEST)
        found = await answers
        assert sum(b"503" in answer[:20] and b"256 open files" in answer for answer in found) > 50
        assert "max_connections does not fit" in broker.log.read_text()
