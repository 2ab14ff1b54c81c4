"""The socket that a broker listens on."""

import asyncio
import socket

from hubbub_broker.server import listen


async def test_what_it_accepts_sends_small_answers_at_once_whatever_the_loop() -> None:
    """Else the second write of an answer waits for the acknowledgement of the first: 40 ms (Nagle's algorithm).

    uvloop sets it by itself; asyncio only where the listening socket says that it is TCP.
    """
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = writer.get_extra_info("socket")
        accepted.set_result(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(accept, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await accepted
        writer.close()
        await writer.wait_closed()
