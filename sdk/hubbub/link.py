"""One connection's life: handshake, reading, writing, silence, end.

    open()    connect -> hello -> welcome                         raises LinkRefused, LinkFailed
    run()     read until the connection ends                      returns an Ending
    send()    queue a line; all that is queued in one turn of the event loop leaves as one frame
    ask()     queue a request; its `ok` or `err` goes to a callback

A link never reconnects and never outlives its connection: what is still queued or unanswered when it ends is dropped,
and whoever asked asks again on the next link.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from msgspec import Raw

from hubbub_protocol import codec
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import (
    NO_DATA,
    BrokerFrame,
    Err,
    Frame,
    Goaway,
    Hello,
    Msg,
    Ok,
    Ping,
    Pong,
    Rid,
    Welcome,
    Will,
)
from hubbub_protocol.limits import FRAME_BYTES_MAX, INFLIGHT_MAX

from . import policy
from .errors import Refused
from .fleet import Fleet
from .renewal import keep_fresh
from .stats import Stats
from .transport import ConnectFailed, Connection, ConnectionLost, Transport, is_binary, open_within

logger = logging.getLogger("hubbub")

FRAME_BYTES_TARGET = 64 << 10
"""Lines are joined up to this size, in bytes: a frame's cost is spread thin by then, and a larger one only waits."""

LINES_PER_TURN = 256
"""Lines taken in before everyone else has a turn: a connection that has frames waiting would else go on and on, and the
readers of its messages would seem slow."""

SILENT_BEATS_MAX = 2
"""Heartbeat intervals without a word from the broker after which the connection counts as dead. It is asked after
the first."""

