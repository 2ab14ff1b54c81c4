"""The batch: what goes to stable storage together, and what happens when it is there.

    flush()      once a loop turn: signals go out; the batch goes to the log, which writes it and syncs it in a thread
    _committed() the batch is on stable storage: its runs go to the live readers, its `ok`s to the publishers

What is appended while a sync is under way goes with the next: the sync itself is the batching interval.
"""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from time import time
from typing import Protocol

from hubbub_broker.config import Settings
from hubbub_broker.log import LogError, LogFailed, ShardLog
from hubbub_broker.metrics import Metrics
from hubbub_protocol.errors import ErrorCode

from . import answers
from .sink import Sink
from .topic import Run, Topic

RETRY_SECONDS = 1.0
"""What a publisher is told to wait when the shard can take nothing: about as long as a full disk is checked again."""


class Ledger(Protocol):
    """Whoever has records of its own in the shard's log, and lets them go with the batches."""

    def write(self) -> bool:
        """Append what is to go with the batch that is about to be committed. Whether that is anything."""

    def written(self, *, durable: bool) -> None:
        """What was appended then is on stable storage, or was taken back."""


Acks = dict[Sink, list[bytes]]


def _clock() -> float:
    """The time in whole microseconds, as messages carry it: who asks for what came `since` a message's time gets it."""
    return round(time(), 6)


