"""A whole shard on a faulty disk, turned by hand: sessions whose sockets are lists, and nothing runs by itself.

site.connect("joe") -> Peer       a client: lines in, lines out, a socket that can be full
site.loop.turn()                  one turn of the event loop
site.sync()                       the oldest sync under way ends
site.tick(seconds)                time passes, and the broker's recurring work is done
site.crash() / site.reopen()      the power goes, and is back
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from hubbub_broker.config import Settings
from hubbub_broker.consumers import ConsumerFigures, Consumers, Latency
from hubbub_broker.guard import Guard
from hubbub_broker.log import LogSettings, ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_broker.session import Intake, Session, Sessions
from hubbub_broker.shard import CatchUp, Shard
from hubbub_broker.state import StateFigures, States
from hubbub_protocol.codec import join_binary, split_binary

from .disk import FaultyDisk, InlineSyncer
from .raw_socket import BINARY, split_frame
from .turn_loop import TurnLoop

Line = dict[str, Any]

CLOCKS = (
    "hubbub_broker.shard.batch.time",
    "hubbub_broker.shard.catch_up.time",
    "hubbub_broker.shard.filtered.time",
    "hubbub_broker.session.session.time",
    "hubbub_broker.consumers.consumer.time",
    "hubbub_broker.consumers.consumers.time",
    "hubbub_broker.consumers.deadlines.time",
    "hubbub_broker.consumers.burials.time",
    "hubbub_broker.consumers.receipts.time",
)
START = 1_000_000.0


class Peer:
    """One client and its connection. What the broker sends goes to `hear`, line by line, and its raw form with it."""

    def __init__(self, site: ShardSite, agent: str, life: str | None) -> None:
        self.site = site
        self.agent = agent
        self.life = life
        self.lines: list[Line] = []
        self.room: int | None = None
        """Bytes that the socket still takes before it is full; None: any number."""
        self.reading = True
        """Whether the broker takes what this client sends."""
        self.close_code: int | None = None
        self.hear: Callable[[Line, bytes], None] = lambda line, raw: self.lines.append(line)
        self.session = Session(site.sessions, self, agent)
        self.intake = Intake(self.session, site.metrics, site.loop)
        site.sessions.joined(self.session)
        self.request("hello", agent=agent, **({} if life is None else {"session": life}))

    # The broker's side of the socket (session.Connection) -------------------------------------------------------------

    def write(self, blob: bytes) -> None:
        if self.site.disk.dead or self.close_code is not None:
            return
        at = 0
        while (frame := split_frame(blob, at)) is not None:
            first, payload, at = frame
            if first == BINARY:
                head, body = split_binary(payload)
                self.hear({**json.loads(head), "payload": body}, head + body)
            else:
                for raw in payload.split(b"\n"):
                    self.hear(json.loads(raw), raw)
        assert at == len(blob)
        if self.room is not None:
            self.room -= len(blob)
            self._fill_up()

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self, code: int, reason: str) -> None:
        self.close_code = code
        self.session.lost()
        self.site.sessions.lost(self.session, 1006)

    # The client's side ------------------------------------------------------------------------------------------------

    def send(self, *lines: Line) -> None:
        """Send lines in one frame, in a turn of the loop. Bytes among the values of `payload` make a binary frame."""
        assert self.reading, "the broker does not read from this client now"
        for binary in [line for line in lines if "payload" in line]:
            head = {name: value for name, value in binary.items() if name != "payload"}
            frame = join_binary(json.dumps(head).encode(), binary["payload"])
            self.site.loop.do(lambda frame=frame: self.intake.binary(frame))  # type: ignore[misc]
        text = b"\n".join(json.dumps(line).encode() for line in lines if "payload" not in line)
        if text:
            self.site.loop.do(lambda: self.intake.text(text))

    def request(self, op: str, **fields: Any) -> None:
        """Send one line. `from_` is spelt `from`."""
        self.send({"op": op, **{name.rstrip("_"): value for name, value in fields.items()}})

    def take(self) -> list[Line]:
        """What has come since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def fill(self, room: int = 0) -> None:
        """Stop reading: the socket takes `room` more bytes, then it is full."""
        self.room = room
        self._fill_up()

    def drain(self) -> None:
        """Read again."""
        self.room = None
        if not self.session.writable and not self.session.closed:
            self.site.loop.do(self.session.drained)

    def disconnect(self) -> None:
        """The connection is lost."""
        self.site.loop.do(lambda: self.close(1006, "lost"))

    def _fill_up(self) -> None:
        if self.room is not None and self.room <= 0 and self.session.writable and not self.session.closed:
            self.session.full(self.site.loop.time())


