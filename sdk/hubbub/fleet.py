"""One connection that is several: where a broker has several workers, one to each that is needed, and no one sees it.

The first connection, *main*, is to the worker that welcomed the agent. Lines for groups of another worker go over a
connection to that one, made when the first such line comes. What arrives on any of them is received as from one.

    a subscription to a pattern of all groups    is one at every worker; its `ok` and its `live` are passed on when all
                                                 have come
    main is lost                                 the whole is
    another one is lost that was up              what was sent there and has no answer is answered `overloaded` with
                                                 `retry_after`, and `on_parted` is told of its subscriptions, which are
                                                 asked for again. Nothing else notices. Only where consumers or presence
                                                 were there the whole is lost, and may come back at once
    another one can't be made                    what is for it is answered as above

What is sent to one worker keeps its order. Between workers there is none, but what the agent waits for.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec

from hubbub_protocol import codec
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import Err, Hello, Live, Ok, Ping, Rid, Sub, Unsub, Welcome
from hubbub_protocol.names import MAIL_GROUP, is_pattern
from hubbub_protocol.routing import worker_of

from .transport import ABNORMAL, Connection, ConnectionLost, is_binary

logger = logging.getLogger("hubbub")

RETRY_SECONDS = 0.25
"""What a line for a worker that is away is told: a worker is back within a second or two."""

HOLD_SECONDS = 0.5
"""How long lines wait for a connection that is being made, before they are refused: meanwhile they fill the agent's
window, which other workers' messages share."""

UNSENT_BYTES_MAX = 4 << 20
"""What may wait for a connection's socket before publishes there are refused."""

FRAME_BYTES_TARGET = 64 << 10
"""Lines are joined up to this size, in bytes."""

QUEUE_FRAMES = 64
"""Received frames read ahead of the SDK, of each connection."""

SILENT_BEATS_MAX = 2
"""Heartbeat intervals without a word from a worker after which its connection counts as dead."""

GROUPS_KEPT = 10_000
"""Groups of which it is remembered where they are."""

NOBODY = -1
"""Stands for the number of a worker that is away."""

_WELCOME = b'{"op":"welcome"'
_GOAWAY = b'{"op":"goaway"'


class _Line(msgspec.Struct):
    """What has to be known of a line to send it on."""

    op: str
    topic: str = ""
    rid: Rid | None = None
    id: str | None = None
    consumer: str | None = None
    presence: bool = False

    @property
    def binds(self) -> bool:
        """Whether it makes this connection one that the agent's state depends on."""
        return self.op == "join" or (self.op == "sub" and (self.consumer is not None or self.presence))


_decode = codec.reader_of(_Line)

Open = Callable[[str], Awaitable[tuple[Connection, Welcome, list[bytes]]]]
"""Connects to an address and says hello there. Raises what a link's opening raises."""


@dataclass
class _Round:
    """A request to every worker, until all have answered."""

    waiting: set[int]
    topic: str
    subscribes: bool
    ok: Ok | None = None
    err: Err | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Parted:
    """Stands among received frames where a worker's connection was lost: its subscriptions are gone."""

    def __init__(self, number: int, topics: set[str]) -> None:
        self.number = number
        self.topics = topics
        """What was subscribed there, patterns of all groups among it."""


