"""Which messages were done, in an SQLite file that outlives the agent.

SQLite (WAL) in one thread of its own. The event loop gathers what is asked and noted; one transaction at a time takes
all of it. Several agents and processes may use one file: SQLite's own locks keep them apart.

An effect and its mark in one transaction happen both or not at all:

    seen = SqliteSeen("joe.seen")

    @joe.on("research/tasks", consumer="workers", dedup=seen)
    def work(msg):                              # a plain function: runs in a thread
        result = think(msg.data)
        with seen.transaction(msg) as db:       # an sqlite3.Connection
            db.execute("INSERT INTO results VALUES (?, ?)", (msg.id, result))

However often the message is delivered, and to however many agents that share the file, the row is written once. What is
outside of the file (a mail, a call, a message that the handler publishes) still happens at least once: give a published
message an `id` made of the question's, and the broker stores it once.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from .errors import AlreadyDone, SeenError
from .seen import LIMIT, TTL_SECONDS, Consumed, Mark, mark_of

BUSY_SECONDS = 10.0
"""How long to wait for another process that writes to the file."""

ROWS_PER_STATEMENT = 100
"""Rows in one statement: each statement waits for the interpreter lock, each row in it does not."""

PRUNE_EVERY = 1_000
"""Marks after which what is too old or too many is dropped."""

FORMAT = "2"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hubbub_about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hubbub_seen (
    consumer TEXT NOT NULL,
    topic TEXT NOT NULL,
    sender TEXT NOT NULL,
    id TEXT NOT NULL,
    made REAL NOT NULL,     -- which life of the consumer, by its broker's clock
    at REAL NOT NULL,       -- seconds since the Unix epoch, by this agent's
    PRIMARY KEY (consumer, topic, sender, id, made)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hubbub_seen_at ON hubbub_seen (at);
"""

T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """What one visit to the file does."""

    marks: list[tuple[Mark, "asyncio.Future[None]"]] = field(default_factory=list)
    questions: list[tuple[Mark, "asyncio.Future[bool]"]] = field(default_factory=list)