class OneByOneSyncer(InlineSyncer):
    """Holds every sync until the test lets the oldest end."""

    def __init__(self) -> None:
        super().__init__()
        self.held = True

    def release_one(self) -> None:
        """Do the oldest job."""
        self._do(*self.waiting.pop(0))


class ShardSite:
    """The broker's floors below the socket, put together as `broker.Broker` does it, for one shard."""

    def __init__(self, directory: Path, *, seed: int = 0, log: LogSettings | None = None, **settings: Any) -> None:
        self.directory = directory
        self.disk = FaultyDisk(seed)
        self.settings = Settings(data_dir=directory, shards=1, **settings)
        self.log_settings = log or LogSettings(min_free_bytes=1)
        self.now = START
        self.peers: list[Peer] = []
        self.loop = TurnLoop()
        self._patches = ExitStack()
        for clock in CLOCKS:
            self._patches.enter_context(mock.patch(clock, self.clock))
        self._open()

    def _open(self) -> None:
        self.syncer = OneByOneSyncer()
        self.metrics = Metrics()
        log = self.loop.do(self._open_log)
        policies = self.settings.policies()
        self.catch_up = CatchUp(self.loop, self.metrics)
        self.shard = Shard(0, log, self.settings, policies, self.metrics, self.catch_up, self.loop)
        guard = Guard(self.settings, self.metrics, self.loop.time, lambda kind, data: None, self.loop.call_soon)
        self.sessions = Sessions(
            self.settings,
            self.metrics,
            [self.shard],
            lambda group: self.shard,
            self.catch_up,
            guard,
            lambda group: self.consumers,
        )
        self.consumers = Consumers(
            self.shard,
            self.settings,
            self.metrics,
            ConsumerFigures(),
            Latency(100),
            self.sessions.tell,
            self.loop,
        )
        self.sessions.on_agent = self.consumers.receipts.greeted
        self.states = States(self.shard, self.settings, StateFigures(), self.loop)
        self.sessions.states_of = lambda group: self.states
        self._hold_due = 0.0

    def _open_log(self) -> ShardLog:
        return ShardLog.open(self.directory / "000", self.log_settings, self.syncer, clock=self.clock, files=self.disk)

    def connect(self, agent: str, life: str | None = None) -> Peer:
        """A client that has said hello."""
        peer = Peer(self, agent, life)
        self.peers.append(peer)
        return peer

    def clock(self) -> float:
        """Seconds since the Unix epoch."""
        return self.now

    # Steps ------------------------------------------------------------------------------------------------------------

    def sync(self) -> bool:
        """Let the oldest sync that is under way end, and the loop hear of it. False if there is none."""
        if not self.syncer.waiting:
            return False
        self.loop.do(self.syncer.release_one)
        self.loop.turn()
        return True

    def tick(self, seconds: float) -> None:
        """Time passes; what the broker does now and then is done."""
        self.now += seconds
        self.loop.now += seconds
        self.loop.do(self._look_after)

    def _look_after(self) -> None:
        if self.shard.sequencer.holding:
            self.shard.sequencer.release_overdue()
        self.consumers.tick()
        self.states.expire()
        self.shard.let_go(self.now)
        if self.shard.log.failed is not None:
            self.shard.log.recheck()

    def settle(self) -> None:
        """Sync and turn until nothing is left to do at this moment of time."""
        self.loop.settle()
        while self.syncer.waiting:
            self.sync()
            self.loop.settle()

    def raise_uncaught(self) -> None:
        """Raise what went wrong in a callback of the loop, unless the power is gone anyway."""
        if self.loop.uncaught and not self.disk.dead:
            raise self.loop.uncaught.pop(0)

    # Ends -------------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The power goes (now, if not before): nobody says goodbye, and the disk has what it has."""
        self.disk.dead = True
        self._abandon()
        self.disk.crash()

    def stop(self) -> None:
        """A clean stop: what was accepted is answered and durable."""
        self.loop.do(self.shard.sequencer.release_all)
        flush = self.loop.create_task(self.consumers.flush())
        self.settle()
        assert flush.done()
        self.loop.do(self.shard.log.close)
        self._abandon()

    def reopen(self) -> None:
        """Start again on the same directory."""
        self.loop = TurnLoop()
        self._open()

    def close(self) -> None:
        """Let go of everything."""
        if not self.loop.is_closed():
            self.crash()
        self._patches.close()

    def _abandon(self) -> None:
        self.syncer.waiting.clear()
        self.peers.clear()
        self.shard.log._standings.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.turn()
        self.loop.turn()
        self.loop.close()