Answer = Callable[[Ok | Err], None]
Greeted = Callable[[Welcome | Ok | Err], None]
Receiver = Callable[[list[BrokerFrame]], None]
BinaryReceiver = Callable[[Msg, bytes], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect and as whom."""

    url: str
    agent: str
    session: str
    groups: list[str]
    meta: bytes | None
    token: Callable[[], Awaitable[str | None]]
    will: Will | None = None
    capabilities: list[str] | None = None
    description: str | None = None
    connect_timeout: float = 10.0
    """Seconds for the connection, and again for the welcome."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended."""

    code: int
    reason: str
    retry_after: float | None = None
    """Seconds to stay away, when the broker said so."""
    refusal: Refused | None = None
    """Set when the client should not come back."""
    lived: float = 0.0
    """Seconds between the welcome and the end."""


class LinkFailed(Exception):
    """No link came about; a later attempt may succeed."""

    def __init__(self, reason: str, retry_after: float | None = None, url: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.url = url
        """Where the broker says to go instead."""


class LinkRefused(Exception):
    """No link came about, and none will."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Link:
    """A welcomed connection."""

    def __init__(self, connection: Connection, welcome: Welcome, early: list[bytes], stats: Stats) -> None:
        self._stats = stats
        self.welcome = welcome
        self.frame_bytes_max = _limit(welcome.limits, "max_frame", FRAME_BYTES_MAX)
        self.inflight_max = _limit(welcome.limits, "max_inflight", INFLIGHT_MAX)
        self.on_parted: Callable[[set[str]], None] = _nothing_parted
        """Called with subscriptions that the broker has lost although the connection goes on: a worker's of several."""
        self.on_beat: Callable[[], None] = _nothing
        """Called once a heartbeat interval, for what else wants watching."""
        self._connection = connection
        self._early = early
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._broker_opened_at = welcome.ts or time.time()
        self._out: deque[bytes | tuple[bytes, bytes]] = deque()
        self._writable: asyncio.Future[None] | None = None
        self._answers: dict[Rid, Answer] = {}
        self._rids = count(1)
        self._heard = True
        self._silent_beats = 0
        self._beat: asyncio.TimerHandle | None = None
        self._goaway_until: float | None = None
        self._retry_after: float | None = None
        self._given_up: str | None = None
        self._ended = False
        self._endpoint: Endpoint | None = None
        self._token: str | None = None
        self._greeting: tuple[Rid, Greeted] | None = None
        """The `hello` that has no answer yet, after the first one."""

    @classmethod
    async def open(cls, transport: Transport, endpoint: Endpoint, stats: Stats) -> "Link":
        """Connect, introduce the agent, and wait for the welcome.

        Raises:
            LinkFailed: try again later.
            LinkRefused: don't.
        """
        try:
            token = await endpoint.token()
        except Exception as error:
            logger.exception("! the token callable failed")
            raise LinkFailed(f"the token callable raised {type(error).__name__}") from error
        connection, welcome, early = await _introduce(transport, endpoint, endpoint.url, token, _hello(endpoint))
        if welcome.workers is not None and len(welcome.workers) > 1:
            connection = _fleet(transport, endpoint, connection, welcome)
        link = cls(connection, welcome, early, stats)
        link._endpoint, link._token = endpoint, token
        return link

    def broker_time(self) -> float:
        """The broker's clock, in seconds since the epoch: never ahead of it (by a drifting clock, at most).

        A broker that does not tell its time (an extension) is taken to have this machine's.
        """
        return self._broker_opened_at + (self._loop.time() - self._opened_at)

    def send(self, line: bytes) -> None:
        """Queue a line."""
        self._out.append(line)
        writable = self._writable
        if writable is not None and not writable.done():
            writable.set_result(None)

    def send_binary(self, header: bytes, payload: bytes) -> None:
        """Queue a message whose payload is bytes: a frame of its own, in its place among the lines."""
        self._out.append((header, payload))
        writable = self._writable
        if writable is not None and not writable.done():
            writable.set_result(None)

    def ask(self, request: Callable[[Rid], Frame], answer: Answer) -> None:
        """Queue the request that `request(rid)` makes. `answer` gets its `ok` or `err`, unless the link ends first."""
        rid = next(self._rids)
        self._answers[rid] = answer
        self.send(codec.encode(request(rid)))

    def greet(self, token: str, answer: Greeted) -> None:
        """Say hello again with a fresh token. `answer` gets the `welcome` or `err`, unless the link ends first."""
        assert self._endpoint is not None
        rid = next(self._rids)
        self._greeting = (rid, answer)
        self._answers[rid] = answer
        self.send(codec.encode(_hello(self._endpoint, token, rid)))

    async def run(self, receive: Receiver, receive_binary: BinaryReceiver) -> Ending:
        """Read until the connection ends. Frames go to `receive`, in order; binary ones to `receive_binary`."""
        tasks = [asyncio.create_task(self._write(), name="hubbub-writer")]
        if self.welcome.expires is not None and self._endpoint is not None and self._token:
            renewing = keep_fresh(self, self._endpoint.token, self._token)
            tasks.append(asyncio.create_task(renewing, name="hubbub-renewal"))
        self._schedule_beat()
        if isinstance(self._connection, Fleet):
            self._connection.on_parted = self.on_parted
        try:
            for frame in self._early:
                self._take(frame, receive, receive_binary)
            taken = 0
            while True:
                frame = await self._connection.receive()
                self._heard = True
                taken += self._take(frame, receive, receive_binary)
                if taken >= LINES_PER_TURN:
                    taken = 0
                    await asyncio.sleep(0)
        except ConnectionLost as lost:
            return self._ending(lost)
        finally:
            self._ended = True
            if self._beat is not None:
                self._beat.cancel()
            for task in tasks:
                task.cancel()
            try:
                # Not each by itself: a cancellation of this task would look like that of the one it waits for.
                await asyncio.wait(tasks)
            finally:
                self._connection.abort()
            for task in tasks:
                if not task.cancelled():
                    task.exception()  # the connection's end, which is known by now

    def drop(self, reason: str) -> None:
        """End the connection from this side, as a loss: `run()` returns and the caller may come back."""
        if not self._ended:
            self._given_up = reason
            self._connection.abort()

    async def close(self) -> None:
        """Send what is queued, then say goodbye properly."""
        with contextlib.suppress(ConnectionLost):
            while self._out:
                frame, binary = self._next_frame()
                await self._connection.send(frame, binary=binary)
        await self._connection.close()

    # Reading ----------------------------------------------------------------------------------------------------

    def _take(self, frame: bytes, receive: Receiver, receive_binary: BinaryReceiver) -> int:
        """Hand a frame on; returns how many lines it had."""
        if is_binary(frame):
            self._take_binary(frame, receive_binary)
            return 1
        try:
            frames = codec.decode_broker_lines(frame)
        except BadFrame:
            frames = self._salvage(frame)
        receive(frames)
        return len(frames)

    def _take_binary(self, frame: bytes, receive_binary: BinaryReceiver) -> None:
        try:
            header, payload = codec.split_binary(frame)
            message = codec.decode_broker(header)
        except BadFrame as error:
            self._stats.bad_frames += 1
            logger.warning("! unreadable binary frame: %s", error)
            return
        if isinstance(message, Msg):
            receive_binary(message, payload)

    def _salvage(self, frame: bytes) -> list[BrokerFrame]:
        """Line by line, leaving out those that can't be read: one bad line must hurt only itself."""
        frames = []
        for line in frame.split(b"\n"):
            if not line:
                continue
            try:
                frames.append(codec.decode_broker(line))
            except BadFrame as error:
                self._stats.bad_frames += 1
                logger.warning("! unreadable line of %d bytes: %s", len(line), error)
        return frames

    def control(self, frame: BrokerFrame) -> None:
        """Take a frame that concerns the connection itself, or answers a request."""
        if isinstance(frame, Ok | Err) and frame.rid is not None:
            answer = self._answers.pop(frame.rid, None)
            if answer is not None:
                answer(frame)
        elif isinstance(frame, Welcome):
            self._welcomed_again(frame)
        elif isinstance(frame, Err):
            # Not about any one request: what the broker says before it closes.
            self._retry_after = frame.retry_after
            logger.warning("! the broker says %s: %s", frame.code, frame.message)
        elif isinstance(frame, Goaway):
            self._goaway_until = self._loop.time() + max(0.0, frame.reconnect_after)
            logger.info("< goaway: %s, come back in %.1f s", frame.reason, frame.reconnect_after)
        elif not isinstance(frame, Pong):
            logger.debug("< ignored %s", type(frame).__name__)

    def _welcomed_again(self, welcome: Welcome) -> None:
        self.welcome = welcome
        greeting, self._greeting = self._greeting, None
        if greeting is not None:
            rid, answer = greeting
            self._answers.pop(rid, None)
            answer(welcome)

    def _ending(self, lost: ConnectionLost) -> Ending:
        retry_after = self._retry_after if lost.retry_after is None else lost.retry_after
        if self._goaway_until is not None:
            retry_after = max(0.0, self._goaway_until - self._loop.time())
        return Ending(
            code=lost.code,
            reason=self._given_up or lost.reason,
            retry_after=retry_after,
            refusal=policy.refusal_of_close(lost.code, lost.reason),
            lived=self._loop.time() - self._opened_at,
        )

    # Writing ----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            if not self._out:
                self._writable = self._loop.create_future()
                await self._writable
                self._writable = None
            frame, binary = self._next_frame()
            try:
                await self._connection.send(frame, binary=binary)
            except ConnectionLost:
                return  # the reader learns it too, and says so

    def _next_frame(self) -> tuple[bytes, bool]:
        """The next frame to write: one binary message, or as many lines as fit."""
        out = self._out
        first = out.popleft()
        if not isinstance(first, bytes):
            return codec.join_binary(*first), True
        lines = [first]
        room = min(FRAME_BYTES_TARGET, self.frame_bytes_max) - len(first)
        while out:
            line = out[0]
            if not isinstance(line, bytes):
                break
            room -= len(line) + 1
            if room < 0:
                break
            lines.append(line)
            out.popleft()
        return b"\n".join(lines) if len(lines) > 1 else first, False

    # Silence ----------------------------------------------------------------------------------------------------

    def _schedule_beat(self) -> None:
        interval = self.welcome.heartbeat
        if interval > 0:
            self._beat = self._loop.call_later(interval, self._on_beat)

    def _on_beat(self) -> None:
        self._silent_beats = 0 if self._heard else self._silent_beats + 1
        self._heard = False
        if self._silent_beats >= SILENT_BEATS_MAX:
            logger.warning("! the broker is silent: connection given up")
            self.drop("no word from the broker")
            return
        if self._silent_beats:
            # The WebSocket library answers the broker's pings unseen, so an idle connection has to be asked.
            self.send(codec.encode(Ping()))
        self._schedule_beat()
        self.on_beat()


def _nothing() -> None:
    """The beat that nobody listens to."""


def _nothing_parted(_topics: set[str]) -> None:
    """Nobody subscribes here."""


def _limit(limits: dict[str, Any], name: str, default: int) -> int:
    value = limits.get(name, default)
    return value if isinstance(value, int) and value > 0 else default


def _hello(endpoint: Endpoint, token: str | None = None, rid: Rid | None = None) -> Hello:
    return Hello(
        agent=endpoint.agent,
        token=token,
        rid=rid,
        session=endpoint.session,
        groups=endpoint.groups or None,
        meta=NO_DATA if endpoint.meta is None else Raw(endpoint.meta),
        will=endpoint.will,
        capabilities=endpoint.capabilities,
        description=endpoint.description,
    )


async def _introduce(
    transport: Transport, endpoint: Endpoint, url: str, token: str | None, hello: Hello
) -> tuple[Connection, Welcome, list[bytes]]:
    """Connect, say hello, and wait for the welcome. The connection, the welcome, and what came behind it.

    Raises:
        LinkFailed, LinkRefused: as `Link.open`.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection = await open_within(transport, url, headers, endpoint.connect_timeout)
    except ConnectFailed as failure:
        refusal = policy.refusal_of_status(failure.status)
        if refusal is not None:
            raise LinkRefused(refusal) from failure
        raise LinkFailed(str(failure)) from failure
    try:
        async with asyncio.timeout(endpoint.connect_timeout):
            await connection.send(codec.encode(hello))
            welcome, early = await _welcome(connection)
    except TimeoutError:
        connection.abort()
        raise LinkFailed(f"no welcome within {endpoint.connect_timeout:g} s") from None
    except ConnectionLost as lost:
        refusal = policy.refusal_of_close(lost.code, lost.reason)
        if refusal is not None:
            raise LinkRefused(refusal) from lost
        raise LinkFailed(str(lost)) from lost
    except BaseException:
        connection.abort()
        raise
    return connection, welcome, early


def _fleet(transport: Transport, endpoint: Endpoint, main: Connection, welcome: Welcome) -> Connection:
    """A connection to all workers, begun with the one to the first."""
    # Its groups and its will are main's: the will is to be said once, and the groups would only send it back there.
    plain = replace(endpoint, groups=[], will=None, capabilities=None, description=None)

    async def open(url: str) -> tuple[Connection, Welcome, list[bytes]]:
        return await _introduce(transport, plain, url, await endpoint.token(), _hello(plain))

    return Fleet(main, welcome, open, lambda token: _hello(plain, token))


async def _welcome(connection: Connection) -> tuple[Welcome, list[bytes]]:
    """The broker's welcome, and what came in the same frame behind it."""
    while True:
        frame = await connection.receive()
        if is_binary(frame):
            continue
        line, _, rest = frame.partition(b"\n")
        try:
            answer = codec.decode_broker(line)
        except BadFrame as error:
            raise LinkFailed(f"what answers does not speak this protocol: {error}") from error
        if isinstance(answer, Welcome):
            return answer, [rest] if rest else []
        if isinstance(answer, Err):
            refusal = policy.refusal_of_hello(answer)
            if refusal is not None:
                raise LinkRefused(refusal)
            url = answer.url if answer.code == ErrorCode.WRONG_SHARD else None
            raise LinkFailed(f"{answer.code}: {answer.message}", answer.retry_after, url)