class SqliteSeen:
    """Remembers in an SQLite file. See `hubbub.seen` for what that closes."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: int = LIMIT,
        ttl: float = TTL_SECONDS,
        synchronous: Literal["full", "normal"] = "full",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """The file is opened, and made if need be, when it is first used.

        Args:
            path: of the file. It may hold the application's own tables: this uses those that begin with `hubbub_`.
            limit: messages remembered; the oldest are forgotten first.
            ttl: seconds for which they are remembered.
            synchronous: "full" outlives a power cut, "normal" a crash of the process only.
            clock: seconds since the Unix epoch; for tests.

        Raises:
            ValueError: if an option is out of range.
        """
        if not (limit >= 2 and ttl > 0):
            raise ValueError(f"limit is {limit} and ttl is {ttl}: 2 messages or more, and more than 0 seconds")
        if synchronous not in ("full", "normal"):
            raise ValueError(f'synchronous is {synchronous!r}: "full" or "normal" is allowed')
        self.path = Path(path)
        self._limit = limit
        self._ttl = ttl
        self._synchronous = synchronous
        self._clock = clock
        self._job = Job()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hubbub-seen")
        self._database: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._writer_lock = threading.Lock()
        # So that what was left by a former life is looked at with the first mark, of either kind.
        self._unpruned = PRUNE_EVERY
        self._unpruned_effects = PRUNE_EVERY
        self._closed = False

    # In the event loop --------------------------------------------------------------------------------------------

    async def seen(self, mark: Mark) -> bool:
        """Whether it was done.

        Raises:
            SeenError: the file can't be read.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._job.questions.append((mark, answer))
        self._start()
        return await answer

    async def add(self, mark: Mark) -> None:
        """It was done. Returns when that is on disk.

        Raises:
            SeenError: the file can't be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job.marks.append((mark, written))
        self._start()
        await written

    async def run(self, message: Consumed, effect: Callable[[sqlite3.Connection], T]) -> T:
        """`transaction` for coroutines: `effect(db)` is called in a thread, in one transaction with the mark.

        Raises:
            AlreadyDone, SeenError: as `transaction`.
        """

        def call() -> T:
            with self.transaction(message) as database:
                return effect(database)

        return await asyncio.to_thread(call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def _start(self) -> None:
        if self._closed:
            raise SeenError(f"{self.path} is closed")
        if not self._busy:
            self._busy = True
            # At the end of this turn, so that what else is asked in it goes along.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._send, loop)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        job, self._job = self._job, Job()
        done = loop.run_in_executor(self._thread, self._do, job)
        done.add_done_callback(lambda future: self._done(job, future))

    def _done(self, job: Job, future: "asyncio.Future[set[Mark]]") -> None:
        self._busy = False
        if self._job.marks or self._job.questions:
            self._start()
        error = future.exception() if not future.cancelled() else SeenError(f"{self.path} is closed")
        for mark, answer in job.questions:
            if not answer.done():
                if error is not None:
                    answer.set_exception(SeenError(f"{self.path} can't be used: {error}"))
                else:
                    answer.set_result(mark in future.result())
        for _, written in job.marks:
            if not written.done():
                if error is not None:
                    written.set_exception(SeenError(f"{self.path} can't be used: {error}"))
                else:
                    written.set_result(None)

    # In threads -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, message: Consumed) -> Iterator[sqlite3.Connection]:
        """A transaction in which the message is marked as done. For functions in threads; one at a time.

        It is committed at the end of the block, and rolled back when an exception leaves it. Keep it short: everybody
        else who writes to the file waits.

        Raises:
            AlreadyDone: the message is marked: its effect is in the file. Let it pass; the message is acked then.
            SeenError: the file can't be used. Nothing has changed.
        """
        mark = mark_of(message)
        with self._writer_lock:
            if self._closed:
                raise SeenError(f"{self.path} is closed")
            try:
                if self._writer is None:
                    self._writer = self._open()
                database = self._writer
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                raise SeenError(f"{self.path} can't be written: {error}") from error
            try:
                now = self._clock()
                # One that is too old says nothing any more, though nobody has removed it yet.
                noted = database.execute(
                    "INSERT INTO hubbub_seen VALUES (?,?,?,?,?,?) "
                    "ON CONFLICT DO UPDATE SET at = excluded.at WHERE at <= ?",
                    (*mark, now, now - self._ttl),
                )
                if not noted.rowcount:
                    raise AlreadyDone(f"the effect of {message!r} is in {self.path} already")
                self._unpruned_effects += 1
                if self._unpruned_effects >= PRUNE_EVERY:
                    self._unpruned_effects = 0
                    self._prune(database, now)
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def close(self) -> None:
        """Finish what was asked, and close the file. Idempotent."""
        self._closed = True
        self._thread.shutdown(wait=True)
        with self._writer_lock:
            for database in (self._database, self._writer):
                if database is not None:
                    database.close()
            self._database = self._writer = None

    def _do(self, job: Job) -> set[Mark]:
        if self._database is None:
            self._database = self._open()
        database = self._database
        if job.marks:
            now = self._clock()
            database.execute("BEGIN IMMEDIATE")
            try:
                for at in range(0, len(job.marks), ROWS_PER_STATEMENT):
                    some = job.marks[at : at + ROWS_PER_STATEMENT]
                    places = ",".join(["(?,?,?,?,?,?)"] * len(some))
                    values = [value for mark, _ in some for value in (*mark, now)]
                    database.execute(f"INSERT OR REPLACE INTO hubbub_seen VALUES {places}", values)  # noqa: S608
                self._unpruned += len(job.marks)
                if self._unpruned >= PRUNE_EVERY:
                    self._unpruned = 0
                    self._prune(database, now)
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")
        found: set[Mark] = set()
        oldest = self._clock() - self._ttl
        for at in range(0, len(job.questions), ROWS_PER_STATEMENT):
            asked = job.questions[at : at + ROWS_PER_STATEMENT]
            places = ",".join(["(?,?,?,?,?)"] * len(asked))
            rows = database.execute(
                "SELECT consumer, topic, sender, id, made FROM hubbub_seen "  # noqa: S608
                f"WHERE (consumer, topic, sender, id, made) IN (VALUES {places}) AND at > ?",
                [*(value for mark, _ in asked for value in mark), oldest],
            )
            found.update(Mark(*row) for row in rows)
        return found

    def _prune(self, database: sqlite3.Connection, now: float) -> None:
        database.execute("DELETE FROM hubbub_seen WHERE at <= ?", (now - self._ttl,))
        (count,) = database.execute("SELECT count(*) FROM hubbub_seen").fetchone()
        if count > self._limit:
            database.execute(
                "DELETE FROM hubbub_seen WHERE (consumer, topic, sender, id, made) IN "
                "(SELECT consumer, topic, sender, id, made FROM hubbub_seen ORDER BY at LIMIT ?)",
                (count - self._limit,),
            )

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={self._synchronous}")
            database.executescript(_SCHEMA)
            about = dict(database.execute("SELECT key, value FROM hubbub_about").fetchall())
            if about.get("format", FORMAT) != FORMAT:
                raise SeenError(f"{self.path} has format {about['format']}; this version reads {FORMAT}")
            database.execute("INSERT OR IGNORE INTO hubbub_about VALUES ('format', ?)", (FORMAT,))
        except BaseException:
            database.close()
            raise
        return database
