"""A connection's last moments, seen from its transport."""

import errno
from types import SimpleNamespace
from typing import Any, cast

from hubbub_broker.session import WebSocketConnection


class HungUp:
    """A transport whose peer is gone, before the loop has told anybody."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None:
        del data

    def is_closing(self) -> bool:
        return self.aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "as it was seen")

    def abort(self) -> None:
        self.aborted = True


async def test_a_client_that_hung_up_before_the_closing_handshake_was_over_is_let_go() -> None:
    transport = HungUp()
    connection = WebSocketConnection(
        cast("Any", SimpleNamespace(settings=SimpleNamespace(max_frame=1000), sockets=set()))
    )
    connection.connection_made(cast("Any", transport))
    connection._send(b"")
    assert transport.aborted
