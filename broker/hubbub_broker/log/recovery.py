"""Opening a shard's log: find out what is there, mend what a crash left behind, tell of what is damaged.

1. which segments there are; what an interrupted seal or removal left is swept away
2. the catalogue says which sealed segments it knows; only newer ones, and those whose sidecar is missing, are read
3. the last segment is read from end to end: a torn tail is cut off, damage before it is told of and kept
4. what is kept is synced before anything is built on it
5. what was once confirmed is held against what is there: the length of the last clean close, of each index, of the
   catalogue
6. history that was lost, so that a seq may be given out twice, means another epoch
"""

import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hubbub_broker.logs import get_logger

from .builder import IndexBuilder, build_alone
from .errors import LogDamaged
from .files import Files
from .header import HEADER_SIZE, SegmentHeader
from .index import MemoryIndex
from .meta import ShardMeta
from .names import BAD_SUFFIX, SIDECAR_SUFFIX, segment_numbers, segment_path, sidecar_path
from .scan import Found
from .sealing import seal_now
from .segment import Segment, Shelf
from .settings import LogSettings
from .sidecar import Sidecar
from .standings import Standings
from .stats import LogStats

_log = get_logger(__name__)


class Recovered(NamedTuple):
    """What `recover` gives the log."""

    meta: ShardMeta
    shelf: Shelf
    standings: Standings
    active: Segment


