"""Requests and notes between two workers, over a pair of sockets that only these two processes have.

    size      4 bytes, big-endian: of what follows
    message   MessagePack: [kind, number, what, arguments]

Both sides ask and answer. What one side sends is handled by the other in that order, so publishes that go over a link
keep theirs. A link never comes back: when it ends, whatever has no answer is refused, and there will be another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import msgspec

from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode

RETRY_SECONDS = 0.25
"""When what a lost link could not do may be asked for again: a worker is back within a second or two."""

UNSENT_MAX = 64 << 20
"""Bytes that a link may hold unsent. A worker that takes nothing for so long is refused more."""

SWEEP_SECONDS = 0.25
"""How often calls are looked at that have waited too long."""

Reply = Callable[[Any], None]
"""Answers a request, once: with a value that MessagePack can carry, or with a `Refusal`."""

Handler = Callable[[list[Any], Reply], None]
"""Does what the other side asks. Called on the loop, in the order of asking; may raise `Refusal`."""

log = get_logger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int, str, list[Any]]).decode


class Kind(IntEnum):
    """What a message is."""

    NOTE = 0
    """Wants no answer."""
    CALL = 1
    ANSWER = 2
    REFUSAL = 3


class Link(asyncio.Protocol):
    """One end of a link.

    Args:
        name: the other worker, for messages.
        handlers: what this side does for the other, by name.
        loop: the event loop.
        timeout: seconds after which a call without an answer is refused.
        calls_max: calls without an answer at a time.
        on_lost: called once, when the link has ended.
    """

    def __init__(
        self,
        name: str,
        handlers: Mapping[str, Handler],
        loop: asyncio.AbstractEventLoop,
        *,
        timeout: float,
        calls_max: int,
        on_lost: Callable[[], None],
    ) -> None:
        self.name = name
        self.calls = 0
        """How many were made."""
        self._handlers = handlers
        self._loop = loop
        self._timeout = timeout
        self._calls_max = calls_max
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._waiting: dict[int, tuple[float, Reply]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that have no answer yet."""
        return len(self._waiting)

    # Asking ---------------------------------------------------------------------------------------------------------

    def call(self, what: str, arguments: list[Any], done: Reply, *, patient: bool = False) -> None:
        """Ask the other side. `done` gets its answer, or a `Refusal`; a `patient` one waits as long as the link lives.

        Raises:
            Refusal: `overloaded`: too many calls, or bytes, wait already.
        """
        transport = self._transport
        if transport is None:
            raise self._away()
        if len(self._waiting) >= self._calls_max:
            message = f"{self._calls_max} requests to {self.name} wait for their answer, the limit (link_calls)"
            raise Refusal(ErrorCode.OVERLOADED, message, RETRY_SECONDS)
        if transport.get_write_buffer_size() > UNSENT_MAX:
            raise Refusal(ErrorCode.OVERLOADED, f"{self.name} takes nothing now", RETRY_SECONDS)
        self.calls += 1
        deadline = float("inf") if patient else self._loop.time() + self._timeout
        self._waiting[self.calls] = (deadline, done)
        self._send(Kind.CALL, self.calls, what, arguments)
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._refuse_late)

    def note(self, what: str, arguments: list[Any]) -> None:
        """Tell the other side. It is lost when the link is."""
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > UNSENT_MAX:
            transport.abort()  # who misses a note knows something wrong: with a new link it is told all anew
            return
        self._send(Kind.NOTE, 0, what, arguments)

    @property
    def is_up(self) -> bool:
        """Whether it has not ended."""
        return self._transport is not None

    def close(self) -> None:
        """End it, after what was sent. Idempotent."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Messages, or parts of them."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if len(buffer) - at - 4 < size:
                break
            message = bytes(memoryview(buffer)[at + 4 : at + 4 + size])
            at += 4 + size
            self._take(message)
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """The other side is gone, or has closed."""
        self._transport = None
        if self._sweep is not None:
            self._sweep.cancel()
        waiting, self._waiting = self._waiting, {}
        self._on_lost()
        for _, done in waiting.values():
            done(self._away())

    # ----------------------------------------------------------------------------------------------------------------

    def _send(self, kind: Kind, number: int, what: str, arguments: list[Any]) -> None:
        message = _encode((kind, number, what, arguments))
        if not self._out:
            self._loop.call_soon(self._flush)  # what one turn of the loop has to say is one write
        self._out.append(len(message).to_bytes(4, "big"))
        self._out.append(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def _take(self, message: bytes) -> None:
        kind, number, what, arguments = _decode(message)
        if kind in (Kind.ANSWER, Kind.REFUSAL):
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting[1](arguments[0] if kind == Kind.ANSWER else _refusal(arguments))
            return

        def reply(value: Any) -> None:
            if kind == Kind.NOTE or self._transport is None:
                return
            if isinstance(value, Refusal):
                self._send(Kind.REFUSAL, number, "", [value.code.value, value.message, value.retry_after, value.limit])
            else:
                self._send(Kind.ANSWER, number, "", [value])

        try:
            self._handlers[what](arguments, reply)
        except Refusal as refusal:
            reply(refusal)
        except Exception:
            log.exception("request of another worker failed", worker=self.name, request=what)
            reply(Refusal(ErrorCode.INTERNAL, f"{what} failed at another worker: its log has the particulars", 1.0))

    def _refuse_late(self) -> None:
        self._sweep = None
        now = self._loop.time()
        late = [number for number, (deadline, _) in self._waiting.items() if deadline <= now]
        for number in late:
            _, done = self._waiting.pop(number)
            message = f"{self.name} has not answered within {self._timeout:g} s (link_timeout)"
            done(Refusal(ErrorCode.OVERLOADED, message, RETRY_SECONDS))
        if self._waiting:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._refuse_late)

    def _away(self) -> Refusal:
        return away(self.name)


def away(name: str) -> Refusal:
    """What is said of a worker that can't be reached."""
    return Refusal(ErrorCode.OVERLOADED, f"{name} is away, and will be back", RETRY_SECONDS)


def _refusal(arguments: list[Any]) -> Refusal:
    code, message, retry_after, limit = arguments
    return Refusal(ErrorCode(code), message, retry_after, limit=limit)
