"""A proxy between HTTP clients and a broker that loses requests, and answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

TURNS = 20
"""Turns of the loop in which what was accepted in the last one is made a connection, told to us, and ended: four, of
which some go by before it begins."""


class LossyProxy:
    """Passes on what it is given. Of the connections, a share ends with a loss:

    - the request is not passed on (it never reached the broker), or
    - it is, and carried out, and the answer is not (the client can't tell).
    """

    def __init__(self, port: int, source: random.Random, *, requests: float, answers: float) -> None:
        """`requests` and `answers` are the shares that are lost."""
        self.port = 0
        self.lost_requests = 0
        self.lost_answers = 0
        self._to = port
        self._source = source
        self._requests = requests
        self._answers = answers
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._over = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected."""
        if self._over:  # it was accepted while the proxy ended
            writer.transport.abort()
            return
        self._ends.add(writer)  # here, so that it is closed even if its task never begins
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """End what is open still."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._ends:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._ends), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one request."""
        ends = [writer]
        try:
            await self._relay(reader, writer, ends)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the broker is gone, or the client: whoever is left sees its connection end
        finally:
            for end in ends:
                end.close()
        for end in ends:
            with suppress(OSError):
                await end.wait_closed()
            self._ends.discard(end)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
    ) -> None:
        request = await _message(reader)
        if self._source.random() < self._requests:
            self.lost_requests += 1
            return
        answers, beyond = await asyncio.open_connection("127.0.0.1", self._to)
        self._ends.add(beyond)
        ends.append(beyond)
        beyond.write(request)
        answer = await _message(answers)
        if self._source.random() < self._answers:
            self.lost_answers += 1
            return
        writer.write(answer)
        await writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A whole HTTP message."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    return head + (await reader.readexactly(size) if size else b"")


@asynccontextmanager
async def lossy_proxy(
    port: int, source: random.Random, *, requests: float, answers: float
) -> AsyncIterator[LossyProxy]:
    """A proxy to that port of this machine."""
    proxy = LossyProxy(port, source, requests=requests, answers=answers)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
        for _ in range(TURNS):
            await asyncio.sleep(0)
