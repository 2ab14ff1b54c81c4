"""One WebSocket connection: handshake, frames in, frames out, answers to pings. Nothing of topics."""

import asyncio
from typing import cast

from . import frame
from .frame import FrameSplitter, masked

CLOSE_NO_CODE = 1005


class DriverError(Exception):
    """A measurement can't go on: the broker refused, hung up, or said what can't be understood."""


class Redirected(DriverError):
    """What was asked for is at another address."""

    def __init__(self, location: str) -> None:
        super().__init__(f"the handshake was sent on to {location}")
        self.location = location


class Connection(asyncio.Protocol):
    """Base of a driver's clients. Subclasses say what they do with a text frame, and with a failure."""

    __slots__ = ("_closing", "_head", "_request", "_transport", "broken", "close_code", "splitter", "upgraded")

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self.splitter = FrameSplitter()
        self._transport: asyncio.WriteTransport | None = None
        self._closing = False
        self.close_code: int | None = None
        self.broken = False
        """Whether what came could not be understood."""
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the handshake is, with DriverError if it failed."""

    def on_text(self, text: bytes) -> None:
        """A text frame has come."""
        raise NotImplementedError

    def on_failure(self, error: DriverError) -> None:
        """The connection ended without being asked to, or broke the protocol."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send frames."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._transport is not None and not self._closing:
            self._closing = True
            self._transport.write(masked(frame.CLOSE, b"\x03\xe8"))
            self._transport.close()

    def abort(self) -> None:
        """Hang up without a word, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self, paused: bool) -> None:
        """Leave what comes in the socket, or read it. Twice is as once."""
        transport = cast("asyncio.Transport | None", self._transport)
        if transport is not None and transport.is_reading() is paused:
            (transport.pause_reading if paused else transport.resume_reading)()

    # asyncio.Protocol -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one, though not by inheritance
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._closing:
            return
        code = self.close_code
        error = DriverError(f"the broker hung up (code {code})" if code else f"the connection broke: {exc or 'end'}")
        if self.upgraded.done():
            self.on_failure(error)
        else:
            self.upgraded.set_exception(error)

    def data_received(self, data: bytes) -> None:
        if not self.upgraded.done():
            data = self._shake_hands(data)
        for first, payload in self.splitter.feed(data):
            if first == frame.TEXT:
                try:
                    self.on_text(payload)
                except Exception as error:  # noqa: BLE001 - whatever it is, the measurement is void, and says why
                    self.broken = True
                    self.on_failure(DriverError(f"{type(error).__name__}: {error}"))
            else:
                self._control(first, payload)

    def _shake_hands(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        status = head.partition(b"\r\n")[0].split(b" ")
        if len(status) > 1 and status[1] == b"101":
            self.upgraded.set_result(None)
            return rest
        self._closing = True
        location = _location(head)
        refused = DriverError(f"the handshake was refused: {head[:200].decode('latin-1')}")
        self.upgraded.set_exception(refused if location is None else Redirected(location))
        return b""

    def _control(self, first: int, payload: bytes) -> None:
        if first == frame.PING:
            self.write(masked(frame.PONG, payload))
        elif first == frame.CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else CLOSE_NO_CODE
        elif first != frame.PONG:
            self.broken = True
            self.on_failure(DriverError(f"a frame that this driver does not read (first byte {first:#04x})"))


def _location(head: bytes) -> str | None:
    """Where a response sends its client on to."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"location":
            return value.strip().decode("latin-1")
    return None
