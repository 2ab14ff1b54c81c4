"""Retention: the oldest segments go when every topic in them allows that.

    1. look   which topics are in it; may each one lose what is there?           (slices on the loop)
              is at least half of all that would go of no use to anyone?
    2. carry  states, topics' standings and ids that only this segment tells are appended again, and synced
    3. drop   the catalogue is told, the files are removed                       (in a thread)

A crash between them loses nothing: before 3 the segment is still there, and what was carried is there twice.

This is also how states are compacted: no policy keeps a segment that holds nothing but states, and only the newest
body of each key is carried on. Two bytes go for each that is carried, so compaction writes at most as much again as was
written, and states take about twice their own size at most, beyond what messages of their segments hold back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import Protocol, TypeVar

from .catalogue import floor_statements
from .errors import LogDamaged, LogError
from .record import Tail
from .segment import Segment, Shelf
from .settings import Retention
from .sidecar import Entry, Writer
from .standings import Standings
from .stats import LogStats
from .syncer import Syncer
from .taken_ids import KIND as TAKEN_IDS
from .taken_ids import carried, taken
from .topic import TopicLog

SLICE = 128
"""Topics looked at between two chances for the loop to go on."""
CARRY_ROWS = 256
"""States read from the catalogue at a time."""
CARRY_BYTES = 1 << 18
"""What is carried over is made durable whenever it is so many bytes: publishers' own batches stay short."""
WORTH = 2
"""Segments go when they are so many times as big as what has to be carried over from them."""
T = TypeVar("T")


class Appender(Protocol):
    """What trimming needs from the log."""

    @property
    def size(self) -> int:
        """Bytes on disk."""

    @property
    def pending_bytes(self) -> int:
        """Bytes that are appended and not durable."""

    def append_state(self, kind: int, key: bytes, body: bytes) -> None:
        """Append a state again."""

    def append_tail(self, tail: Tail) -> None:
        """Append where a topic stands."""

    def loaded(self, name: str) -> TopicLog | None:
        """A topic that is in memory."""

    def dedup(self, dedup_hash: int) -> int:
        """The seq that an id is remembered to have got, or 0."""

    def flush(self) -> Awaitable[None]:
        """Wait until all that was appended is durable."""


class Contents:
    """What a sealed segment tells, read in a thread."""

    def __init__(self, shelf: Shelf, segment: Segment) -> None:
        try:
            sidecar = shelf.checked_sidecar(segment)
        except FileNotFoundError as error:
            raise LogDamaged(f"the index of {segment.path.name} is missing") from error
        try:
            self.entries: Iterator[tuple[str, Entry]] = sidecar.entries()
            self.writers: Iterator[Writer] = sidecar.writers()
            self.ids = sidecar.dedup()
            self.last_ts = sidecar.last_ts
        finally:
            sidecar.close()


