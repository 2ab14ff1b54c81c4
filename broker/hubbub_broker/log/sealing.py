"""Sealing: a full segment's index goes from memory to its sidecar, and what follows from it to the catalogue.

    steps   on the loop, about a millisecond at a time: the bytes of the sidecar, the catalogue's rows
    job     in a thread: the sidecar is written, synced and renamed, then the catalogue takes the segment in
    steps   on the loop: topics let go of the index in memory

A crash anywhere leaves the segment as it was, with or without a sidecar: the next open goes on from there. A job that
fails (a full disk) is tried again later; until then the index stays in memory.

What is sealed keeps pace with what is written, so that no more than a few indexes are in memory at once: the loop's
idle time goes to it, each topic that enters a segment pays for sealing one (`work`), and if that is not enough (the
disk is slow), commits wait (`when_room`).
"""

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Generator
from threading import Event
from time import perf_counter

from hubbub_broker.logs import get_logger

from .catalogue import Statement, state_statements, topic_statements, writer_statements
from .errors import LogDamaged, LogError, LogFailed
from .index import MemoryIndex
from .segment import Segment, Shelf
from .sidecar import Writer, build
from .standings import Standings
from .stats import LogStats
from .syncer import Syncer
from .table import SLICE

_log = get_logger(__name__)

SLICE_SECONDS = 0.001
"""How long one slice of work keeps the loop."""
PAUSE_SECONDS = 0.002
"""How long the loop then has for others: sealing takes at most a third of it, but for what is paid for by writing."""
TOPIC_SECONDS = 30e-6
"""What each topic that enters a segment pays for sealing one: twice what that takes (13 µs measured)."""

Steps = Generator[None, None, None]


