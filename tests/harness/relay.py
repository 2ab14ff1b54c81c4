"""A server between clients and a broker, which leaves nothing open behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

TURNS = 20
"""Turns of the loop in which what was accepted in the last one is made a connection, told to us, and ended: four, of
which some go by before it begins."""


class Relay:
    """Takes connections on a port of its own, and lets `serve` do something with each.

    Args:
        to: the broker's port, on this machine.
        serve: is given the relay (whose `beyond` connects to the broker) and the client's two streams. When it returns,
            or fails because somebody hung up, everything of that connection is closed.
    """

    def __init__(
        self, to: int, serve: Callable[[Relay, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        self.port = 0
        self._to = to
        self._serve = serve
        self._tasks: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._over = False
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        del error
        self._over = True
        loop = asyncio.get_running_loop()
        for listening in self._server.sockets:
            loop.remove_reader(listening.fileno())
        await self._settle()  # what is accepted and no connection yet could not become one of a server that is closed
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def beyond(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the broker, for the connection that is being served."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._to)
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task].append(writer)
        return reader, writer

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:  # it was accepted while the relay ended
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._tasks[task] = [writer]
        task.add_done_callback(self._end)  # it is called also where the task never began

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):  # somebody hung up: the others see their end
            await self._serve(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        for end in self._tasks[task]:
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    def _end(self, task: asyncio.Task[None]) -> None:
        for end in self._tasks.pop(task):
            end.transport.abort()
