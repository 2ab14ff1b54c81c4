"""A shard's log: everything durable that happens in it, in one sequence of records.

Promises:

- What `commit` confirmed is on stable storage: after any crash it is there once, in order, with the same bytes.
- What was appended and not confirmed is, after a crash, there whole or not at all, without a hole before it.
- A failed write takes back all that was appended and not confirmed, here and in the caller's `TopicLog`s, and the log
  is read-only (`failed`): until there is room again, or a descriptor where too many files were open (`recheck`), else
  until the next open. A failed sync is never tried again: what the disk then holds, only the next open can find out.
- Whatever is read has been checked. What can't be read is told of (a warning, `stats.damaged`, `Chunk.reason`).
- Memory and the time of each call do not grow with history.

One thread, the loop's, calls all methods. `append_*` only touch memory. `commit` makes one write and leaves the sync to
a thread; everything that takes long is done in slices (sealing.py, trimming.py) or in a thread.
"""

import asyncio
import errno
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from typing import NoReturn
from zlib import crc32

from hubbub_broker.logs import get_logger

from .batch import Batch, StateAppended, TailAppended
from .dedup import Dedup
from .errors import LogError, LogFailed, LogFull, LogMisused
from .failing import may_pass, reason, room
from .files import Files
from .ids import STRIPE_MASK
from .index import TopicIndex
from .meta import ShardMeta
from .reader import Chunk, Reader
from .recall import newest_time, recent_ids
from .record import (
    FIRST,
    MESSAGE,
    MESSAGE_BODY,
    MESSAGE_SIZE,
    PREFIX,
    SPECIAL,
    VERSION,
    Message,
    Tail,
    decode_message,
    encode_state,
    encode_tail,
    seal_record,
    seal_record_parts,
)
from .recovery import Recovery, new_segment, segment_header
from .sealing import TOPIC_SECONDS, Sealer, release_topics
from .segment import Segment, Shelf
from .settings import LogSettings, Retention
from .standing import TopicInfo
from .standings import Standings
from .stats import LogStats
from .syncer import Syncer
from .taking_back import take_back
from .topic import StoredMessage, TopicLog
from .trimming import Trimmer

_log = get_logger(__name__)

Done = Callable[[LogError | None], None]

_pack_prefix = PREFIX.pack
_pack_message = MESSAGE_BODY.pack