class _Member:
    """The connection to one worker, from the first line that is for it."""

    def __init__(self, number: int, url: str, frame_bytes: int) -> None:
        self.number = number
        self.url = url
        self.frame_bytes = frame_bytes
        """Up to which lines are joined."""
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.since = 0.0
        """When it began to connect (loop time)."""
        self.heard = True
        self.out: deque[tuple[bytes, bool]] = deque()
        self.out_bytes = 0
        self.more = asyncio.Event()
        self.unanswered: dict[tuple[str, Rid], _Line] = {}
        """What was sent and has no answer, by `id` or `rid`."""
        self.topics: set[str] = set()
        """What is subscribed there."""
        self.binds = False
        """Whether consumers or presence are there."""

    def note(self, line: _Line) -> None:
        """A line goes there."""
        if line.op == "sub" and line.consumer is None:
            self.topics.add(line.topic)
        elif line.op == "unsub" and line.consumer is None:
            self.topics.discard(line.topic)
        if line.rid is not None:
            self.unanswered["rid", line.rid] = line
        elif line.id is not None:
            self.unanswered["id", line.id] = line
        self.binds = self.binds or line.binds

    def answered(self, frame: bytes) -> None:
        """Lines came from there."""
        if b'{"op":"ok"' not in frame and b'{"op":"err"' not in frame:
            return
        for text in frame.split(b"\n"):
            if text.startswith((b'{"op":"ok"', b'{"op":"err"')):
                line = _decode(text)
                if line.rid is not None:
                    self.unanswered.pop(("rid", line.rid), None)
                elif line.id is not None:
                    self.unanswered.pop(("id", line.id), None)

    def reset(self) -> list[_Line]:
        """The connection is gone: nothing is there any more. What had no answer."""
        left = list(self.unanswered.values())
        self.unanswered.clear()
        self.topics = set()
        self.binds = False
        self.connection = None
        self.task = None
        self.out.clear()
        self.out_bytes = 0
        return left

    def put(self, frame: bytes, *, binary: bool) -> None:
        self.out.append((frame, binary))
        self.out_bytes += len(frame)
        self.more.set()

    def next_frame(self) -> tuple[bytes, bool]:
        """One binary frame, or the lines up to the next one."""
        frame, binary = self.out.popleft()
        self.out_bytes -= len(frame)
        lines = [frame]
        room = self.frame_bytes - len(frame)
        while not binary and self.out and not self.out[0][1] and len(self.out[0][0]) < room:
            line, _ = self.out.popleft()
            self.out_bytes -= len(line)
            room -= len(line) + 1
            lines.append(line)
        return b"\n".join(lines) if len(lines) > 1 else frame, binary


