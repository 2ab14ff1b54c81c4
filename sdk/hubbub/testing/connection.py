"""Both ends of a connection in memory."""

import asyncio
from collections import deque
from typing import Protocol

from hubbub.transport import ABNORMAL, ConnectionLost, is_binary
from hubbub_protocol import codec
from hubbub_protocol.errors import BadFrame, CloseCode, ErrorCode
from hubbub_protocol.frames import (
    Change,
    Err,
    Frame,
    Get,
    Hello,
    Join,
    Leave,
    Ping,
    Pong,
    Pub,
    Renew,
    State,
    Sub,
    Unsub,
)

from .consumers import Settle
from .topic_log import Stored, Subscriber


class Desk(Protocol):
    """The broker, as a connection sees it."""

    mute: bool

    def forget(self, session: "Session") -> None:
        """The connection has ended."""

    def hello(self, session: "Session", hello: Hello) -> None:
        """The client introduces itself."""

    def publish(self, session: "Session", pub: Pub, payload: bytes | None) -> None:
        """A message comes in."""

    def subscribe(self, session: "Session", sub: Sub) -> None:
        """A subscription comes in."""

    def unsubscribe(self, session: "Session", unsub: Unsub) -> None:
        """A subscription ends."""

    def attend(self, session: "Session", frame: Join | Leave) -> None:
        """The client comes to a topic, or goes."""

    def share(self, session: "Session", frame: State | Change | Renew) -> None:
        """The client asks something of a shared state."""

    def find(self, session: "Session", get: Get) -> None:
        """The client asks for a stored message."""

    def settle(self, session: "Session", frame: Settle) -> None:
        """A consumer's member says what became of a message."""


class Session:
    """One connection, at the broker's end."""

    def __init__(self, broker: Desk, end: "ClientEnd") -> None:
        self.broker = broker
        self.end = end
        self.agent = ""
        self.session = ""
        self.subs: dict[str, Subscriber] = {}
        self.unanswered = 0
        self.open = True
        self._out: list[bytes] = []
        self._flushing = False

    def send(self, frame: Frame) -> None:
        """Send a frame, with the others of this turn."""
        self.send_line(codec.encode(frame))

    def send_line(self, line: bytes) -> None:
        """Send a line, with the others of this turn."""
        self._out.append(line)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def send_stored(self, stored: Stored) -> None:
        """Send a message."""
        if stored.payload is None:
            self.send_line(stored.line)
        else:
            self.flush()
            if self.open:
                self.end.deliver(codec.join_binary(stored.line, stored.payload))

    def flush(self) -> None:
        """Send what is waiting."""
        self._flushing = False
        if self._out and self.open:
            self.end.deliver(b"\n".join(self._out))
        self._out.clear()

    def close(self, code: int, reason: str = "") -> None:
        """End the connection from the broker's side, after what was said so far."""
        if self.open:
            self.flush()
            self.open = False
            self.broker.forget(self)
            self.end.lose(code, reason)

    def take(self, frame: bytes) -> None:
        """A frame came from the client."""
        if not self.open or self.broker.mute:
            return
        if is_binary(frame):
            header, payload = codec.split_binary(frame)
            self._take_line(header, payload)
            return
        for line in frame.split(b"\n"):
            if self.open:
                self._take_line(line, None)

    def _take_line(self, line: bytes, payload: bytes | None) -> None:
        try:
            frame = codec.decode_client(line)
        except BadFrame as error:
            rid, id = codec.reference_of(line)
            self.send(Err(rid=rid, id=id, code=ErrorCode.BAD_REQUEST, message=str(error)))
            return
        if isinstance(frame, Hello):
            self.broker.hello(self, frame)
        elif not self.agent:
            self.close(CloseCode.NOT_THIS_PROTOCOL, "hello comes first")
        elif isinstance(frame, Pub):
            self.broker.publish(self, frame, payload)
        elif isinstance(frame, Sub):
            self.broker.subscribe(self, frame)
        elif isinstance(frame, Unsub):
            self.broker.unsubscribe(self, frame)
        elif isinstance(frame, Join | Leave):
            self.broker.attend(self, frame)
        elif isinstance(frame, State | Change | Renew):
            self.broker.share(self, frame)
        elif isinstance(frame, Get):
            self.broker.find(self, frame)
        elif isinstance(frame, Ping):
            self.send(Pong(rid=frame.rid))
        else:
            self.broker.settle(self, frame)


class ClientEnd:
    """A `Connection`, at the client's end."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self._frames: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: ConnectionLost | None = None

    def deliver(self, frame: bytes) -> None:
        """Called by the broker's end."""
        if self._lost is None:
            self._frames.append(frame)
            self._wake()

    def lose(self, code: int, reason: str = "") -> None:
        """Called by the broker's end: nothing comes after what was delivered."""
        if self._lost is None:
            self._lost = ConnectionLost(code, reason)
            self._wake()

    async def receive(self) -> bytes:
        while not self._frames:
            if self._lost is not None:
                raise self._lost
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        assert is_binary(frame) is binary, "a frame is of the kind that it is sent as"
        if self._lost is not None:
            raise self._lost
        assert self.session is not None
        asyncio.get_running_loop().call_soon(self.session.take, frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await asyncio.sleep(0)  # what was sent before arrives before
        self._end(code, reason)

    def abort(self) -> None:
        self._frames.clear()
        self._end(ABNORMAL, "")

    def _end(self, code: int, reason: str) -> None:
        if self.session is not None and self.session.open:
            self.session.open = False
            self.session.broker.forget(self.session)
        self.lose(code, reason)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
