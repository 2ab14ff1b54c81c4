"""The outbox on disk: what was published while the broker was away outlives the agent's own crash.

What it promises: once `submit` has returned, or `publish` would return, a durable message is either confirmed by the
broker or in the spool file, and there it stays until it is confirmed. Opened again, by the next life of the same
agent, the spool gives back what was not confirmed, in order and with the same ids, so that the broker stores each once.

With `synchronous="full"` (the default) that holds for a power cut too; with `"normal"` only for a crash of the process,
and each commit is some ten times cheaper. While the agent is online, writing is put off for a moment (`LINGER`): most
messages are confirmed by then and never touch the disk.

SQLite (WAL) in one thread of its own. The event loop gathers what is to be written and deleted; one transaction at a
time takes all of it, in few statements of many rows.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import SpoolError
from .message import Receipt
from .outbox import Entry
from .stats import Stats

logger = logging.getLogger("hubbub")

Synchronous = Literal["full", "normal"]

LINGER_SECONDS = 0.05
"""How long writing waits for the broker's confirmation while the agent is online."""

RETRY_SECONDS = 1.0
"""How long a spool that could not be written is left alone."""

ROWS_PER_STATEMENT = 100
"""Rows in one INSERT: each statement waits for the interpreter lock, each row in it does not."""