class Trimmer:
    """Drops whole segments, oldest first."""

    def __init__(
        self,
        log: Appender,
        shelf: Shelf,
        standings: Standings,
        stats: LogStats,
        syncer: Syncer,
        retention_bytes: int,
        window: float,
    ) -> None:
        self._log = log
        self._shelf = shelf
        self._standings = standings
        self._stats = stats
        self._syncer = syncer
        self._retention_bytes = retention_bytes
        self._window = window
        self._running = False
        self._blocker = ""
        """The topic that last kept a segment: asked first the next time."""

    async def run(self, policy_of: Callable[[str], Retention], now: float) -> list[int]:
        """See `ShardLog.enforce_retention`."""
        if self._running:
            return []
        self._running = True
        dropped = []
        waiting: list[Segment] = []  # these may go, and it does not pay yet
        try:
            for segment in self._candidates():
                if not (self._over_size() or await self._may_go(segment, policy_of, now)):
                    break
                waiting.append(segment)
                if await self._pays(waiting):
                    for one in waiting:
                        await self._drop(one, now)
                        dropped.append(one.number)
                    waiting = []
        finally:
            self._running = False
        return dropped

    def _candidates(self) -> list[Segment]:
        """The sealed segments, the oldest first. One that is begun later waits for the next run, so that a run ends.

        The newest file stays: it says that the shard had one.
        """
        *others, newest = self._shelf.segments.values()
        sealed = list(takewhile(lambda segment: segment.index is None, others))
        return sealed if newest.fd >= 0 or len(sealed) < len(others) else sealed[:-1]

    async def _pays(self, segments: list[Segment]) -> bool:
        """Whether enough of these segments, the oldest that there are, is of no use to anyone."""
        first, last = segments[0].number, segments[-1].number
        catalogue = self._standings.catalogue
        carried = await self._in_thread(lambda: catalogue.bytes_told_by(first, last))
        return sum(segment.size for segment in segments) >= WORTH * carried

    def _over_size(self) -> bool:
        return 0 < self._retention_bytes < self._log.size

    async def _may_go(self, segment: Segment, policy_of: Callable[[str], Retention], now: float) -> bool:
        blocker = self._blocker
        if blocker:
            with suppress(LogDamaged):  # the look at all of them will mend it
                span = self._shelf.sidecar(segment).find(TopicLog(blocker).key)
                if span is not None and not self._allows(blocker, span.entry, policy_of(blocker), now):
                    return False
        contents = await self._contents(segment)
        for done, (name, entry) in enumerate(contents.entries, 1):
            if not self._allows(name, entry, policy_of(name), now):
                self._blocker = name
                return False
            if not done % SLICE:
                await asyncio.sleep(0)
        return True

    def _allows(self, name: str, entry: Entry, policy: Retention, now: float) -> bool:
        if not entry.seqs:
            return True  # only its standing is here, and that is carried over
        if policy.max_age and entry.last_ts < now - policy.max_age:
            return True
        if not (policy.max_count or policy.max_bytes):
            return False
        standing = self._standings.find(name)
        if standing is None:
            return False
        return may_go(policy, standing.head - entry.head, standing.total - entry.total)

    async def _drop(self, segment: Segment, now: float) -> None:
        contents = await self._contents(segment)
        floors = await self._carry(segment, contents, now)
        await self._log.flush()
        number = segment.number
        catalogue = self._standings.catalogue
        statements = []
        for statement in floor_statements(floors):
            statements.append(statement)
            await asyncio.sleep(0)
        await self._in_thread(lambda: catalogue.drop_segment(number, statements))
        self._shelf.forget(segment)
        for done, (name, first, _) in enumerate(floors, 1):
            topic = self._log.loaded(name)
            if topic is not None and topic.first < first:
                topic.first = first
            if not done % SLICE:
                await asyncio.sleep(0)
        await self._in_thread(lambda: self._remove(segment))
        self._stats.dropped_segments += 1

    async def _contents(self, segment: Segment) -> Contents:
        """What the segment's sidecar tells; made again if it is damaged, or retention would never come past it."""
        try:
            return await self._in_thread(lambda: Contents(self._shelf, segment))
        except LogDamaged as error:
            self._shelf.repair(segment, str(error))
            return await self._in_thread(lambda: Contents(self._shelf, segment))

    def _remove(self, segment: Segment) -> None:
        """The records go first: an index without them is swept away at the next open."""
        files = self._shelf.files
        files.unlink(segment.path)
        files.unlink(segment.sidecar_path)
        files.sync_directory(self._shelf.directory)

    async def _carry(self, segment: Segment, contents: Contents, now: float) -> list[tuple[str, int, int]]:
        """Append again what only this segment tells; returns what remains of its topics: (name, first, base)."""
        for rows in self._standings.states_only_up_to(segment.number, CARRY_ROWS):
            for row in rows:
                body = row.body
                if row.kind == TAKEN_IDS:
                    body = carried(body, now - self._window, self._log.dedup)
                self._log.append_state(row.kind, row.key, body)
            await self._pause()
        if contents.last_ts >= now - self._window:
            for key, body in taken(segment.number, contents.last_ts, contents.ids, self._log.dedup):
                self._log.append_state(TAKEN_IDS, key, body)
                await self._pause()
        writers: dict[str, list[Writer]] = {}
        for done, writer in enumerate(contents.writers, 1):
            if writer.ts >= now - self._window:
                writers.setdefault(writer.topic, []).append(writer)
            if not done % SLICE:
                await asyncio.sleep(0)
        floors = []
        for done, (name, entry) in enumerate(contents.entries, 1):
            floors.append((name, entry.head + 1, entry.total))
            self._carry_topic(segment, name, writers.get(name, []))
            if not done % SLICE:
                await self._pause()
        return floors

    async def _pause(self) -> None:
        """Let the loop go on, and what was carried over become durable when it is much."""
        if self._log.pending_bytes >= CARRY_BYTES:
            await self._log.flush()
        else:
            await asyncio.sleep(0)

    def _carry_topic(self, segment: Segment, name: str, writers: list[Writer]) -> None:
        standing = self._standings.find(name)
        if standing is None:
            return
        known = self._standings.writers(name) if writers else {}
        mine = {w.writer: (w.n, w.ts) for w in writers if known.get(w.writer, (w.n,))[0] == w.n}
        if standing.segment <= segment.number:
            carried = mine
        else:  # later segments tell where it stands; only writers that have been silent since are told here alone
            later = self._standings.fresh_writers(name)
            carried = {writer: value for writer, value in mine.items() if writer not in later}
            if not carried:
                return
        self._log.append_tail(Tail(name, standing.head, standing.lc, standing.last_ts, standing.total, carried))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do something that waits for the disk without stopping the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        results: list[T] = []

        def finish(error: BaseException | None) -> None:
            if future.done():
                return  # nobody waits any more
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._syncer.submit_slow(lambda: results.append(work()), loop, finish)
        try:
            await future
        except OSError as error:
            raise LogError(f"retention of {self._shelf.directory} failed: {error}; check the disk") from error
        return results[0]


def may_go(policy: Retention, records_behind: int, bytes_behind: int) -> bool:
    """Whether enough of a topic lies behind a segment for it to go, whatever its age."""
    enough_records = 0 < policy.max_count <= records_behind
    enough_bytes = 0 < policy.max_bytes <= bytes_behind
    return enough_records or enough_bytes