class _Prepared:
    """What a job writes."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.statements: list[Statement] = []


class Sealer:
    """Seals segments one after the other, in the order of their numbers."""

    def __init__(
        self,
        shelf: Shelf,
        standings: Standings,
        stats: LogStats,
        syncer: Syncer,
        release: Callable[[MemoryIndex], Steps],
        most: int,
    ) -> None:
        self._shelf = shelf
        self._most = most
        self._standings = standings
        self._stats = stats
        self._syncer = syncer
        self._release = release
        self.owed = 0.0
        """Seconds of sealing that the topics which entered a segment since the last commit have yet to pay for."""
        self._queue: deque[Segment] = deque()
        self._loop: AbstractEventLoop | None = None
        self._steps: Steps | None = None
        self._then: Callable[[], None] = lambda: None
        """What comes after the steps."""
        self._working = False
        """Whether a segment is on its way, as the loop sees it: a thread may be done long before that hears of it."""
        self._job_done = Event()
        self._job_done.set()
        self._closed = False
        self._idle_waiters: list[Callable[[], None]] = []
        self._room_waiters: list[Callable[[], None]] = []

    @property
    def idle(self) -> bool:
        """Whether nothing is being sealed (what failed and waits for another try does not count)."""
        return not self._working

    def add(self, segment: Segment, loop: AbstractEventLoop) -> None:
        """Seal a segment that is full and durable."""
        self._queue.append(segment)
        self.resume(loop)

    def resume(self, loop: AbstractEventLoop) -> None:
        """Go on if there is something to do: after a failure, or with the next segment."""
        self._loop = loop
        if self._closed or not self.idle:
            return
        if not self._queue:
            self._wake()
            return
        self._working = True
        segment = self._queue[0]
        prepared = _Prepared()
        self._run(prepare(segment, self._shelf.shard, prepared), lambda: self._submit(segment, prepared))

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back once nothing is being sealed."""
        if self.idle:
            callback()
        else:
            self._idle_waiters.append(callback)

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back when no more than `most` segments wait; also when sealing has failed, and is to go on later."""
        if self._working and len(self._queue) > self._most:
            self._room_waiters.append(callback)
        else:
            callback()

    def work(self) -> None:
        """Go on with what there is to do, for about as long as is owed."""
        if self.owed:
            seconds, self.owed = self.owed, 0.0
            if self._steps is not None:
                self._advance(self._steps, perf_counter() + seconds)

    def close(self) -> None:
        """Finish everything now, waiting for the disk. What can't be finished the next open will do."""
        self._closed = True
        self._steps = None
        self._job_done.wait()
        for segment in list(self._queue):
            if segment.index is None:
                continue
            prepared = _Prepared()
            for _ in prepare(segment, self._shelf.shard, prepared):
                pass
            try:
                self._write(segment, prepared)
            except (OSError, LogError) as error:
                _log.warning("segment not sealed", file=str(segment.path), reason=str(error))
                break
        self._queue.clear()
        self._working = False
        self._wake()

    # Slices ---------------------------------------------------------------------------------------------------------

    def _run(self, steps: Steps, then: Callable[[], None]) -> None:
        self._steps = steps
        self._then = then
        self._slice(steps)

    def _slice(self, steps: Steps) -> None:
        if self._steps is not steps or self._loop is None:
            return  # closed, or done by `work` meanwhile
        if not self._advance(steps, perf_counter() + SLICE_SECONDS):
            self._loop.call_later(PAUSE_SECONDS, self._slice, steps)

    def _advance(self, steps: Steps, deadline: float) -> bool:
        """Take steps until a time. Whether that was all, and what comes then has begun."""
        for _ in steps:
            if perf_counter() >= deadline:
                return False
        self._steps = None
        self._then()
        return True

    def _submit(self, segment: Segment, prepared: _Prepared) -> None:
        assert self._loop is not None
        self._job_done.clear()

        def job() -> None:
            try:
                self._write(segment, prepared)
            finally:
                self._job_done.set()

        try:
            self._syncer.submit_slow(job, self._loop, lambda error: self._written(segment, error))
        except LogError:
            self._working = False
            self._job_done.set()
            raise

    def _write(self, segment: Segment, prepared: _Prepared) -> None:
        self._shelf.files.replace(segment.sidecar_path, prepared.parts)
        index = segment.index
        last_ts = index.newest_ts if index is not None else 0.0
        catalogue = self._standings.catalogue
        catalogue.add_segment(segment.number, segment.size, segment.mark, last_ts, prepared.statements)

    def _written(self, segment: Segment, error: BaseException | None) -> None:
        if self._closed:
            return
        if error is not None:
            if not isinstance(error, (OSError, LogError)):
                raise LogFailed(f"sealing {segment.path} failed: {error!r}") from error
            _log.warning("segment not sealed", file=str(segment.path), reason=str(error))
            self._working = False
            if isinstance(error, LogDamaged):  # the catalogue: it is derived, so it is made again
                self._standings.rebuild(str(error))
                if self._loop is not None:
                    self.resume(self._loop)
                return
            self._wake()
            return
        index = segment.index
        assert index is not None
        self._run(self._release(index), lambda: self._sealed(segment))

    def _sealed(self, segment: Segment) -> None:
        self._queue.popleft()
        self._standings.fresh.remove(segment)
        self._shelf.settle(segment)
        self._stats.seals += 1
        self._working = False
        if len(self._queue) <= self._most:
            self._make_room()
        if self._loop is not None:
            self.resume(self._loop)

    def _make_room(self) -> None:
        waiters, self._room_waiters = self._room_waiters, []
        for callback in waiters:
            callback()

    def _wake(self) -> None:
        self._make_room()
        waiters, self._idle_waiters = self._idle_waiters, []
        for callback in waiters:
            callback()


def prepare(segment: Segment, shard: int, prepared: _Prepared) -> Steps:
    """Make the sidecar's bytes and the catalogue's rows, a slice at a time."""
    index = segment.index
    assert index is not None
    number = segment.number
    prepared.parts = yield from build(index, shard=shard, segment=number, mark=segment.mark, covers=segment.size)
    for statement in topic_statements(topic.standing() for topic in index.topics.values()):
        prepared.statements.append(statement)
        yield
    for statement in writer_statements(
        Writer(name, writer, n, index.tail_writers.get((name, writer), topic.last_ts))
        for name, topic in index.topics.items()
        for writer, n in topic.writers.items()
    ):
        prepared.statements.append(statement)
        yield
    for statement in state_statements(number, index.states.rows()):
        prepared.statements.append(statement)
        yield


def release_topics(index: MemoryIndex, forget: Callable[[str], None]) -> Steps:
    """Let every topic of a sealed segment go, a slice at a time."""
    for done, name in enumerate(index.topics, 1):
        forget(name)
        if not done % SLICE:
            yield


def seal_now(shelf: Shelf, segment: Segment) -> None:
    """Write the sidecar of a segment whose index is in memory, waiting for the disk."""
    assert segment.index is not None
    steps = build(segment.index, shard=shelf.shard, segment=segment.number, mark=segment.mark, covers=segment.size)
    parts: list[bytes] = []
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            parts = stop.value
            break
    shelf.files.replace(segment.sidecar_path, parts)