FORMAT = "1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    row INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    id TEXT NOT NULL,
    line BLOB NOT NULL,     -- the encoded `pub`, without `n` and `ttl`
    payload BLOB,           -- of a binary message
    expires REAL            -- seconds since the Unix epoch
);
"""


@dataclass(slots=True)
class Batch:
    """What one transaction does."""

    entries: list[Entry]
    deletes: list[int]


@dataclass(frozen=True, slots=True)
class Row:
    """A message as it is kept."""

    row: int
    topic: str
    id: str
    line: bytes
    payload: bytes | None
    expires: float | None


@dataclass(slots=True)
class Kept:
    """Where an entry stands."""

    entry: Entry
    future: "asyncio.Future[None]"
    """Done once the entry is on disk, or need not be any more."""
    writing: bool = False
    settled: bool = False
    """Whether it was settled while it was being written: it is deleted again then."""


class Spool:
    """One spool file, open."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, stats: Stats) -> None:
        self.path = path
        self._stats = stats
        self.rows = 0
        """Messages in the file."""
        self._loop = loop
        self._base = 0
        self._jobs: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._waiting: dict[int, Kept] = {}
        self._on_disk: set[int] = set()
        self._deletes: list[int] = []
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._failed = False

    @classmethod
    async def open(
        cls, path: str | Path, agent: str, stats: Stats, synchronous: Synchronous = "full"
    ) -> "tuple[Spool, list[Row]]":
        """Open or create a spool file. Returns it with what is in it, in order.

        Raises:
            SpoolError: if it can't be opened, is another agent's, or is open already.
        """
        if synchronous not in ("full", "normal"):
            raise ValueError(f'synchronous is {synchronous!r}: "full" or "normal" is allowed')
        loop = asyncio.get_running_loop()
        spool = cls(Path(path), loop, stats)
        opened: asyncio.Future[list[Row]] = loop.create_future()
        spool._thread = threading.Thread(
            target=spool._run, args=(agent, synchronous, opened), name=f"hubbub-spool-{agent}", daemon=True
        )
        spool._thread.start()
        rows = await opened
        spool.rows = len(rows)
        spool._on_disk = {row.row for row in rows}
        spool._base = rows[-1].row if rows else 0
        return spool, rows

    # In the event loop --------------------------------------------------------------------------------------------

    def keep(self, entry: Entry, *, urgent: bool) -> "asyncio.Future[None]":
        """Write an entry, now or (unless urgent) a moment later. The future is done once it is on disk or settled; it
        fails with SpoolError when the file can't be written.
        """
        entry.spool_row = self._base + entry.position
        kept = Kept(entry, self._loop.create_future())
        self._waiting[entry.spool_row] = kept
        if urgent:
            self.hurry()
        elif self._timer is None:
            self._timer = self._loop.call_later(LINGER_SECONDS, self.hurry)
        return kept.future

    def settled(self, entry: Entry, _receipt: Receipt | None = None) -> None:
        """An entry needs no keeping any more: it was confirmed, or refused for good."""
        row = entry.spool_row
        if row is None:
            return
        kept = self._waiting.get(row)
        if kept is not None:
            if not kept.future.done():
                kept.future.set_result(None)
            kept.settled = True
            if not kept.writing:
                del self._waiting[row]
        elif row in self._on_disk:
            self._on_disk.discard(row)
            self._deletes.append(row)
            if self._timer is None:
                self._timer = self._loop.call_later(LINGER_SECONDS, self.hurry)

    def hurry(self) -> None:
        """Write and delete what there is, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy:
            return
        entries = [kept.entry for kept in self._waiting.values() if not kept.writing]
        if not entries and not self._deletes:
            return
        for entry in entries:
            assert entry.spool_row is not None
            self._waiting[entry.spool_row].writing = True
        deletes, self._deletes = self._deletes, []
        self._busy = True
        self._jobs.put(Batch(entries, deletes))

    def is_kept(self, entry: Entry) -> bool:
        """Whether an entry is on disk."""
        return entry.spool_row is not None and entry.spool_row in self._on_disk

    async def flush(self) -> None:
        """Wait until everything is written and deleted that was to be."""
        self.hurry()
        while self._busy or self._waiting or (self._deletes and not self._failed):
            self._idle = self._loop.create_future()
            await self._idle
            self.hurry()

    async def close(self) -> None:
        """Write what there is and close the file. Idempotent."""
        await self.flush()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await self._stopped
            thread.join()

    def _done(self, batch: Batch, error: Exception | None) -> None:
        self._busy = False
        for entry in batch.entries:
            assert entry.spool_row is not None
            kept = self._waiting.pop(entry.spool_row)
            if error is None:
                self._on_disk.add(entry.spool_row)
                self._stats.spooled += 1
                if kept.settled:
                    self.settled(entry)
            if kept.future.done():
                continue
            if error is None:
                kept.future.set_result(None)
            else:
                kept.future.set_exception(
                    SpoolError(
                        f"{self.path} can't be written: {error}; message {entry.id} is in memory and will be sent, "
                        "but does not outlive a crash"
                    )
                )
                kept.future.exception()  # logged below; whoever waits is told all the same
        self._report(batch, error)
        self.rows = len(self._on_disk)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if self._failed:
            self._timer = self._timer or self._loop.call_later(RETRY_SECONDS, self.hurry)
        elif self._waiting or self._deletes:
            self.hurry()

    def _report(self, batch: Batch, error: Exception | None) -> None:
        """Say once that writing fails, and once that it works again."""
        if error is not None and not self._failed:
            logger.error("! the spool %s can't be written: %s", self.path, error)
        elif error is None and self._failed:
            logger.warning("= the spool %s can be written again", self.path)
        self._failed = error is not None
        if error is not None:
            # What could not be deleted is deleted with the next batch, or sent again by the next life: the broker
            # tells it by its id.
            self._deletes.extend(batch.deletes)
            batch.deletes.clear()

    # In the thread ------------------------------------------------------------------------------------------------

    def _run(self, agent: str, synchronous: Synchronous, opened: "asyncio.Future[list[Row]]") -> None:
        try:
            database, rows = _open(self.path, agent, synchronous)
        except (sqlite3.Error, OSError, SpoolError) as error:
            failure = error if isinstance(error, SpoolError) else SpoolError(f"{self.path} can't be opened: {error}")
            self._tell(opened.set_exception, failure)
            return
        self._tell(opened.set_result, rows)
        while (batch := self._jobs.get()) is not None:
            self._tell(self._done, batch, _write(database, batch))
        database.close()
        self._tell(self._stopped.set_result, None)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)


def _open(path: Path, agent: str, synchronous: Synchronous) -> tuple[sqlite3.Connection, list[Row]]:
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode=EXCLUSIVE")  # a second agent on this file is refused
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.executescript(_SCHEMA)
        about = dict(database.execute("SELECT key, value FROM about").fetchall())
        if about.get("format", FORMAT) != FORMAT:
            raise SpoolError(f"{path} has format {about['format']}; this version reads {FORMAT}")
        if about.get("agent", agent) != agent:
            raise SpoolError(f"{path} is the spool of agent {about['agent']}, not of {agent}: one file for each agent")
        database.execute("INSERT OR REPLACE INTO about VALUES ('format', ?), ('agent', ?)", (FORMAT, agent))
        rows = database.execute("SELECT row, topic, id, line, payload, expires FROM outbox ORDER BY row").fetchall()
    except sqlite3.OperationalError as error:
        database.close()
        if "locked" in str(error):
            raise SpoolError(f"{path} is open in another agent: one file for each agent") from error
        raise
    except BaseException:
        database.close()
        raise
    return database, [Row(*row) for row in rows]


def _write(database: sqlite3.Connection, batch: Batch) -> sqlite3.Error | None:
    """One transaction. Returns what went wrong, and then nothing has changed."""
    try:
        database.execute("BEGIN IMMEDIATE")
        for at in range(0, len(batch.entries), ROWS_PER_STATEMENT):
            some = batch.entries[at : at + ROWS_PER_STATEMENT]
            places = ",".join(["(?,?,?,?,?,?)"] * len(some))
            values = [value for entry in some for value in _values(entry)]
            database.execute(f"INSERT OR REPLACE INTO outbox VALUES {places}", values)  # noqa: S608
        for first, last in ranges(sorted(batch.deletes)):
            database.execute("DELETE FROM outbox WHERE row BETWEEN ? AND ?", (first, last))
        database.execute("COMMIT")
    except sqlite3.Error as error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        return error
    return None


def _values(entry: Entry) -> tuple[int | None, str, str, bytes, bytes | None, float | None]:
    return entry.spool_row, entry.topic, entry.id, entry.body, entry.payload, entry.expires_wall


def ranges(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Sorted numbers as runs of neighbours: 1 2 3 7 8 gives (1, 3) and (7, 8)."""
    first: int | None = None
    last = 0
    for number in numbers:
        if first is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None:
        yield first, last


def entry_of(row: Row, loop: asyncio.AbstractEventLoop) -> Entry:
    """An outbox entry again."""
    left = None if row.expires is None else row.expires - time.time()
    entry = Entry(
        row.topic,
        row.id,
        row.line,
        loop.create_future(),
        payload=row.payload,
        expires_at=None if left is None else loop.time() + left,
        expires_wall=row.expires,
    )
    entry.spool_row = row.row
    return entry