class ShardLog:
    """The log of one shard. `open` makes one."""

    def __init__(
        self,
        meta: ShardMeta,
        shelf: Shelf,
        standings: Standings,
        active: Segment,
        settings: LogSettings,
        syncer: Syncer,
        stats: LogStats,
        clock: Callable[[], float],
    ) -> None:
        self.epoch = meta.epoch
        """Which history this is; another one after a loss."""
        self.pending_bytes = 0
        """Appended and not yet durable, the batch being synced included."""
        self.busy = False
        """Whether a commit is under way."""
        self.failed: str | None = None
        """Why nothing can be appended; None when all is well."""
        self.stats = stats
        self.open_files = settings.open_files
        """Descriptors that it has at most."""
        self.opened_at = 0.0
        """The time that the log had come to when it was opened: nothing gets an earlier one."""
        self._meta = meta
        self._shelf = shelf
        self._files: Files = shelf.files
        self._standings = standings
        self._settings = settings
        self._syncer = syncer
        self._clock = clock
        self._topics: dict[str, TopicLog] = {}
        self._dedup = Dedup(settings.dedup_entries, settings.dedup_window, clock())
        self._reader = Reader(shelf, stats)
        release = partial(release_topics, forget=self._release)
        self._sealer = Sealer(shelf, standings, stats, syncer, release, settings.unsealed_segments)
        self._trimmer = Trimmer(self, shelf, standings, stats, syncer, settings.retention_bytes, settings.dedup_window)
        self._syncing: Batch | None = None
        self._own_commit = False
        """Whether the sync under way was asked for by the log itself (`flush`)."""
        self._queued: Done | None = None
        """A caller's commit that waits for the log's own."""
        self._recoverable = False
        """Whether `failed` may clear: the disk was full, or there was no descriptor, and nothing is in doubt."""
        self._closed = False
        self._end = 0
        """Where the next record goes in the active segment."""
        self._enter_segment(active)

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: LogSettings,
        syncer: Syncer,
        *,
        clock: Callable[[], float] = time.time,
        files: Files | None = None,
    ) -> "ShardLog":
        """Open a shard's directory, made if missing, and mend what a crash left behind. Waits for the disk.

        Only what is newer than the catalogue is read, normally the last segment.

        Raises:
            LogError: the directory can't be used; the message says why and what to do.
        """
        started = perf_counter()
        stats = LogStats()
        try:
            recovered = Recovery(files or Files(), directory, settings, stats, clock()).run()
            log = cls(*recovered, settings, syncer, stats, clock)
            log._load_dedup()
            log.opened_at = newest_time(recovered.shelf, log._index, recovered.meta)
        except OSError as error:
            raise LogFailed(f"{directory} can't be opened: {error}; check the disk and the permissions") from error
        stats.segments = len(recovered.shelf.segments)
        stats.open_seconds = perf_counter() - started
        return log

    # Topics ---------------------------------------------------------------------------------------------------------

    def topic(self, name: str) -> TopicLog:
        """A topic's state at the end of the log (`head` 0 when it is new). Writes nothing."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = self._standings.load(name)
        return topic

    def forget(self, topic: TopicLog) -> None:
        """Let an idle topic go from memory; `topic` brings it back. One with pending records stays."""
        index = topic.index
        if index is not None and index.offsets and index.segment == self._active.number:
            if index.offsets[-1] >= self._active.durable:
                return
        elif self._syncing is not None and topic.segment == self._syncing.segment.number:
            return
        if self._topics.get(topic.name) is topic:
            del self._topics[topic.name]

    def loaded(self, name: str) -> TopicLog | None:
        """A topic that is in memory."""
        return self._topics.get(name)

    def topics(self, pattern_prefix: str = "", after: str = "", limit: int = 1000) -> list[TopicInfo]:
        """Topics whose name begins with a prefix, in the order of their names, from behind `after` on."""
        return self._standings.topics(pattern_prefix, after, limit)

    # Appending ------------------------------------------------------------------------------------------------------

    def append_message(
        self,
        topic: TopicLog,
        seq: int,
        line: bytes,
        header_size: int,
        ts: float,
        lc: int,
        id_hash: int,
        dedup_hash: int,
        expires: float,
        writer: bytes,
        n: int,
    ) -> None:
        """Append a message. Never blocks: it becomes durable with the next commit.

        `line` is what every reader gets, and begins with `{"op":"msg","topic":"` + topic + `"`; with a `header_size`
        above 0 it is that many bytes of header, then the payload. `seq` is the topic's head + 1; `ts` never goes back.
        A `dedup_hash` of 0 is not remembered; an `n` of 0 is none.

        Raises:
            LogError: the log is read-only (`failed`), or (LogMisused) the caller broke a rule.
        """
        if seq != topic.head + 1 or self.failed is not None or not line.startswith(topic.line_start):
            self._refuse(topic, seq, line)
        index = topic.index
        if index is None or index.segment != self._number:
            index = self._enter_topic(topic)
        parts = self._parts
        writer_size = len(writer)
        size = MESSAGE_SIZE + writer_size + len(line)
        flags = 0 if parts else FIRST
        if header_size or expires:
            flags |= SPECIAL
        head = _pack_message(
            size,
            MESSAGE,
            VERSION,
            flags,
            topic.name_size,
            writer_size,
            header_size,
            seq,
            lc,
            ts,
            expires,
            id_hash,
            dedup_hash,
            n,
        )
        if writer:
            head += writer
        parts.append(_pack_prefix(self._mark, crc32(line, crc32(head))) + head)
        parts.append(line)  # the readers' own: a record is not made whole before the batch is
        # Nothing below can fail.
        offset = self._end
        self._end = offset + size
        self.pending_bytes += size
        self._add_id(id_hash ^ topic.salt)
        if dedup_hash:
            self._dedup.young[dedup_hash & STRIPE_MASK][dedup_hash] = seq
            self._dedup_hashes.append(dedup_hash)
            self._dedup_seqs.append(seq)
        if n:
            writers = topic.writers
            n_before = writers.get(writer)
            writers[writer] = index.writers[writer] = n
        else:
            n_before = None
        # A plain tuple in the order of Appended: a named one costs four times as much.
        self._messages.append((offset, topic, index, head, line, n_before, topic.lc, topic.last_ts))
        offsets = index.offsets
        if not offsets:
            index.first_ts = ts
        offsets.append(offset)
        index.sizes.append(size)
        index.bytes += size
        index.lc = topic.lc = lc
        index.last_ts = topic.last_ts = ts
        topic.head = seq

    def append_state(self, kind: int, key: bytes, body: bytes) -> None:
        """Append the newest body of a key; an empty one deletes the key. It is kept whatever retention does.

        Raises:
            LogError: the log is read-only (`failed`).
        """
        self._check_writable()
        record = encode_state(kind, key, body, self._flags())
        self._append_other(record, StateAppended(kind, key, self._index.states.put(kind, key, body)))

    def append_tail(self, tail: Tail) -> None:
        """Append where a topic stands (the log's own: retention carries it over from a segment that goes)."""
        self._check_writable()
        index = self._index.topics.get(tail.topic)
        if index is None:
            topic = self._topics.get(tail.topic) or self._standings.load(tail.topic)
            index = self._enter_topic(topic)
        fresh = [writer for writer in tail.writers if writer not in index.writers]
        self._append_other(encode_tail(tail, self._flags()), TailAppended(index, fresh))
        for writer in fresh:
            n, ts = tail.writers[writer]
            index.writers[writer] = n
            self._index.tail_writers[tail.topic, writer] = ts

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is appended inside, in one turn, is one step: after any crash it is there whole or not at all."""
        start = len(self._parts)
        yield
        self._batch.bind(start, self._mark)

    def state(self, kind: int, key: bytes) -> bytes | None:
        """The newest body of one key, an appended one included; None when it was never set, or deleted.

        Costs a look into each segment whose index is in memory, then one indexed row, however many states there are.
        """
        return self._standings.state(kind, key)

    def states(self, kind: int, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The newest body of each key of a kind that begins with a prefix, appended ones included; reads no others."""
        return self._standings.states(kind, prefix)

    def states_after(self, kind: int, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The same, in the order of the keys: those behind `after`, so many at most; reads little more than those."""
        return self._standings.states_after(kind, prefix, after, limit)

    def _append_other(self, body: bytes, undo: StateAppended | TailAppended) -> None:
        parts = seal_record_parts(self._mark, body)
        self._parts += parts
        self._batch.others.append(undo)
        size = len(parts[0]) + len(body)
        self._end += size
        self.pending_bytes += size

    def _flags(self) -> int:
        return 0 if self._parts else FIRST

    def _enter_topic(self, topic: TopicLog) -> TopicIndex:
        """The topic's first record in the active segment is about to be appended."""
        old = topic.index
        base = topic.total if old is None else old.total
        number = self._active.number
        topic.index = index = TopicIndex(
            topic.name, number, topic.head + 1, topic.segment, base, topic.lc, topic.last_ts
        )
        topic.total = base
        topic.segment = number
        self._index.topics[topic.name] = index
        self._sealer.owed += TOPIC_SECONDS
        return index

    def _refuse(self, topic: TopicLog, seq: int, line: bytes) -> NoReturn:
        self._check_writable()
        if seq != topic.head + 1:
            raise LogMisused(f"{topic.name} is at {topic.head}; {seq} can't be appended now")
        raise LogMisused(f"a line of {topic.name} must begin with {topic.line_start!r}, not {line[:80]!r}")

    def _check_writable(self) -> None:
        if self._closed:
            raise LogMisused("the log is closed")
        if self.failed is not None:
            raise LogFull(self.failed) if self._recoverable else LogFailed(self.failed)

    # Committing -----------------------------------------------------------------------------------------------------

    def commit(self, done: Done) -> None:
        """Write all that is pending, sync it in a thread, then call `done` on the loop: with None, or what failed.

        What is appended meanwhile goes with the next commit.

        Raises:
            LogMisused: a commit is under way, or nothing is pending.
        """
        if self.busy:
            raise LogMisused("a commit is under way: wait until it is done")
        if self._closed:
            raise LogMisused("the log is closed")
        if not (self._parts or self._own_commit):  # what is pending may have gone with the log's own commit
            raise LogMisused("nothing is pending: there is nothing to commit")
        self.busy = True
        if self._own_commit:
            self._queued = done
        else:
            self._write(done)

    async def flush(self) -> None:
        """Wait until all that was appended up to now is durable. The log commits by itself if nobody else does.

        Raises:
            LogError: it could not be made durable, and was taken back.
        """
        loop = asyncio.get_running_loop()
        if self._parts:
            batch = self._batch
        elif self._syncing is not None:
            batch = self._syncing
        else:
            return
        future = loop.create_future()
        batch.waiters.append(future)
        if self._syncing is None and not self.busy:
            self._commit_alone()
        await future

    def _commit_alone(self) -> None:
        """A commit of the log's own, which callers of `commit` need not know of: theirs waits for it."""
        self._own_commit = True
        self._write(self._own_done)

    def _own_done(self, error: LogError | None) -> None:
        self._own_commit = False
        done, self._queued = self._queued, None
        if done is not None:
            if self._parts:
                self._write(done)
            else:  # taken back with the log's own
                self.busy = False
                done(error)
        elif self._batch.waiters:
            self._commit_alone()

    def _write(self, done: Done) -> None:
        """Hand the batch to the operating system, and its sync to a thread."""
        loop = asyncio.get_running_loop()
        batch = self._batch
        segment = batch.segment
        data = b"".join(batch.parts)
        started = perf_counter()
        created = segment.fd < 0
        try:
            if created:
                segment.fd = self._files.create(segment.path)
                data = segment_header(self._shelf, segment, self.epoch, self._clock()) + data
                self._write_all(segment, data, 0)
            else:
                self._write_all(segment, data, batch.start)
        except OSError as error:
            failure = self._write_failed(batch, error, created=created)
            loop.call_soon(self._finish, done, batch, failure)
            return
        self.stats.wrote(perf_counter() - started)
        segment.size = self._end
        self._syncing = batch
        topics = len(self._index.topics)
        full = segment.size >= self._settings.segment_bytes or topics >= self._settings.segment_topics
        ids = self._index.ids
        if ids.asked:
            ids.gather()
        if full:
            self._enter_segment(new_segment(self._shelf, segment.number + 1))
            self._index.ids.asked = ids.asked
            self.stats.segments = len(self._shelf.segments)
        else:
            self._begin_batch(segment, segment.size)
        files, fd, directory = self._files, segment.fd, self._shelf.directory
        seconds = 0.0

        def job() -> None:
            nonlocal seconds
            begun = perf_counter()
            files.sync(fd)
            if created:
                files.sync_directory(directory)
            seconds = perf_counter() - begun

        self._syncer.submit(job, loop, lambda error: self._synced(done, batch, full, error, seconds))
        self._sealer.work()

    def _write_all(self, segment: Segment, data: bytes, at: int) -> None:
        written = self._files.write(segment.fd, data, at)
        if written != len(data):
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written", str(segment.path))

    def _synced(self, done: Done, batch: Batch, full: bool, error: BaseException | None, seconds: float) -> None:
        """The sync has ended, well or badly. On the loop."""
        segment = batch.segment
        if error is not None:
            self._fail(f"syncing {segment.path} failed: {error}; check the disk, then start the broker again")
            self._recoverable = False
            self._take_back(self._batch)
            self._take_back(batch)
            self._syncing = None
            self._finish(done, batch, LogFailed(self.failed))
            return
        self._syncing = None
        size = segment.size - batch.start  # nothing else was written to the file meanwhile
        segment.durable = segment.size
        self.pending_bytes -= size
        self.stats.synced(batch.records, size, seconds)
        self._dedup.turn(self._clock())
        self.stats.dedup_entries = len(self._dedup)
        if full:
            self._sealer.add(segment, asyncio.get_running_loop())
        self._sealer.when_room(partial(self._finish, done, batch, None))

    def _finish(self, done: Done, batch: Batch, error: LogError | None) -> None:
        """Tell everyone who waits for a batch."""
        waiters = batch.waiters
        if error is not None:
            waiters = waiters + self._batch.waiters
            self._batch.waiters = []
        for future in waiters:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)
        if done == self._own_done:
            done(error)
            return
        self.busy = False
        done(error)
        if self._batch.waiters and not self.busy and self._syncing is None and not self._own_commit:
            self._commit_alone()

    # Failing --------------------------------------------------------------------------------------------------------

    def _write_failed(self, batch: Batch, error: OSError, *, created: bool) -> LogError:
        """Cut the file back, take the batch back, and be read-only."""
        segment = batch.segment
        self._recoverable = may_pass(error)
        try:
            if not created:
                self._files.truncate(segment.fd, batch.start)
            elif segment.fd >= 0:
                fd, segment.fd = segment.fd, -1
                self._files.close(fd)
                self._files.unlink(segment.path)
        except OSError as second:
            self._recoverable = False
            _log.error("file not cut back", file=str(segment.path), reason=str(second))
        self._take_back(batch)
        why = reason(error, segment.path, passing=self._recoverable)
        self._fail(why)
        return LogFull(why) if self._recoverable else LogFailed(why)

    def _fail(self, why: str) -> None:
        self.failed = why
        _log.error("shard is read-only", directory=str(self._shelf.directory), reason=why)

    def _take_back(self, batch: Batch) -> None:
        """Make everything as it was before the batch."""
        take_back(batch, self._dedup)
        if batch is self._batch:
            waiters = batch.waiters
            self.pending_bytes -= self._end - batch.start
            self._begin_batch(batch.segment, batch.start)
            self._batch.waiters = waiters
        else:
            self.pending_bytes = 0  # the one that was being synced is taken back last: nothing is left

    def recheck(self) -> bool:
        """Look whether there is room again, and a descriptor; True when the log can be written to."""
        if self.failed is None:
            return True
        if not self._recoverable or self.busy or self._syncing is not None:
            return False
        free = room(self._files, self._shelf.directory)
        if free < self._settings.min_free_bytes:
            return False
        self.failed = None
        _log.info("shard can be written again", directory=str(self._shelf.directory), free_bytes=free)
        with suppress(RuntimeError):  # no loop: the next segment that fills up takes the others along
            self._sealer.resume(asyncio.get_running_loop())
        return True

    # Segments -------------------------------------------------------------------------------------------------------

    def _enter_segment(self, segment: Segment) -> None:
        """Append to this segment from here on."""
        index = segment.index
        assert index is not None
        self._active = segment
        self._index = index
        self._number = segment.number
        self._mark = segment.mark
        self._add_id = index.ids.keys.append
        self._dedup_hashes = index.dedup_hashes
        self._dedup_seqs = index.dedup_seqs
        if segment not in self._standings.fresh:
            self._standings.fresh.append(segment)
        self._begin_batch(segment, segment.size)

    def _begin_batch(self, segment: Segment, start: int) -> None:
        self._batch = batch = Batch(segment, start)
        self._parts = batch.parts
        self._messages = batch.messages
        self._end = start

    def _release(self, name: str) -> None:
        """A segment was sealed: its index leaves memory, also where a topic still holds on to it."""
        topic = self._topics.get(name)
        if topic is None or topic.index is None or topic.index.segment >= self._active.number:
            return
        index = topic.index
        if any(segment.number == index.segment and segment.index is not None for segment in self._standings.fresh[1:]):
            return  # it has gone on to a segment that is waiting to be sealed
        topic.total = index.total
        topic.index = None

    @property
    def size(self) -> int:
        """Bytes of all segments on disk."""
        return sum(segment.size for segment in self._shelf.segments.values())

    # Reading --------------------------------------------------------------------------------------------------------

    def read_chunk(self, topic: TopicLog, seq: int, upto: int, max_bytes: int) -> Chunk | None:
        """Messages `seq` to at most `upto`, about `max_bytes` of them, at least one. All must be durable.

        None when they are not in the page cache: `warm` brings them there. When nothing is left in the range, `lines`
        is empty and `next` is upto + 1.

        Raises:
            LogDamaged: the disk can't be read.
        """
        return self._reader.read_chunk(topic, seq, upto, max_bytes)

    def warm(self, topic: TopicLog, seq: int, upto: int, max_bytes: int, done: Callable[[], None]) -> None:
        """Bring what `read_chunk` needs into the page cache, in a thread, then call `done` on the loop."""
        self._reader.warm(topic, seq, upto, max_bytes, self._syncer, done)

    def read_one(self, topic: TopicLog, seq: int) -> StoredMessage | None:
        """One message, also one that is not yet written. None: it is not there, or damaged (and told of)."""
        place = self._reader.place_of(topic, seq)
        if place is not None and place[0] is self._active and place[1] >= self._batch.start:
            return StoredMessage.of(self._pending(place[1]))
        message = self._reader.read_message(topic, seq)
        return None if message is None else StoredMessage.of(message)

    def _pending(self, offset: int) -> Message:
        """The appended message that will be at this offset."""
        messages = self._messages
        _, _, _, head, line, *_ = messages[bisect_left(messages, offset, key=itemgetter(0))]
        return decode_message(seal_record(0, head + line))

    def first_seq(self, topic: TopicLog) -> int:
        """The first seq that can still be read; head + 1 when none can."""
        return min(topic.first, topic.head + 1)

    def seq_at(self, topic: TopicLog, ts: float) -> int:
        """The first seq that was sequenced at `ts` or later; head + 1 when none was."""
        if ts > topic.last_ts:
            return topic.head + 1

        def time_of(seq: int) -> float | None:
            found = self.read_one(topic, seq)
            return None if found is None else found.ts

        return self._reader.seq_at(topic, ts, time_of)

    def has_id(self, topic: TopicLog, id_hash: int) -> bool:
        """Whether a message with this id hash is in what retention left of the topic, appended ones included."""
        return self._reader.has_id(topic, id_hash ^ topic.salt, self._standings.fresh)

    def spans_with_id(self, topic: TopicLog, id_hash: int) -> Iterator[tuple[int, int]]:
        """First and last seq of the parts of a topic, a segment each and newest first, that have this id hash."""
        return self._reader.spans_with_id(topic, id_hash ^ topic.salt, self._standings.fresh)

    def dedup(self, dedup_hash: int) -> int:
        """The seq that this hash got within the dedup window, or 0."""
        return self._dedup.find(dedup_hash)

    def _load_dedup(self) -> None:
        """Remember the ids of the newest messages, as far back as the window and the number of entries reach."""
        oldest = self._clock() - self._settings.dedup_window
        wanted = self._settings.dedup_entries
        self._dedup.load(recent_ids(self._shelf, self._standings, self._index, wanted, oldest))
        self.stats.dedup_entries = len(self._dedup)

    # Retention ------------------------------------------------------------------------------------------------------

    async def enforce_retention(self, policy_of: Callable[[str], Retention], now: float) -> list[int]:
        """Drop the oldest segments, each one whole, as far as every topic in it allows; returns their numbers.

        Raises:
            LogError: something failed on the way; nothing is lost by it.
        """
        return [] if self.failed is not None or self._closed else await self._trimmer.run(policy_of, now)

    # Ending ---------------------------------------------------------------------------------------------------------

    async def settled(self) -> None:
        """Wait until no segment is being sealed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def idle() -> None:
            if not future.done():
                future.set_result(None)

        self._sealer.when_idle(idle)
        await future

    def close(self) -> None:
        """Let go of the directory, after the last commit. What is full is sealed; nothing else is. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._sealer.close()
        if self.failed is None or self._recoverable:
            self._meta.clean_segment = self._active.number
            self._meta.clean_size = self._active.durable
            self._meta.clean_time = max(self._clock(), self._index.newest_ts, self.opened_at)
            try:
                self._meta.save(self._files, self._shelf.directory)
            except OSError as error:
                _log.warning("clean close not noted", directory=str(self._shelf.directory), reason=str(error))
        self._standings.close()
        self._shelf.close()
