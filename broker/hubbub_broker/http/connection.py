"""One HTTP connection, bounded before anybody has said who it is: sockets of one address, time, size of the head.

uvicorn's protocol does the rest. A request that asks for a WebSocket leaves this class for `session.connection`, and is
counted on there until its socket is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hubbub_broker.addresses import Addresses
from hubbub_broker.config import Settings
from hubbub_broker.metrics import Metrics

_TOO_LARGE = 431
_TOO_SLOW = 408
_TOO_MANY = 429
_FULL = 503


class HttpConnection(HttpToolsProtocol):
    """From the first byte to the last, or to the upgrade."""

    def __init__(self, settings: Settings, metrics: Metrics, addresses: Addresses, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._seconds = settings.handshake_seconds
        self._head_max = settings.max_header_bytes
        self._pipelined_max = settings.max_pipelined
        self._metrics = metrics
        self._addresses = addresses
        self._leave: Callable[[], None] | None = None
        """Takes this socket out of the count."""
        self._deadline: asyncio.TimerHandle | None = None
        """Runs while a head is being read."""
        self._rest: asyncio.TimerHandle | None = None
        """Runs while bytes come that are neither a head nor wanted: the rest of a body whose request was answered."""
        self._untaken: asyncio.TimerHandle | None = None
        """Runs while somebody whom nobody knows does not take an answer."""
        self._answering: RequestResponseCycle | None = None
        """The request that is being answered, or was last."""
        self._unread = 0
        """Bytes that came since a head began, while it has not ended."""
        self._refused = 0
        """The status with which the connection is refused."""

    # asyncio.Protocol -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if self._addresses.full:
            room = self._addresses.room
            self._refuse(_FULL, f"{room.sockets} sockets are all that {room.files} open files allow (ulimit -n)")
            return
        self._leave = self._addresses.enter(address)
        if self._leave is not None:
            self._deadline = self.loop.call_later(self._seconds, self._too_slow)
        else:
            self._refuse(_TOO_MANY, "this address has as many connections as it may (max_connections_per_address)")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_untaken()
        if self._leave is not None:
            self._leave()
            self._leave = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        waiting = self._deadline
        super().data_received(data)
        if waiting is not None and self._deadline is waiting:  # still the same head: the parser may keep no more of it
            self._unread += len(data)
            if self._unread > self._head_max:
                self._refused = _TOO_LARGE
        if self._refused and not self.transport.is_closing():
            self._refuse(self._refused, f"the request's head is larger than {self._head_max} bytes (max_header_bytes)")
        self._bound_rest()

    def _bound_rest(self) -> None:
        """See that an end is set to a connection with nothing to answer: a byte has ended its time of idling."""
        is_ours = self._leave is not None and not self.transport.is_closing()
        waits = self._deadline is not None or self._rest is not None or self.timeout_keep_alive_task is not None
        if is_ours and not waits and (self._answering is None or self._answering.response_complete):
            self._rest = self.loop.call_later(self._seconds, self._give_up, "handshake_seconds")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._untaken is None and (self._answering is None or "caller" not in self._answering.scope["state"]):
            self._untaken = self.loop.call_later(self._seconds, self._give_up, "handshake_seconds")

    def resume_writing(self) -> None:
        self._stop_untaken()
        super().resume_writing()

    # uvicorn's parser -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._deadline is None:  # the second request of a connection, or a later one
            self._deadline = self.loop.call_later(self._seconds, self._too_slow)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._unread = 0
        if self._refused:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._head_max:
            self._refused = _TOO_LARGE
        else:
            super().on_headers_complete()
            if len(self.pipeline) > self._pipelined_max:
                self._refused = _TOO_MANY
                self._give_up("max_pipelined")  # an answer would be taken for that to an earlier request

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        super().on_message_complete()
        if self._answering is not None and self._answering.response_complete:
            self._begin_idling()

    def _begin_idling(self) -> None:
        """All of a request is here that was answered before: as after an answer, another one may come."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.pipeline and not self.transport.is_closing():
            self.flow.pause_reading()  # or more would be read for each answer than is answered

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def handle_websocket_upgrade(self) -> None:
        if self._refused:
            return
        self._stop_waiting()
        self._unset_keepalive_if_required()
        leave, self._leave = self._leave, None
        super().handle_websocket_upgrade()
        cast(Any, self.transport.get_protocol()).on_lost = leave  # a WebSocketConnection, which this package can't name

    # Refusals -------------------------------------------------------------------------------------------------------

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(_TOO_SLOW, f"the request did not come within {self._seconds:g} s (handshake_seconds)")

    def _refuse(self, status: int, message: str) -> None:
        self._refused = status
        self._stop_waiting()
        self._metrics.refuse_connection(_LIMITS[status], self._client, message)
        body = message.encode() + b"\n"
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    @property
    def _client(self) -> str:
        """Where it comes from, for the log."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    def _give_up(self, limit: str) -> None:
        """Cut it off: it takes its answer, or sends what nobody waits for, too slowly; or asks for too much at once."""
        self._metrics.refuse_connection(limit, self._client, f"cut off ({limit})")
        self.transport.abort()

    def _stop_waiting(self) -> None:
        for timer in (self._deadline, self._rest):
            if timer is not None:
                timer.cancel()
        self._deadline = self._rest = None

    def _stop_untaken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None


_LIMITS = {
    _TOO_LARGE: "max_header_bytes",
    _TOO_SLOW: "handshake_seconds",
    _TOO_MANY: "max_connections_per_address",
    _FULL: "open files",
}