class Fleet:
    """A `Connection` to a broker of several workers.

    Args:
        main: the connection that was welcomed.
        welcome: what it was welcomed with: names the workers.
        open: connects to another worker.
        hello: the `hello` for another worker, with a fresh token.
    """

    def __init__(self, main: Connection, welcome: Welcome, open: Open, hello: Callable[[str | None], Hello]) -> None:
        assert welcome.workers is not None
        self._main = main
        self._heartbeat = welcome.heartbeat
        self._own = welcome.worker or 0
        self._shards = welcome.shards or 1
        self._open = open
        self._hello = hello
        self._loop = asyncio.get_running_loop()
        limit = welcome.limits.get("max_frame", FRAME_BYTES_TARGET)
        frame_bytes = min(FRAME_BYTES_TARGET, limit if isinstance(limit, int) else FRAME_BYTES_TARGET)
        self._members = {
            number: _Member(number, url, frame_bytes)
            for number, url in enumerate(welcome.workers)
            if number != self._own
        }
        self._workers = len(welcome.workers)
        self._groups: dict[str, int] = {}
        self.on_parted: Callable[[set[str]], None] = _nobody
        """Called with what was subscribed at a worker that was lost, in its place among what is received."""
        self._frames: deque[bytes | Parted] = deque()
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._lost: ConnectionLost | None = None
        self._rounds: dict[Rid, _Round] = {}
        self._own_rids = count(1)
        self._lives: dict[str, set[int]] = {}
        """Patterns of which not every worker has said `live`, and who has not."""
        self._ended = False
        self._reading = asyncio.create_task(self._read(self._own, main), name="hubbub-worker-main")

    # Connection -----------------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """The next frame, of whichever worker."""
        while True:
            while not self._frames:
                if self._lost is not None:
                    raise self._lost
                self._came.clear()
                await self._came.wait()
            frame = self._frames.popleft()
            if len(self._frames) < QUEUE_FRAMES:
                self._room.set()
            if isinstance(frame, bytes):
                return frame
            self.on_parted(frame.topics)

    async def send(self, frame: bytes, *, binary: bool = False) -> None:
        """Send each line to its worker; waits for main's socket alone."""
        if binary:
            header, _ = codec.split_binary(frame)
            line = _decode(header)
            target = self._target(line)
            if target == self._own:
                await self._main.send(frame, binary=True)
            else:
                self._pass_on(target, frame, line, binary=True)
            return
        mine: list[bytes] = []
        for text in frame.split(b"\n"):
            line = _decode(text)
            if line.op == "hello":
                self._greet_again(text)
                mine.append(text)
            elif line.op in ("sub", "unsub") and is_pattern(line.topic.partition("/")[0]):
                mine += self._to_all(text, line)
            elif (target := self._target(line)) == self._own:
                mine.append(text)
            else:
                self._pass_on(target, text, line)
        if mine:
            await self._main.send(b"\n".join(mine))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye everywhere. What waits for another worker's socket is sent first."""
        self._ended = True
        up = [member for member in self._members.values() if member.connection is not None]
        await asyncio.gather(*(self._leave(member, code, reason) for member in up), self._main.close(code, reason))
        self.abort()

    def abort(self) -> None:
        """End all connections at once."""
        self._ended = True
        self._main.abort()
        self._reading.cancel()
        for member in self._members.values():
            if member.task is not None:
                member.task.cancel()
            if member.connection is not None:
                member.connection.abort()
        self._lose(ConnectionLost(ABNORMAL, "ended here"))

    async def _leave(self, member: _Member, code: int, reason: str) -> None:
        connection = member.connection
        assert connection is not None
        with contextlib.suppress(ConnectionLost):
            while member.out:
                frame, binary = member.next_frame()
                await connection.send(frame, binary=binary)
        await connection.close(code, reason)

    # To the workers -------------------------------------------------------------------------------------------------

    def _target(self, line: _Line) -> int:
        group = line.topic.partition("/")[0]
        if not group or group == MAIL_GROUP:  # mail is taken anywhere
            return self._own
        target = self._groups.get(group)
        if target is None:
            if len(self._groups) >= GROUPS_KEPT:
                self._groups.clear()
            target = self._groups[group] = worker_of(group, self._shards, self._workers)
        return target

    def _pass_on(self, target: int, frame: bytes, line: _Line, *, binary: bool = False) -> None:
        member = self._members[target]
        if member.connection is None:
            if member.task is None and not self._ended:
                member.since = self._loop.time()
                member.task = asyncio.create_task(self._live(member), name=f"hubbub-worker-{target}")
                self._loop.call_later(HOLD_SECONDS, self._hold_no_longer, member)
            elif self._loop.time() - member.since >= HOLD_SECONDS:
                self._refuse(line, "is away")
                return
        if line.op == "pub" and member.out_bytes > UNSENT_BYTES_MAX:
            self._refuse(line, "takes nothing now")
            return
        member.note(line)
        member.put(frame, binary=binary)

    def _hold_no_longer(self, member: _Member) -> None:
        if member.connection is None:
            self._refuse_all(member)

    def _refuse_all(self, member: _Member) -> None:
        member.out.clear()
        member.out_bytes = 0
        unanswered, member.unanswered = member.unanswered, {}
        for line in unanswered.values():
            self._refuse(line, "is away")

    def _refuse(self, line: _Line, why: str) -> None:
        """Answer as a broker would that can't take it now."""
        target = self._target(line) if not is_pattern(line.topic.partition("/")[0]) else -1
        message = f"worker {target} {why}" if target >= 0 else f"a worker {why}"
        err = Err(code=ErrorCode.OVERLOADED, message=message, rid=line.rid, retry_after=RETRY_SECONDS)
        if line.id is not None:
            err = msgspec.structs.replace(err, id=line.id, topic=line.topic)
        elif line.rid is None:
            return
        if err.rid in self._rounds:
            self._answered(NOBODY, err)
        else:
            self._push(codec.encode(err))

    def _greet_again(self, text: bytes) -> None:
        """A fresh token is shown everywhere."""
        token = codec.decode_client(text)
        assert isinstance(token, Hello)
        for member in self._members.values():
            if member.connection is not None:
                member.put(codec.encode(self._hello(token.token)), binary=False)

    def _to_all(self, text: bytes, line: _Line) -> list[bytes]:
        """A pattern of all groups: ask every worker. What main is to be sent; nothing, if one of the others is away."""
        if line.rid is not None:
            waiting = {self._own, *self._members}
            self._rounds[line.rid] = _Round(waiting, line.topic, line.op == "sub")
        if line.op == "sub":
            sub = codec.decode_client(text)
            assert isinstance(sub, Sub)
            text = codec.encode(msgspec.structs.replace(sub, here=True))
            self._lives[line.topic] = {self._own, *self._members}
        else:
            self._lives.pop(line.topic, None)
        for number in self._members:
            self._pass_on_to(number, text, line)
        away = line.op == "sub" and line.rid is not None and line.rid not in self._rounds
        return [] if away else [text]

    def _pass_on_to(self, number: int, text: bytes, line: _Line) -> None:
        member = self._members[number]
        if member.connection is None and member.task is not None and self._loop.time() - member.since >= HOLD_SECONDS:
            self._refuse(line, "is away")
        else:
            self._pass_on(number, text, line)

    # One worker's connection ----------------------------------------------------------------------------------------

    async def _live(self, member: _Member) -> None:
        """Connect to a worker, and carry both ways until it is lost."""
        try:
            connection, welcome, early = await self._open(member.url)
        except Exception as error:  # noqa: BLE001 - whatever it is: this worker can't be had now
            logger.info("! no connection to worker %d: %s", member.number, error)
            member.task = None
            self._refuse_all(member)
            return
        member.connection = connection
        logger.debug("= connected to worker %d", member.number)
        writing = asyncio.create_task(self._write(member, connection), name=f"hubbub-worker-{member.number}-writer")
        if welcome.heartbeat > 0:
            self._loop.call_later(welcome.heartbeat, self._beat, member, connection, 0)
        try:
            for frame in early:
                await self._take(member.number, frame)
            await self._read(member.number, connection)
        finally:
            writing.cancel()
            connection.abort()

    async def _write(self, member: _Member, connection: Connection) -> None:
        with contextlib.suppress(ConnectionLost):  # the reader learns it too
            while True:
                while member.out:
                    frame, binary = member.next_frame()
                    await connection.send(frame, binary=binary)
                member.more.clear()
                await member.more.wait()

    def _beat(self, member: _Member, connection: Connection, silent: int) -> None:
        if member.connection is not connection or self._ended:
            return
        silent = 0 if member.heard else silent + 1
        member.heard = False
        if silent >= SILENT_BEATS_MAX:
            logger.warning("! worker %d is silent: connection given up", member.number)
            connection.abort()
            return
        if silent:
            member.put(codec.encode(Ping()), binary=False)
        self._loop.call_later(self._heartbeat, self._beat, member, connection, silent)

    async def _read(self, number: int, connection: Connection) -> None:
        member = self._members.get(number)
        try:
            while True:
                frame = await connection.receive()
                if member is not None:
                    member.heard = True
                await self._take(number, frame)
        except Exception as error:
            if not isinstance(error, ConnectionLost):  # a defect of this package: the connection starts afresh
                logger.exception("! the reader of worker %d failed", number)
            lost = error if isinstance(error, ConnectionLost) else ConnectionLost(ABNORMAL, "the reader failed")
            if number == self._own:
                self._lose(lost)
            elif member is not None and not member.binds and not self._ended:
                self._part(member, lost)
            else:
                why = f"worker {number} was lost: {lost.reason or f'closed with code {lost.code}'}"
                self._lose(ConnectionLost(ABNORMAL, why, retry_after=0.0))

    def _part(self, member: _Member, lost: ConnectionLost) -> None:
        """A worker's connection is lost on which nothing else depends."""
        logger.info("! worker %d was lost: %s", member.number, lost.reason or f"closed with code {lost.code}")
        topics = member.topics
        everywhere = {topic for topic in topics if is_pattern(topic.partition("/")[0])}
        for line in member.reset():
            self._refuse(line, "was lost")
        for topic in everywhere:  # the others have it still: it is asked for anew, at all of them
            self._undo(topic)
        if topics:
            self._frames.append(Parted(member.number, topics))
            self._came.set()

    def _lose(self, lost: ConnectionLost) -> None:
        if self._lost is None:
            self._lost = lost
        self._came.set()

    # From the workers -----------------------------------------------------------------------------------------------

    async def _take(self, number: int, frame: bytes) -> None:
        if number != self._own and frame.startswith((_WELCOME, _GOAWAY)):
            return  # about that connection alone; when it ends, that is noticed
        if number != self._own and not is_binary(frame):
            self._members[number].answered(frame)
        answered = None
        if (self._rounds or self._lives) and not is_binary(frame):
            answered = self._look_through(number, frame)
        else:
            self._push(frame)
        if answered is not None:
            await answered.done.wait()  # what this worker sends for a pattern comes behind the `ok` of all
        while len(self._frames) >= QUEUE_FRAMES and self._lost is None:
            self._room.clear()
            await self._room.wait()

    def _push(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._came.set()

    def _look_through(self, number: int, frame: bytes) -> _Round | None:
        """Pass a frame on without what is about rounds. A round that waits for others, if one does."""
        answered = None
        plain: list[bytes] = []
        for text in frame.split(b"\n"):
            about = self._about_round(text)
            if about is None:
                plain.append(text)
                continue
            if plain:
                self._push(b"\n".join(plain))
                plain = []
            if isinstance(about, Live):
                self._came_alive(number, about, text)
            else:
                answered = self._answered(number, about) or answered
        if plain:
            self._push(b"\n".join(plain))
        return answered

    def _about_round(self, text: bytes) -> Ok | Err | Live | None:
        if not text.startswith((b'{"op":"ok"', b'{"op":"err"', b'{"op":"live"')):
            return None
        try:
            frame = codec.decode_broker(text)
        except BadFrame:
            return None
        if isinstance(frame, Ok | Err):
            return frame if frame.rid in self._rounds else None
        if isinstance(frame, Live) and frame.consumer is None and frame.topic in self._lives:
            return frame
        return None

    def _answered(self, number: int, frame: Ok | Err) -> _Round | None:
        """One of a round's answers; `number` is `NOBODY` where a worker could not be asked."""
        rid = frame.rid
        assert rid is not None
        round = self._rounds[rid]
        if number != NOBODY:
            round.waiting.discard(number)
        else:
            round.waiting.clear()  # there is no need to wait for the others
        if isinstance(frame, Err):
            round.err = round.err or frame
        elif round.ok is None or number == self._own:
            round.ok = frame
        if round.waiting:
            return round
        del self._rounds[rid]
        if round.err is not None and round.subscribes:
            self._undo(round.topic)
        answer = round.err or round.ok
        assert answer is not None
        self._push(codec.encode(answer))
        round.done.set()
        return None

    def _undo(self, topic: str) -> None:
        """Some have a pattern, some have not: nobody is to have it."""
        self._lives.pop(topic, None)
        line = codec.encode(Unsub(topic=topic, rid=f"undo {next(self._own_rids)}"))  # nobody asks what comes of it
        for member in self._members.values():
            member.topics.discard(topic)
            if member.connection is not None:
                member.put(line, binary=False)
        undoing = self._loop.create_task(self._tell_main(line), name="hubbub-worker-undo")
        undoing.add_done_callback(lambda _: None)

    async def _tell_main(self, line: bytes) -> None:
        with contextlib.suppress(ConnectionLost):
            await self._main.send(line)

    def _came_alive(self, number: int, frame: Live, text: bytes) -> None:
        waiting = self._lives[frame.topic]
        waiting.discard(number)
        if not waiting:
            del self._lives[frame.topic]
            self._push(text)


def _nobody(_topics: set[str]) -> None:
    """Nobody has subscribed to anything."""
