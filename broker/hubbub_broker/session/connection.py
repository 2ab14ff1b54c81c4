"""One WebSocket connection: a thin shell of `asyncio.Protocol` around the frame reader and the session.

uvicorn reads the HTTP request and, when that asks for an upgrade, makes one of these, feeds it the request, and hands
over the transport. So HTTP and WebSocket share a port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request
from websockets.server import ServerProtocol

from hubbub_broker.access import Denied, Operation, credential_of
from hubbub_broker.logs import get_logger
from hubbub_broker.origin import why_refused
from hubbub_broker.refusal import Refusal
from hubbub_protocol import PATH, SUBPROTOCOL
from hubbub_protocol.errors import BadName, CloseCode
from hubbub_protocol.names import check_agent

from .entrance import Doorkeeper
from .frame_reader import FrameReader
from .intake import Intake
from .session import REASON_CHARS_MAX, Session

if TYPE_CHECKING:
    from .sessions import Sessions

SURPLUS_SECONDS = 2.0
"""How long a connection beyond `max_connections` may take to say that it replaces another."""

CLOSE_SECONDS = 2.0
"""How long the peer may take for its part of the closing handshake before the socket is cut."""

log = get_logger(__name__)


class WebSocketConnection(asyncio.Protocol):
    """From the handshake to the last byte of one connection."""

    __slots__ = (
        "_admission",
        "_handshake",
        "_intake",
        "_leaving",
        "_loop",
        "_reader",
        "_session",
        "_sessions",
        "_timer",
        "on_lost",
        "transport",
    )

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._handshake: ServerProtocol | None = ServerProtocol(max_size=sessions.settings.max_frame)
        self._reader: FrameReader | None = None
        self._session: Session | None = None
        self._intake: Intake | None = None
        self._admission: _Admission | None = None
        """What the client said in its handshake, until it is judged."""
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self.on_lost: Callable[[], None] | None = None
        """Called when the socket is gone, for whoever counts sockets."""
        self.transport: asyncio.Transport

    # asyncio.Protocol -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is ours now."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self._sessions.sockets.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._reader is not None:
            if self._session is not None:
                self._session.heard = True
            if self._intake is not None:
                self._intake.begin()
            self._reader.feed(data)
            if self._reader.closing:
                if self._intake is not None:
                    self._intake.finish()
                self._leave()
        elif self._handshake is not None:
            self._shake_hands(data)

    def eof_received(self) -> bool:
        """The client sends no more: the transport may close."""
        return False

    def pause_writing(self) -> None:
        """The socket holds as much as it may."""
        if self._session is not None:
            self._session.full(self._loop.time())

    def resume_writing(self) -> None:
        """The socket has room again."""
        if self._session is not None and not self._session.closed:
            self._session.drained()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """The socket is gone."""
        self._sessions.sockets.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.on_lost is not None:
            self.on_lost()
        if self._intake is not None:
            self._intake.finish()
            self._intake = None
        session, self._session = self._session, None
        if session is not None:
            session.lost()
            code = self._reader.close_code if self._reader is not None else 1006
            self._sessions.lost(session, code)
            self._sessions.metrics.count_close(code)
            reason = self._reader.close_reason if self._reader is not None else ""
            if code == CloseCode.FRAME_TOO_BIG and reason:
                self._sessions.metrics.refusal_log.note(session.client, "max_frame", reason)
            log.debug("connection closed", session=session.id, agent=session.agent, code=code, reason=reason)
        self._reader = None
        self._handshake = None

    # Session's connection -------------------------------------------------------------------------------------------

    def write(self, blob: bytes) -> None:
        """Send encoded frames."""
        self.transport.write(blob)

    def pause_reading(self) -> None:
        """Take no more from the socket."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; after `CLOSE_SECONDS` the socket is cut, whatever the peer does."""
        if self._reader is not None and not self._reader.closing:
            self._reader.close(code, reason)
            self._leave()

    def cut(self) -> None:
        """End it at once, whatever is still to be sent or said."""
        self.transport.abort()

    # Inside ---------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """The closing handshake is under way: nothing is read or sent for the session any more."""
        if self._session is not None:
            self._session.lost()
        if not self._leaving:
            self._leaving = True
            self.resume_reading()  # or its answer to the closing handshake would never be seen
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _send(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if data:
            self.transport.write(data)
            if self._session is not None and not self._session.writable:
                self._session.owe(len(data))
        elif self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:  # the client has hung up, which asyncio's own loop has not told us yet
                self.transport.abort()
        else:  # TLS has no half-close
            self.transport.close()

    def _shake_hands(self, data: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
        handshake.receive_data(data)
        for event in handshake.events_received():
            assert isinstance(event, Request)
            self._answer(handshake, event)
        for out in handshake.data_to_send():
            self._send(out)
        if handshake.handshake_exc is not None:
            self.transport.close()
        elif self._reader is not None:
            self._handshake = None
            self._come_in()

    def _answer(self, handshake: ServerProtocol, request: Request) -> None:
        if urlsplit(request.path).path != PATH:
            handshake.send_response(handshake.reject(404, f"WebSocket connections are taken at {PATH}\n"))
            return
        why = self._page_refused(request)
        if why is not None:
            self._sessions.metrics.count_connection_refusal("origin")
            handshake.send_response(handshake.reject(403, why + "\n"))
            return
        gate = self._sessions.gate
        url = None if gate is None else gate.redirect(request)
        if url is not None:
            elsewhere = handshake.reject(307, f"this group's worker is at {url.partition('?')[0]}\n")
            elsewhere.headers["Location"] = url
            handshake.send_response(elsewhere)
            return
        response = handshake.accept(request)
        offered = [
            name.strip() for value in request.headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")
        ]
        if response.status_code == 101 and SUBPROTOCOL in offered:
            response.headers["Sec-WebSocket-Protocol"] = SUBPROTOCOL
        handshake.send_response(response)
        if response.status_code != 101:
            return
        self._session = Session(self._sessions, self, _address(self.transport))
        if gate is not None:
            self._session.entrance = gate.entrance(request)
        self._intake = Intake(self._session, self._sessions.metrics, self._loop)
        self._reader = FrameReader(
            self._sessions.settings.max_frame, self._intake.text, self._intake.binary, self._send
        )
        query = urlsplit(request.path).query
        names = parse_qs(query).get("agent", [])
        headers = request.headers
        credential = credential_of(headers.get_all("Authorization"), headers.get_all("X-Bus-Token"), query)
        self._admission = _Admission(offered, names[0] if names else None, credential)

    def _come_in(self) -> None:
        gate = self._sessions.gate
        if gate is None or gate.register is None:
            self._admit()
            return
        assert self._admission is not None
        assert self._session is not None
        assert self._intake is not None
        assert self._reader is not None
        keeper = Doorkeeper(gate, gate.register, self._session, self._intake, self._reader, self._admit, self.close)
        keeper.begin(self._admission.agent, self._admission.credential)

    def _page_refused(self, request: Request) -> str | None:
        """Why a page in somebody's browser may not connect; None for anybody else.

        Browsers send `Origin` with every WebSocket handshake, so that tells enough (RFC 6455, section 10.2).
        """
        settings = self._sessions.settings
        if settings.insecure and not settings.authenticates:
            return None
        host = next(iter(request.headers.get_all("Host")), None) if settings.authenticates else None
        for origin in request.headers.get_all("Origin"):
            why = why_refused(host, origin, settings.allowed_origins, authenticates=settings.authenticates)
            if why is not None:
                return why
        return None

    def _admit(self) -> None:
        """Let the connection in, or close it with the code that says why not."""
        assert self._admission is not None
        admission, self._admission = self._admission, None
        session = self._session
        assert session is not None
        session.surplus = self._sessions.is_full
        refused = self._refusal(admission) or self._identify(session, admission)
        if refused is not None:
            code, reason = refused
            why, _, message = reason.partition(": ")
            if code == CloseCode.TRY_AGAIN_LATER and not self._sessions.draining:
                self._sessions.metrics.refuse_connection(why, session.client, message)
            else:
                self._sessions.metrics.count_connection_refusal(why)
            self.close(code, reason[:REASON_CHARS_MAX])
            return
        if session.agent is not None:
            self._sessions.named(session, session.agent)
            self._sessions.on_agent(session.agent)
        self.transport.set_write_buffer_limits(high=self._sessions.settings.write_buffer)
        session.write = self.transport.write
        self._sessions.metrics.connections_opened += 1
        self._sessions.joined(session)
        if session.agent is None:
            patience = self._sessions.settings.hello_timeout
            if session.surplus:
                patience = min(patience, SURPLUS_SECONDS)
            self._timer = self._loop.call_later(patience, self._no_hello)
        log.debug("connection opened", session=session.id)

    def _refusal(self, admission: _Admission) -> tuple[CloseCode, str] | None:
        offered = admission.offered
        if offered and SUBPROTOCOL not in offered:
            return CloseCode.NOT_THIS_PROTOCOL, f"subprotocol: this is {SUBPROTOCOL}"
        if self._sessions.draining:
            return CloseCode.TRY_AGAIN_LATER, "shutting down: reconnect"
        if self._sessions.is_crowded:
            return CloseCode.TRY_AGAIN_LATER, self._sessions.room.why
        if admission.agent is not None:
            try:
                check_agent(admission.agent)
            except BadName:
                return CloseCode.UNAUTHORIZED, "agent name: not one that an agent can have"
        return None

    def _identify(self, session: Session, admission: _Admission) -> tuple[CloseCode, str] | None:
        """Find out who it is, as far as the handshake tells; `hello` may tell the rest."""
        access = self._sessions.access
        if access.enabled and admission.credential is None:
            return None
        try:
            identity = access.identify(admission.credential)
        except Denied as denied:
            code = CloseCode.TOKEN_EXPIRED if denied.expired else CloseCode.UNAUTHORIZED
            return code, f"token: {denied}"
        agent = admission.agent or identity.name
        if agent is not None:
            why = access.why_not(identity, Operation.SPEAK_AS, agent)
            if why is not None:
                return CloseCode.FORBIDDEN, f"agent name: {why}"
        session.know(identity)
        session.groups = identity.groups
        if session.surplus:  # `hello` has to say first whether it replaces another
            return None
        session.agent = agent
        try:
            self._sessions.arrived(session)
        except Refusal as refusal:
            session.agent = None
            return CloseCode.TRY_AGAIN_LATER, f"{refusal.limit or refusal.code}: {refusal.message}"
        return None

    def _no_hello(self) -> None:
        self._timer = None
        if self._session is not None and self._session.surplus:
            self._sessions.turn_away(self._session)
        elif self._session is not None and self._session.agent is None:
            message = "no hello in time (hello_timeout)"
            self._sessions.metrics.refuse_connection("hello_timeout", self._session.client, message)
            self.close(CloseCode.UNAUTHORIZED, message)


@dataclass(slots=True)
class _Admission:
    """What a client said in its handshake."""

    offered: list[str]
    """Subprotocols."""
    agent: str | None
    """The name in the address."""
    credential: str | None = field(repr=False)


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