class Recovery:
    """One opening of one shard's directory. `run` does all of it, waiting for the disk."""

    def __init__(self, files: Files, directory: Path, settings: LogSettings, stats: LogStats, now: float) -> None:
        self._files = files
        self._directory = directory
        self._settings = settings
        self._stats = stats
        self._now = now
        self._shard = int(directory.name) if directory.name.isdecimal() else 0
        self._shelf = Shelf(files, directory, self._shard)
        self._shelf.repair = self.repair
        self._active_confirmed = 0
        """How much of the active segment is known to have been on stable storage."""
        self._lost = False
        """Whether history is missing whose seqs may be given out again."""

    def run(self) -> Recovered:
        """Open the directory, made if missing.

        Raises:
            FormatError: something in it is of another version or does not belong here.
            OSError: the disk fails.
        """
        files, directory = self._files, self._directory
        files.make_directory(directory)
        names = files.names(directory)
        numbers = segment_numbers(names)
        self._sweep(names, numbers)
        meta = ShardMeta.load(files, directory, self._shard)
        self._meta = meta or ShardMeta.new(self._shard)
        if numbers and meta is None:
            self._report("shard identity lost", file=str(directory))
        self._lost = bool(numbers) != (meta is not None)
        if self._lost and not numbers:
            self._report("history lost", file=str(directory))
        standings = Standings(self._shelf, self._stats, self._meta.log, self._settings.dedup_window)
        try:
            files.hold_directory(directory)
            return self._run(standings, numbers, known=meta is not None)
        except BaseException:
            standings.close()
            self._shelf.close()
            raise

    def _run(self, standings: Standings, numbers: list[int], *, known: bool) -> Recovered:
        files, directory = self._files, self._directory
        active_number = self._adopt(standings, numbers)
        active = self._recover_active(standings, active_number) if active_number else None
        self._check_missing(numbers)
        if self._lost:  # told of, and not to be told again
            self._meta.clean_segment = self._meta.clean_size = 0
        if self._lost and known:
            self._meta.renew_epoch()
            _log.warning("epoch renewed", directory=str(directory), epoch=self._meta.epoch)
        if self._lost or not known:
            self._meta.save(files, directory)
            files.sync_directory(directory.parent)
        if active is None:
            newest = max(numbers, default=0)
            active = create_segment(self._shelf, newest + 1, self._meta.epoch, self._now)
            standings.fresh.append(active)
        return Recovered(self._meta, self._shelf, standings, active)

    # 1. The directory -----------------------------------------------------------------------------------------------

    def _sweep(self, names: list[str], numbers: list[int]) -> None:
        """Remove what an interrupted seal or removal left."""
        kept = {f"{number:020d}{SIDECAR_SUFFIX}" for number in numbers}
        for name in names:
            if name.endswith(".tmp") or (name.endswith(SIDECAR_SUFFIX) and name not in kept):
                self._files.unlink(self._directory / name)

    def _check_missing(self, numbers: list[int]) -> None:
        """A segment that is gone from the middle was not taken by retention."""
        known = set(self._meta.missing)
        present = set(numbers)
        if numbers:
            for number in range(numbers[0], numbers[-1]):
                if number not in present and number not in known:
                    self._report("segment lost", file=str(segment_path(self._directory, number)))
                    self._meta.missing.append(number)
                    self._lost = True

    def _check_newest(self, numbers: list[int], known: Iterable[int]) -> None:
        """Retention leaves the newest one, and no crash takes one that was sealed, or was there at a clean close."""
        if numbers and max(self._meta.clean_newest, *known, 0) > numbers[-1]:
            self._report("newest segments lost", file=str(self._directory))
            self._lost = True

    # 2. Sealed segments ---------------------------------------------------------------------------------------------

    def _adopt(self, standings: Standings, numbers: list[int]) -> int:
        """Put the sealed segments on the shelf; returns the number of the active one, 0 when it has to be made."""
        known = standings.catalogue.segments
        why = standings.rebuild_reason
        if known and max(known) > max(numbers, default=0):
            why = "it knows segments that are not there"
        self._check_newest(numbers, known)
        fresh: list[Segment] = []
        active = 0
        for number in numbers:
            path = segment_path(self._directory, number)
            size = self._files.file_size(path)
            if known.get(number, (-1, 0))[0] == size and sidecar_path(self._directory, number).exists():
                segment = Segment(self._directory, number, known[number][1], size)
            else:
                segment = Segment(self._directory, number, 0, size)
                with suppress(LogDamaged):  # then its sidecar may tell
                    segment.mark = self._shelf.read_header(segment).mark
                confirmed = self._confirmed(segment, known)
                if number == numbers[-1] and not self._has_sidecar(segment):
                    active = number
                    self._active_confirmed = confirmed
                    break
                if not self._adopt_unknown(segment, confirmed):
                    continue
                fresh.append(segment)
                if number in known or number < standings.catalogue.derived:
                    why = why or f"segment {number} is not as it was"
            self._shelf.add(segment)
        if why is None and known and min(known) != (numbers[0] if numbers else 0):
            why = "the oldest segments are gone"
        if why is not None:
            if self._shelf.segments:
                standings.rebuild(why)
        else:
            for segment in fresh:
                standings.take_in(segment)
        return active

    def _confirmed(self, segment: Segment, known: dict[int, tuple[int, int]]) -> int:
        """How much of a segment was on stable storage, as far as the clean close, its index and the catalogue tell."""
        size, mark = known.get(segment.number, (0, 0))
        confirmed = size if segment.mark in (0, mark) else 0
        if self._meta.clean_segment == segment.number:
            confirmed = max(confirmed, self._meta.clean_size)
        with suppress(LogDamaged, FileNotFoundError):
            sidecar = Sidecar(self._files, segment.sidecar_path)
            sidecar.close()
            if (sidecar.shard, sidecar.segment) == (self._shard, segment.number) and segment.mark in (0, sidecar.mark):
                confirmed = max(confirmed, sidecar.covers)
        return confirmed

    def _has_sidecar(self, segment: Segment) -> bool:
        """Whether the last segment was sealed: then a new one begins."""
        try:
            self._shelf.checked_sidecar(segment).close()
        except (LogDamaged, FileNotFoundError):
            return False
        return True

    def _adopt_unknown(self, segment: Segment, confirmed: int) -> bool:
        """A sealed segment that the catalogue does not know: use its sidecar, or make one."""
        if segment.size < confirmed:
            self._report(
                "confirmed records lost", file=str(segment.path), offset=segment.size, size=confirmed - segment.size
            )
            self._lost = True
        try:
            sidecar = self._shelf.checked_sidecar(segment)
        except (LogDamaged, FileNotFoundError):
            segment.mark = segment.mark or self._mark_from_sidecar(segment)
            if not segment.mark:
                self._set_aside(segment)
                return False
            if self._reindex(segment).damage:
                self._lost = True  # it may have been the newest of its topic
        else:
            segment.mark = sidecar.mark
            sidecar.close()
        return True

    def _mark_from_sidecar(self, segment: Segment) -> int:
        """A segment whose header is damaged can still be read when its sidecar, however stale, tells its mark."""
        try:
            sidecar = Sidecar(self._files, segment.sidecar_path)
        except (LogDamaged, FileNotFoundError):
            return 0
        sidecar.close()
        return sidecar.mark if (sidecar.shard, sidecar.segment) == (self._shard, segment.number) else 0

    def _set_aside(self, segment: Segment) -> None:
        """Nothing in it can be read: keep it for people under another name."""
        bad = segment.path.with_name(segment.path.name + BAD_SUFFIX)
        self._report("segment unreadable", file=str(segment.path), kept_as=str(bad))
        self._files.rename(segment.path, bad)
        self._files.unlink(segment.sidecar_path)
        self._files.sync_directory(self._directory)
        self._meta.missing.append(segment.number)
        self._lost = True

    def repair(self, segment: Segment, why: str) -> None:
        """Make the sidecar of a sealed segment again."""
        self._report("sidecar rebuilt", file=str(segment.sidecar_path), reason=why)
        if segment.sidecar is not None:
            segment.sidecar.close()
            segment.sidecar = None
        self._reindex(segment)

    def _reindex(self, segment: Segment) -> MemoryIndex:
        with self._files.reading(segment.path) as fd:
            segment_index = build_alone(self._shelf, segment, fd)
        for offset, size in segment_index.damage:
            self._report("record damaged", file=str(segment.path), offset=offset, size=size)
        segment.index = segment_index
        try:
            seal_now(self._shelf, segment)
        finally:
            segment.index = None
        return segment_index

    # 3. The active segment ------------------------------------------------------------------------------------------

    def _recover_active(self, standings: Standings, number: int) -> Segment | None:
        """Read the last segment; None when a new one has to be begun after it."""
        path = segment_path(self._directory, number)
        fd = self._files.open(path, write=True)
        size = self._files.size(fd)
        segment = Segment(self._directory, number, 0, size)
        try:
            header = SegmentHeader.decode(self._files.read(fd, HEADER_SIZE, 0), self._shard, number)
        except LogDamaged:
            has_content = self._has_content(fd, size)
            self._files.close(fd)
            # (A clean close may have noted a segment that had no file yet: its size is 0 then.)
            if has_content or self._active_confirmed:
                self._set_aside(segment)
                return None
            # The crash came while the file was being made: nothing in it was ever confirmed.
            self._files.unlink(path)
            active = create_segment(self._shelf, number, self._meta.epoch, self._now)
            standings.fresh.append(active)
            return active
        except BaseException:
            self._files.close(fd)
            raise
        segment.mark = header.mark
        segment.fd = fd
        self._shelf.add(segment)
        builder = IndexBuilder(number, standings.find)
        torn = builder.read(self._files, fd, segment.mark, segment.size)
        segment.index = builder.index
        damaged = bool(builder.index.damage)
        for offset, length in builder.index.damage:
            self._report("record damaged", file=str(path), offset=offset, size=length)
        if torn is not None:
            self._cut(segment, torn)
        if segment.size < self._active_confirmed:
            damaged = True
            lost = self._active_confirmed - segment.size
            self._report("confirmed records lost", file=str(path), offset=segment.size, size=lost)
        self._make_durable(segment, builder.last_batch)
        if not damaged:
            standings.fresh.append(segment)
            return segment
        # What was lost may have been the newest of its topic. The segment is sealed, so that it is told of only once.
        self._lost = True
        seal_now(self._shelf, segment)
        self._shelf.settle(segment)
        standings.take_in(segment)
        return None

    def _has_content(self, fd: int, size: int) -> bool:
        """Whether anything but zeros lies behind the header.

        Header and first batch are written at once. After a crash before their sync the file system may have made room
        for both and filled in the header alone, or part of it: then nothing in the file was ever confirmed.
        """
        at = HEADER_SIZE
        while at < size:
            part = self._files.read(fd, min(1 << 20, size - at), at)
            if not part:
                return False
            if part.count(0) != len(part):
                return True
            at += len(part)
        return False

    def _cut(self, segment: Segment, torn: Found) -> None:
        """Cut the torn tail off, and keep it for people when it is more than one unfinished write can explain."""
        if torn.offset < self._active_confirmed:
            tail = self._files.read(segment.fd, min(torn.size, 1 << 26), torn.offset)
            self._files.replace(segment.path.with_name(f"{segment.path.name}.{torn.offset}{BAD_SUFFIX}"), [tail])
        self._stats.truncated_bytes += torn.size
        _log.warning("torn tail cut off", file=str(segment.path), offset=torn.offset, size=torn.size)
        self._files.truncate(segment.fd, torn.offset)
        segment.size = segment.durable = torn.offset

    def _make_durable(self, segment: Segment, last_batch: int) -> None:
        """What was found is about to be built on, so it must be on stable storage.

        It may be in the page cache alone: the process was killed before its sync, or the sync failed and the system
        then took the pages for clean. The last batch is therefore written again, in place, before it is synced.
        """
        at = last_batch
        while at < segment.size:
            part = self._files.read(segment.fd, min(1 << 20, segment.size - at), at)
            if not part or self._files.write(segment.fd, part, at) != len(part):
                raise OSError(f"{segment.path} can't be written: check the disk, then start again")
            at += len(part)
        self._files.sync(segment.fd)
        self._files.sync_directory(self._directory)

    def _report(self, event: str, **fields: object) -> None:
        self._stats.damaged += 1
        _log.warning(event, **fields)


def new_segment(shelf: Shelf, number: int) -> Segment:
    """A segment that has no file yet."""
    segment = Segment(shelf.directory, number, secrets.randbits(32) | 1, HEADER_SIZE)
    segment.index = MemoryIndex()
    segment.durable = 0
    shelf.add(segment)
    return segment


def segment_header(shelf: Shelf, segment: Segment, epoch: str, now: float) -> bytes:
    """The first bytes of its file."""
    return SegmentHeader(shelf.shard, segment.number, segment.mark, epoch, now).encode()


def create_segment(shelf: Shelf, number: int, epoch: str, now: float) -> Segment:
    """Begin a segment, its file on stable storage."""
    segment = new_segment(shelf, number)
    segment.fd = shelf.files.create(segment.path)
    header = segment_header(shelf, segment, epoch, now)
    if shelf.files.write(segment.fd, header, 0) != len(header):
        raise OSError(f"{segment.path} can't be written: make room on the disk, then start again")
    shelf.files.sync(segment.fd)
    shelf.files.sync_directory(shelf.directory)
    segment.durable = segment.size
    return segment
