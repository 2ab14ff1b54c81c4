"""A proxy between HTTP clients and a broker that loses requests, and answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .relay import Relay


class LossyProxy:
    """Passes on what it is given. Of the connections, a share ends with a loss:

    - the request is not passed on (it never reached the broker), or
    - it is, and carried out, and the answer is not (the client can't tell).
    """

    def __init__(self, source: random.Random, *, requests: float, answers: float) -> None:
        """`requests` and `answers` are the shares that are lost."""
        self.port = 0
        self.lost_requests = 0
        self.lost_answers = 0
        self._source = source
        self._requests = requests
        self._answers = answers

    async def serve(self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, with one request."""
        request = await _message(reader)
        if self._source.random() < self._requests:
            self.lost_requests += 1
            return
        answers, beyond = await relay.beyond()
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
    proxy = LossyProxy(source, requests=requests, answers=answers)
    async with Relay(port, proxy.serve) as relay:
        proxy.port = relay.port
        yield proxy
