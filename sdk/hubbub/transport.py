"""How frames travel: the seam between the SDK and a network.

A `Transport` opens connections; a `Connection` carries whole frames both ways. Four methods, so that tests and users
can put anything in their place (`hubbub.testing` keeps a broker in memory behind them).

Received frames are bytes of either kind. They tell themselves apart: JSON text never begins with a zero byte, and a
binary frame always does, because it begins with the length of its header as a 32-bit number, most significant byte
first, and no header is 16 MiB long.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from hubbub_protocol import SUBPROTOCOL

ABNORMAL = 1006
"""The close code of a connection that ended without saying why (RFC 6455, section 7.1.5)."""


class ConnectFailed(Exception):
    """No connection came about. `status` is the HTTP status, when there was an answer at all."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class ConnectionLost(Exception):
    """The connection is over."""

    def __init__(self, code: int = ABNORMAL, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"connection closed with code {code}{f': {reason}' if reason else ''}")
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        """Seconds to stay away, if that is known."""


@runtime_checkable
class Connection(Protocol):
    """A connection that carries whole frames, in order. One task receives, one sends."""

    async def receive(self) -> bytes:
        """The next frame. Cancelling it loses nothing. Raises ConnectionLost."""
        ...

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        """Send a frame; returns when there is room for the next. Raises ConnectionLost."""
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye and wait, for a bounded time, until the connection has ended. Never raises ConnectionLost."""
        ...

    def abort(self) -> None:
        """End the connection at once, without a word. `receive` then raises ConnectionLost."""
        ...


class Transport(Protocol):
    """Opens connections."""

    async def connect(self, url: str, headers: dict[str, str]) -> Connection:
        """Open a connection. Raises ConnectFailed."""
        ...


@dataclass(frozen=True, slots=True)
class WebSocketTransport:
    """Connections over the `websockets` library."""

    frame_bytes_max: int = 64 << 20
    """Largest frame that is received. The broker decides what it sends; this only bounds what a stranger could."""

    close_timeout: float = 2.0
    """Seconds that a closing handshake may take."""

    queue_frames: int = 64
    """Frames read ahead of the SDK. It reads without pause, so this only smooths."""

    tls: ssl.SSLContext | None = None
    """How a `wss` connection is secured. Default: the broker's certificate has to be one that this machine trusts."""

    async def connect(self, url: str, headers: dict[str, str]) -> Connection:
        """Open a WebSocket. The time it may take is the caller's to bound."""
        secured: dict[str, Any] = {"ssl": self.tls} if self.tls is not None and url.startswith("wss:") else {}
        try:
            socket = await connect(
                url,
                additional_headers=headers,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,  # lines are small and batched; deflate costs more time than it saves on a LAN
                max_size=self.frame_bytes_max,
                max_queue=self.queue_frames,
                open_timeout=None,
                ping_interval=None,  # the broker pings, and the link watches the silence
                close_timeout=self.close_timeout,
                **secured,
            )
        except InvalidStatus as error:
            raise ConnectFailed(str(error), error.response.status_code) from error
        except (OSError, InvalidHandshake, InvalidURI, EOFError) as error:
            raise ConnectFailed(f"{type(error).__name__}: {error}") from error
        return WebSocketConnection(socket)


class WebSocketConnection:
    """A `Connection` over one WebSocket."""

    __slots__ = ("_socket",)

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        try:
            await self._socket.send(frame, text=not binary)
        except ConnectionClosed as closed:
            raise _lost(closed) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            await self._socket.close(code, reason)

    def abort(self) -> None:
        self._socket.transport.abort()


def _lost(closed: ConnectionClosed) -> ConnectionLost:
    if closed.rcvd is not None:
        return ConnectionLost(closed.rcvd.code, closed.rcvd.reason)
    cause = closed.__cause__
    return ConnectionLost(ABNORMAL, str(cause) if cause is not None else "")


def is_binary(frame: bytes) -> bool:
    """Whether a received frame is of the binary kind."""
    return frame[:1] == b"\0"


async def open_within(transport: Transport, url: str, headers: dict[str, str], seconds: float) -> Connection:
    """Open a connection within a time. Raises ConnectFailed."""
    try:
        async with asyncio.timeout(seconds):
            return await transport.connect(url, headers)
    except TimeoutError:
        raise ConnectFailed(f"no connection within {seconds:g} s") from None
