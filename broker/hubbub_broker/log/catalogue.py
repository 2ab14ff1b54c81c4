"""The catalogue: a SQLite file with what follows from the sealed segments, so that nothing has to be read to know it.

    topics     where each topic stands, and what retention has left of it
    writers    each writer's newest count in a topic, for as long as the dedup window
    states     the newest body of each key, and the segment that holds it
    segments   which sealed segments it was made from: number, size, mark
    meta       format, the log it belongs to, the number of the newest segment it knows

It is derived: every row can be made again from the segments' sidecars, and is when the file is missing, damaged, or
claims something that the directory does not hold. It changes when a segment is sealed or dropped, or the log closed: a
few statements of many rows each, in a thread (a thread that steps row by row starves beside a busy loop).
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from .errors import LogDamaged, LogError, LogFailed
from .record import STATE_SIZE, TAIL_SIZE
from .sidecar import Writer
from .standing import Standing, TopicInfo

NAME = "catalogue.db"
FORMAT = 2
ROWS = 400
"""Rows of one statement: few enough to be bound in well under a millisecond, enough to forget the statement's cost."""

_SCHEMA = """
CREATE TABLE topics (name TEXT PRIMARY KEY, first INTEGER NOT NULL, base INTEGER NOT NULL, floor_sum INTEGER NOT NULL,
    head INTEGER NOT NULL, lc INTEGER NOT NULL, last_ts REAL NOT NULL, segment INTEGER NOT NULL, total INTEGER NOT NULL,
    sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE writers (topic TEXT NOT NULL, writer BLOB NOT NULL, n INTEGER NOT NULL, ts REAL NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (topic, writer)) WITHOUT ROWID;
CREATE TABLE states (kind INTEGER NOT NULL, key BLOB NOT NULL, body BLOB NOT NULL, segment INTEGER NOT NULL,
    sum INTEGER NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE INDEX states_by_segment ON states (segment);
CREATE TABLE segments (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, mark INTEGER NOT NULL,
    sum INTEGER NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_TOPIC_UPSERT = """INSERT INTO topics VALUES {} ON CONFLICT (name) DO UPDATE SET head = excluded.head,
    lc = excluded.lc, last_ts = excluded.last_ts, segment = excluded.segment, total = excluded.total, sum = excluded.sum
    WHERE excluded.segment >= topics.segment"""
_FLOOR_UPDATE = """WITH floor (name, first, base, floor_sum) AS (VALUES {}) UPDATE topics SET first = floor.first,
    base = floor.base, floor_sum = floor.floor_sum FROM floor WHERE topics.name = floor.name"""
_WRITER_UPSERT = "INSERT OR REPLACE INTO writers VALUES {}"
_STATE_UPSERT = "INSERT OR REPLACE INTO states VALUES {}"
_STATE_SELECT = "SELECT segment, kind, key, body, sum FROM states"
_STATE_BYTES = "SELECT coalesce(sum(? + length(key) + length(body)), 0) FROM states WHERE segment BETWEEN ? AND ?"
_TOPIC_BYTES = "SELECT coalesce(sum(? + length(name)), 0) FROM topics WHERE segment BETWEEN ? AND ?"

Value = str | bytes | int | float


class StateRow(NamedTuple):
    """The newest body of a key, and the segment that holds it."""

    segment: int
    kind: int
    key: bytes
    body: bytes


class Statement(NamedTuple):
    """One statement and the values of all its rows."""

    sql: str
    values: list[Value]


def _sum(*values: object) -> int:
    """A checksum over a row, which SQLite does not keep, as a number that it can hold."""
    return xxh3_64_intdigest(repr(values).encode()) & 0x7FFF_FFFF_FFFF_FFFF


def _blob_sum(*values: bytes | int) -> int:
    return (
        xxh3_64_intdigest(b"\0".join(v if isinstance(v, bytes) else b"%d" % v for v in values)) & 0x7FFF_FFFF_FFFF_FFFF
    )


def _statements(sql: str, width: int, rows: Iterable[Sequence[Value]]) -> Iterator[Statement]:
    """Statements of many rows each."""
    values: list[Value] = []
    count = 0
    row_text = f"({','.join('?' * width)})"
    for row in rows:
        values += row
        count += 1
        if count == ROWS:
            yield Statement(sql.format(",".join([row_text] * count)), values)
            values, count = [], 0
    if count:
        yield Statement(sql.format(",".join([row_text] * count)), values)


def topic_statements(rows: Iterable[Standing]) -> Iterator[Statement]:
    """What brings topics up to date; `first` and `base` count only for topics that are new."""
    return _statements(_TOPIC_UPSERT, 10, map(_topic_row, rows))


def _topic_row(row: Standing) -> tuple[Value, ...]:
    name, first, base, head, lc, ts, segment, total = row
    last_ts = float(ts)  # SQLite gives a float back whatever it was given, and the sum must hold
    floor_sum = _sum(name, first, base)
    return (
        name,
        first,
        base,
        floor_sum,
        head,
        lc,
        last_ts,
        segment,
        total,
        _sum(name, head, lc, last_ts, segment, total),
    )


def floor_statements(rows: Iterable[tuple[str, int, int]]) -> Iterator[Statement]:
    """What retention leaves of topics: (name, first, base)."""
    return _statements(_FLOOR_UPDATE, 4, ((name, first, base, _sum(name, first, base)) for name, first, base in rows))


def writer_statements(rows: Iterable[Writer]) -> Iterator[Statement]:
    """What brings writers up to date."""
    return _statements(_WRITER_UPSERT, 5, ((*row, _blob_sum(row.topic.encode(), row.writer, row.n)) for row in rows))


def state_statements(segment: int, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[Statement]:
    """What brings states up to date."""
    return _statements(
        _STATE_UPSERT, 5, ((kind, key, body, segment, _blob_sum(segment, kind, key, body)) for kind, key, body in rows)
    )


class Catalogue:
    """The open catalogue. Reads are made on the loop, writes anywhere: one connection for each.

    Raises:
        LogDamaged: from every method, when SQLite finds the file damaged or a row fails its checksum.
    """

    def __init__(self, directory: Path, log_id: str, window: float) -> None:
        self._path = directory / NAME
        self._log_id = log_id
        self._window = window
        self._lock = Lock()
        self._writer = self._connect()
        try:
            self._reader = self._connect()
        except BaseException:
            self._writer.close()
            raise
        self.derived = 0
        """The newest segment that it knows."""
        self.segments: dict[int, tuple[int, int]] = {}
        """Size and mark of each sealed segment that it was made from."""

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cell_size_check = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    @classmethod
    def open(cls, directory: Path, log_id: str, window: float) -> tuple["Catalogue", str | None]:
        """Open the catalogue, or make an empty one; then the second value says why (the caller fills it)."""
        why: str | None = None
        if (directory / NAME).exists():
            catalogue: Catalogue | None = None
            try:
                catalogue = cls(directory, log_id, window)
                catalogue._load()
                return catalogue, None
            except (sqlite3.DatabaseError, LogDamaged) as error:
                why = str(error)
                if catalogue is not None:
                    catalogue._disconnect()
        cls.delete(directory)
        catalogue = cls(directory, log_id, window)
        catalogue._create()
        return catalogue, why or "there was none"

    @staticmethod
    def delete(directory: Path) -> None:
        """Remove the files: nothing is lost but time."""
        for suffix in ("", "-wal", "-shm"):
            (directory / (NAME + suffix)).unlink(missing_ok=True)

    def _create(self) -> None:
        self._writer.executescript(f"BEGIN; {_SCHEMA}")
        self._writer.executemany("INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("log", self._log_id)])
        self._writer.execute("COMMIT")

    def _load(self) -> None:
        found = [row[0] for row in self._reader.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise LogDamaged(f"the catalogue is damaged: {found[0]}")
        meta = dict(self._reader.execute("SELECT name, value FROM meta"))
        if meta.get("format") != FORMAT or meta.get("log") != self._log_id:
            raise LogDamaged("the catalogue is of another version or another log")
        self.segments = {}
        for number, size, mark, its_sum in self._reader.execute("SELECT * FROM segments"):
            if its_sum != _sum(number, size, mark):
                raise LogDamaged("a segment in the catalogue fails its checksum")
            self.segments[number] = (size, mark)
        self.derived = max(self.segments, default=0)

    # Reading --------------------------------------------------------------------------------------------------------

    def standing(self, name: str) -> Standing | None:
        """Where a topic stood at the end of the newest sealed segment."""
        rows = self._select("SELECT * FROM topics WHERE name = ?", (name,))
        return _standing(rows[0]) if rows else None

    def topics(self, prefix: str, after: str, limit: int) -> list[Standing]:
        """Topics in the order of their names."""
        sql = "SELECT * FROM topics WHERE name >= ? AND name > ? AND name < ? ORDER BY name LIMIT ?"
        return [_standing(row) for row in self._select(sql, (prefix, after, prefix + "\U0010ffff", limit))]

    def writers(self, topic: str) -> dict[bytes, tuple[int, float]]:
        """The counts of a topic's writers, and when each wrote last."""
        found = {}
        for writer, n, ts, its_sum in self._select("SELECT writer, n, ts, sum FROM writers WHERE topic = ?", (topic,)):
            if not (isinstance(writer, bytes) and isinstance(n, int) and isinstance(ts, float)):
                raise LogDamaged("a writer in the catalogue is of the wrong type")
            if its_sum != _blob_sum(topic.encode(), writer, n):
                raise LogDamaged("a writer in the catalogue fails its checksum")
            found[writer] = (n, ts)
        return found

    def state(self, kind: int, key: bytes) -> bytes | None:
        """The body of one key; None when there is none."""
        rows = self._select(f"{_STATE_SELECT} WHERE kind = ? AND key = ?", (kind, key))
        return _state(rows[0]).body if rows else None

    def states(self, kind: int, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The bodies of the keys of a kind that begin with a prefix."""
        sql = f"{_STATE_SELECT} WHERE kind = ? AND key >= ?"
        values: tuple[Value, ...] = (kind, prefix)
        end = _behind(prefix)
        if end:
            sql += " AND key < ?"
            values = (kind, prefix, end)
        for row in self._select(sql, values):
            state = _state(row)
            yield state.key, state.body

    def states_after(self, kind: int, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The same, in the order of the keys: those behind `after`, so many at most."""
        sql = f"{_STATE_SELECT} WHERE kind = ? AND key >= ? AND key > ?"
        values: tuple[Value, ...] = (kind, prefix, after)
        end = _behind(prefix)
        if end:
            sql += " AND key < ?"
            values = (*values, end)
        rows = [_state(row) for row in self._select(f"{sql} ORDER BY key LIMIT ?", (*values, limit))]
        return [(row.key, row.body) for row in rows]

    def states_up_to(self, segment: int, after: "StateRow | None", limit: int) -> list["StateRow"]:
        """States whose newest record lies in this segment or before, by segment and key, from behind a row on."""
        place = (-1, 0, b"") if after is None else (after.segment, after.kind, after.key)
        sql = f"""{_STATE_SELECT} WHERE segment <= ? AND (segment, kind, key) > (?, ?, ?)
            ORDER BY segment, kind, key LIMIT ?"""
        return [_state(row) for row in self._select(sql, (segment, *place, limit))]

    def bytes_told_by(self, first: int, last: int) -> int:
        """About how many bytes of records of these segments, the oldest that there are, no later one stands for.

        Reads a row for each topic and each such state, in one statement: for a thread.
        """
        with self._lock:
            try:
                ((states,),) = self._writer.execute(_STATE_BYTES, (STATE_SIZE, first, last)).fetchall()
                ((topics,),) = self._writer.execute(_TOPIC_BYTES, (TAIL_SIZE, first, last)).fetchall()
            except sqlite3.DatabaseError as error:
                raise _failure(error, "read") from error
        return int(states) + int(topics)

    def _select(self, sql: str, values: tuple[Value, ...]) -> list[tuple[object, ...]]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _failure(error, "read") from error

    # Writing --------------------------------------------------------------------------------------------------------

    def add_segment(self, number: int, size: int, mark: int, last_ts: float, statements: Iterable[Statement]) -> None:
        """Take in a sealed segment, whole or not at all."""
        with self._transaction():
            for statement in statements:
                self._writer.execute(*statement)
            self._writer.execute("DELETE FROM states WHERE segment = ? AND body = x''", (number,))
            self._writer.execute("DELETE FROM writers WHERE ts < ?", (last_ts - self._window,))
            self._writer.execute(
                "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?)", (number, size, mark, _sum(number, size, mark))
            )
        self.segments[number] = (size, mark)
        self.derived = max(self.derived, number)

    def drop_segment(self, number: int, statements: Iterable[Statement]) -> None:
        """Retention takes the oldest segment."""
        with self._transaction():
            for statement in statements:
                self._writer.execute(*statement)
            self._writer.execute("DELETE FROM segments WHERE number <= ?", (number,))
        self.segments.pop(number, None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield
                self._writer.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _failure(error, "written") from error
                raise

    def close(self) -> None:
        """Let go of the file, its write-ahead log folded in. Waits for a write that is under way in a thread."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        self._reader.close()
        self._writer.close()


def _standing(row: tuple[object, ...]) -> Standing:
    name, first, base, floor_sum, *rest, its_sum = row
    if floor_sum != _sum(name, first, base) or its_sum != _sum(name, *rest):
        raise LogDamaged("a topic in the catalogue fails its checksum")
    return Standing(name, first, base, *rest)  # type: ignore[arg-type]  # typed by the schema, and the sum holds


def _behind(prefix: bytes) -> bytes:
    """The first key behind all that begin with a prefix; empty when nothing is behind them."""
    rest = prefix.rstrip(b"\xff")
    return rest[:-1] + bytes([rest[-1] + 1]) if rest else b""


def _state(row: tuple[object, ...]) -> StateRow:
    segment, kind, key, body, its_sum = row
    if not (isinstance(segment, int) and isinstance(kind, int) and isinstance(key, bytes) and isinstance(body, bytes)):
        raise LogDamaged("a state in the catalogue is of the wrong type")
    if its_sum != _blob_sum(segment, kind, key, body):
        raise LogDamaged("a state in the catalogue fails its checksum")
    return StateRow(segment, kind, key, body)


def info(row: Standing) -> TopicInfo:
    """A topic as the list of topics shows it."""
    return TopicInfo(row.name, row.head, row.first, row.last_ts, row.total - row.base)


def _failure(error: sqlite3.Error, what: str) -> LogError:
    """A file that SQLite finds malformed is made again; a full or failing disk is not cured by that."""
    if isinstance(error, sqlite3.OperationalError):
        return LogFailed(f"the catalogue can't be {what}: {error}; check the disk")
    return LogDamaged(f"the catalogue can't be {what}: {error}")
