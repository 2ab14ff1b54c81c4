"""Where topics and states stand at the end of the log: the catalogue, overlaid with segments that it does not know."""

from collections.abc import Callable, Iterator
from heapq import nsmallest
from typing import TypeVar

from hubbub_broker.logs import get_logger

from .catalogue import Catalogue, StateRow, info, state_statements, topic_statements, writer_statements
from .errors import LogDamaged
from .index import MemoryIndex
from .segment import Segment, Shelf
from .standing import Standing, TopicInfo
from .stats import LogStats
from .topic import TopicLog

_log = get_logger(__name__)
T = TypeVar("T")


class Standings:
    """Owns the catalogue, and makes it again from the sidecars when it turns out to be damaged."""

    def __init__(self, shelf: Shelf, stats: LogStats, log_id: str, window: float) -> None:
        self._shelf = shelf
        self._stats = stats
        self._log_id = log_id
        self._window = window
        self.fresh: list[Segment] = []
        """Segments whose index is in memory, oldest first: those being sealed, then the active one."""
        self.catalogue, why = Catalogue.open(shelf.directory, log_id, window)
        self.rebuild_reason = why
        """Why the catalogue is empty and must be filled; None when it is usable."""

    def find(self, name: str) -> Standing | None:
        """Where a topic stands; None when nothing is known of it."""
        row = self._ask(lambda catalogue: catalogue.standing(name))
        for segment in self.fresh:
            topic = segment.index.topics.get(name) if segment.index is not None else None
            if topic is not None:
                first, base = (row.first, row.base) if row is not None else (topic.first, topic.base)
                row = Standing(name, first, base, topic.head, topic.lc, topic.last_ts, segment.number, topic.total)
        return row

    def writers(self, name: str) -> dict[bytes, tuple[int, float]]:
        """The newest count of each of a topic's writers, and about when."""
        found = self._ask(lambda catalogue: catalogue.writers(name))
        for index in self._indexes():
            topic = index.topics.get(name)
            if topic is not None:
                for writer, n in topic.writers.items():
                    found[writer] = (n, index.tail_writers.get((name, writer), topic.last_ts))
        return found

    def fresh_writers(self, name: str) -> set[bytes]:
        """The writers of a topic whose count is told by a segment that is still in memory."""
        return {w for index in self._indexes() if name in index.topics for w in index.topics[name].writers}

    def load(self, name: str) -> TopicLog:
        """Bring a topic into memory."""
        topic = TopicLog(name)
        standing = self.find(name)
        if standing is None:
            return topic
        topic.first = standing.first
        topic.head = standing.head
        topic.lc = standing.lc
        topic.last_ts = standing.last_ts
        topic.segment = standing.segment
        topic.total = standing.total
        topic.writers = {writer: n for writer, (n, _) in self.writers(name).items()}
        for segment in reversed(self.fresh):
            index = segment.index.topics.get(name) if segment.index is not None else None
            if index is not None:
                topic.index = index
                topic.total = index.base
                break
        return topic

    def topics(self, prefix: str, after: str, limit: int) -> list[TopicInfo]:
        """Topics by name."""
        found = {row.name: row for row in self._ask(lambda catalogue: catalogue.topics(prefix, after, limit))}
        fresh = {
            name
            for index in self._indexes()
            for name, topic in index.topics.items()
            if topic.head and name > after and name.startswith(prefix)
        }
        names = nsmallest(limit, found.keys() | fresh)
        rows = (self.find(name) if name in fresh else found[name] for name in names)
        return [info(row) for row in rows if row is not None]

    def state(self, kind: int, key: bytes) -> bytes | None:
        """The newest body of a key; None when there is none."""
        for segment in reversed(self.fresh):
            body = segment.index.states.get(kind, key) if segment.index is not None else None
            if body is not None:
                return body or None
        return self._ask(lambda catalogue: catalogue.state(kind, key))

    def states(self, kind: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The newest body of each key of a kind that begins with a prefix."""
        fresh: dict[bytes, bytes] = {}
        for index in self._indexes():
            fresh.update(index.states.with_prefix(kind, prefix))
        for key, body in self._ask(lambda catalogue: list(catalogue.states(kind, prefix))):
            if key not in fresh:
                yield key, body
        for key, body in fresh.items():
            if body:
                yield key, body

    def states_after(self, kind: int, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """The same, in the order of the keys: those behind `after`, so many at most.

        Each place that tells of states gives its next `limit` keys. Up to where the first of them had to stop, all are
        known; what lies behind is asked for again.
        """
        found: list[tuple[bytes, bytes]] = []
        while True:
            start = after
            pages = [self._ask(lambda catalogue: catalogue.states_after(kind, prefix, start, limit))]  # noqa: B023
            pages += [index.states.after(kind, prefix, start, limit) for index in self._indexes()]
            ends = [page[-1][0] for page in pages if len(page) == limit]
            known = {key: body for page in pages for key, body in page}
            end = min(ends, default=None)
            found += [(key, known[key]) for key in sorted(known) if known[key] and (end is None or key <= end)]
            if end is None or len(found) >= limit:
                return found[:limit]
            after = end

    def states_only_up_to(self, number: int, rows: int) -> Iterator[list[StateRow]]:
        """The states whose newest record lies in this segment or before it, as it stands when each list is asked for.

        Each list is made of so many rows of the catalogue; the caller may append between two of them.
        """
        page: list[StateRow] = []
        while True:
            after = page[-1] if page else None
            page = self._ask(lambda catalogue: catalogue.states_up_to(number, after, rows))  # noqa: B023 - asked at once
            fresh = [index.states for index in self._indexes()]
            yield [row for row in page if not any(states.has(row.kind, row.key) for states in fresh)]
            if len(page) < rows:
                return

    def rebuild(self, why: str) -> None:
        """Make the catalogue again from the sidecars of the sealed segments."""
        self._stats.catalogue_rebuilds += 1
        _log.warning("catalogue rebuilt", directory=str(self._shelf.directory), reason=why)
        self.catalogue.close()
        Catalogue.delete(self._shelf.directory)
        self.catalogue, _ = Catalogue.open(self._shelf.directory, self._log_id, self._window)
        for segment in self._shelf.segments.values():
            if segment.index is None:
                self.take_in(segment)

    def take_in(self, segment: Segment) -> None:
        """Tell the catalogue of a sealed segment, from its sidecar. Waits for the disk."""
        sidecar = self._shelf.sidecar(segment)
        number = segment.number
        self.catalogue.add_segment(
            number,
            segment.size,
            segment.mark,
            sidecar.last_ts,
            (
                *topic_statements(entry.standing(name, number) for name, entry in sidecar.entries()),
                *writer_statements(sidecar.writers()),
                *state_statements(number, sidecar.states()),
            ),
        )

    def close(self) -> None:
        """Let go of the catalogue."""
        self.catalogue.close()

    def _indexes(self) -> Iterator[MemoryIndex]:
        for segment in self.fresh:
            if segment.index is not None:
                yield segment.index

    def _ask(self, question: Callable[[Catalogue], T]) -> T:
        try:
            return question(self.catalogue)
        except LogDamaged as error:
            self._stats.damaged += 1
            self.rebuild(str(error))
            return question(self.catalogue)