class Batch:
    """Collects what a shard takes, commits it, and hands each topic's run to `deliver` once it may be seen."""

    def __init__(
        self,
        log: ShardLog,
        settings: Settings,
        metrics: Metrics,
        loop: AbstractEventLoop,
        deliver: Callable[[Topic, Run, float], None],
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._loop = loop
        self._deliver = deliver
        self._pending_soft = settings.pending_soft
        self.scheduled = False
        self.now = _clock()
        """The shard's clock, in seconds since the Unix epoch: read once a turn, and never running backwards."""
        self.wire_now = b"%.6f" % self.now
        self._dirty: list[Topic] = []
        self._signal_topics: list[Topic] = []
        self._acks: Acks = {}
        self._signal_acks: Acks = {}
        self._acks_in_flight: Acks = {}
        self._runs_in_flight: list[tuple[Topic, Run]] = []
        self._paused: dict[Sink, None] = {}
        self.on_failure: Callable[[], None] = lambda: None
        """Called when a batch was lost: what waits behind something in it must not go out before that is sent again."""
        self._idle_waiters: list[Future[None]] = []
        self.ledgers: list[Ledger] = []
        self._wanted = False
        """Whether a ledger has something for the next batch."""

    def schedule(self) -> None:
        """Flush at the end of this turn of the loop."""
        self.scheduled = True
        now = _clock()
        if now > self.now:
            self.now = now
            self.wire_now = b"%.6f" % now
        self._loop.call_soon(self._flush)

    def mark_time(self) -> float:
        """A time that lies behind all that was sequenced, and not behind anything that will be."""
        now = max(self.now, _clock()) + 1e-6
        self.now = round(now, 6)
        self.wire_now = b"%.6f" % self.now
        return self.now

    def never_before(self, ts: float) -> None:
        """Nothing gets an earlier time than this, should the machine's clock have been set back since."""
        if ts > self.now:
            self.now = ts
            self.wire_now = b"%.6f" % ts

    # What the sequencer puts in -------------------------------------------------------------------------------------

    def add_durable(self, topic: Topic, line: bytes) -> None:
        """A durable message: nobody is sent it before it is on stable storage."""
        if not topic.queued:
            topic.queued = True
            topic.since = self.now
            self._dirty.append(topic)
        topic.durable_pending += 1
        topic.pending.append(line)

    def add_signal(self, topic: Topic, line: bytes) -> None:
        """An ephemeral message: it goes out this turn, unless durable ones of its topic stand before it."""
        if topic.underway and not topic.queued:
            topic.queued = True
            topic.since = self.now
            self._dirty.append(topic)
        elif not topic.pending:
            self._signal_topics.append(topic)
        topic.pending.append(line)

    def want(self) -> None:
        """A ledger has something to write: commit, though there may be no message."""
        self._wanted = True
        if not self.scheduled:
            self.schedule()

    def answer_when_durable(self, sink: Sink, line: bytes) -> None:
        """The answer to the durable message that was just added."""
        lines = self._acks.get(sink)
        if lines is None:
            self._acks[sink] = [line]
        else:
            lines.append(line)

    def answer_this_turn(self, sink: Sink, line: bytes) -> None:
        """The answer to an ephemeral message."""
        lines = self._signal_acks.get(sink)
        if lines is None:
            self._signal_acks[sink] = [line]
        else:
            lines.append(line)

    def answer_with(self, topic: Topic, seq: int, sink: Sink, line: bytes) -> None:
        """One more answer about the message `seq`, not before that is on stable storage."""
        if seq <= topic.delivered:
            self.answer_this_turn(sink, line)
        elif seq <= topic.delivered + topic.in_flight:
            self._acks_in_flight.setdefault(sink, []).append(line)
        else:
            self._acks.setdefault(sink, []).append(line)

    def pause(self, sink: Sink) -> None:
        """Read no further from this connection until the disk has caught up."""
        if sink not in self._paused:
            self._paused[sink] = None
            self._metrics.paused_publishers += 1
            sink.stop_reading()

    def forget(self, sink: Sink) -> None:
        """The connection is gone: it need not be read again."""
        self._paused.pop(sink, None)

    # Commit ---------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self.scheduled = False
        if self._signal_topics:
            topics, self._signal_topics = self._signal_topics, []
            for topic in topics:
                if topic.pending and not topic.queued:  # else it goes with the batch, in its place
                    self._deliver(topic, topic.take(), self.now)
        if (self._dirty or self._wanted) and not self._log.busy:
            self._commit()
        if self._signal_acks:
            acks, self._signal_acks = self._signal_acks, {}
            for sink, lines in acks.items():
                sink.settle(len(lines), lines)
        if self._idle_waiters:
            self._wake_idle_waiters()

    def _commit(self) -> None:
        if self._wanted and self._log.failed is not None:  # who waits for the ledger must not take it for durable
            self._wanted = False
            self._failed(LogFailed(self._log.failed), [], {})
            return
        runs = []
        lines = durable = 0
        for topic in self._dirty:
            run = topic.take()
            lines += len(run.lines)
            durable += run.durable
            topic.queued = False
            topic.underway = True
            topic.in_flight = run.durable
            runs.append((topic, run))
        self._dirty = []
        self._acks_in_flight, self._acks = self._acks, {}
        self._runs_in_flight = runs
        wrote = self._wanted and self._write_ledger()
        if durable:
            self._metrics.observe_flush(lines)
            self._log.commit(self._committed)
        elif wrote:
            self._log.commit(self._committed)
        else:  # only signals that waited behind a batch, which is through
            self._committed(None)

    def _write_ledger(self) -> bool:
        self._wanted = False
        wrote = False
        for ledger in self.ledgers:
            wrote = ledger.write() or wrote
        return wrote

    def _committed(self, error: LogError | None) -> None:
        if error is None:
            for ledger in self.ledgers:
                ledger.written(durable=True)
        runs, self._runs_in_flight = self._runs_in_flight, []
        acks, self._acks_in_flight = self._acks_in_flight, {}
        if error is not None:
            self._failed(error, runs, acks)
            return
        now = max(self.now, _clock())
        for topic, run in runs:
            topic.underway = False
            topic.in_flight = 0
            if run.durable:
                topic.durable_seconds.observe(now - run.since, run.durable)
            self._deliver(topic, run, now)
        for sink, lines in acks.items():
            sink.settle(len(lines), lines)
        if self._dirty or self._wanted:
            self._commit()
        if self._paused and self._log.pending_bytes <= self._pending_soft:
            self._resume_paused()
        if self._idle_waiters:
            self._wake_idle_waiters()

    def _failed(self, error: LogError, runs: list[tuple[Topic, Run]], acks: Acks) -> None:
        """Storage failed. Everything that is not durable is gone, and its publishers are told so.

        The log has taken back what was appended, here and in the batch that was filling up meanwhile.
        """
        for ledger in self.ledgers:
            ledger.written(durable=False)
        lost = [acks, self._acks]
        self._acks = {}
        for topic, _ in runs:
            topic.underway = False
            topic.in_flight = 0
        for topic in self._dirty:
            topic.queued = False
            topic.take()
        self._dirty = []
        for batch in lost:
            for sink, lines in batch.items():
                self._metrics.count_refusal(ErrorCode.READ_ONLY, len(lines))
                sink.settle(len(lines), [answers.failed(line, str(error), RETRY_SECONDS) for line in lines])
        self.on_failure()
        self._resume_paused()
        self._wake_idle_waiters()

    def _resume_paused(self) -> None:
        paused, self._paused = self._paused, {}
        for sink in paused:
            sink.resume_reading()

    @property
    def settled(self) -> bool:
        """Whether nothing waits for the disk or the next turn of the loop."""
        return not (self.scheduled or self._dirty or self._wanted or self._runs_in_flight or self._log.busy)

    async def settle(self) -> None:
        """Wait until nothing waits for the disk any more."""
        while not self.settled:
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def _wake_idle_waiters(self) -> None:
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
