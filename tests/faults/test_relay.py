"""The relay that the fault tests use leaves nothing open behind it, whenever it ends."""

import asyncio
import gc
import socket

import pytest

from harness.relay import Relay


@pytest.mark.parametrize("turns", range(6))
async def test_who_is_accepted_while_it_ends_is_let_go_of(turns: int) -> None:
    """What is left open is a warning when it is collected, and a warning is an error here."""

    async def serve(_: Relay, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Relay(1, serve) as relay:
        clients = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(25)]
        for _ in range(turns):
            await asyncio.sleep(0)
    gc.collect()
    for client in clients:
        client.close()
