"""Backups: of a directory that a broker is writing to, into one tar file, and back.

A backup is a consistent prefix of each shard's log: segments are only ever appended to and dropped from the front, so
copying them from the oldest to the newest, and of the newest all whole valid records, gives a history that was once on
disk. What is damaged there is copied as it is and noted, so that a restore knows it from damage of the backup itself.
Sidecars and catalogue are not in it: they are derived, and made again when the restored directory is opened.

    hubbub.json
    shards/007/shard.json
    shards/007/00000000000000000001.log …
    backup.json                               what was damaged already, and what retention took meanwhile
"""

import gzip
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from typing import IO, NamedTuple

import msgspec

from .directory import NAME as DIRECTORY_META
from .directory import read_meta
from .errors import BackupError, FormatError, LogDamaged, LogError
from .files import FILE_MODE, Files, make_durable_directory
from .header import HEADER_SIZE, SegmentHeader
from .meta import NAME as SHARD_META
from .meta import ShardMeta
from .names import segment_numbers, segment_path
from .scan import scan

MANIFEST = "backup.json"
"""What a backup says of itself; the last in it."""
JUMPS_MAX = 1000
"""How often retention may take a segment of a shard that was about to be copied."""
MEMBER = re.compile(r"hubbub\.json|backup\.json|shards/\d{3}/(?:shard\.json|\d{20}\.log)")
"""The only names that a backup may hold: nothing is ever written outside the directory."""
CHUNK = 1 << 20


class Damage(msgspec.Struct, frozen=True):
    """What could not be read of a segment when it was copied. It is in the copy as it is, and nobody is given it."""

    shard: int
    segment: int
    offset: int
    size: int

    def __str__(self) -> str:
        return f"segment {self.segment} of shard {self.shard} is damaged at {self.offset}: {self.size} bytes"


class Copied(NamedTuple):
    """What `backup` has made."""

    size: int
    damage: list[Damage]


class Restored(NamedTuple):
    """What `restore` has unpacked."""

    records: int
    damage: list[Damage]
    """What was damaged already when it was copied. The broker tells readers of it, as that of the original does."""


class _Manifest(msgspec.Struct, kw_only=True):
    """What stands in MANIFEST."""

    damage: list[Damage] = []
    first: dict[int, int] = {}
    """By shard: retention took what is older than this segment while the shard was copied."""


# Backup --------------------------------------------------------------------------------------------------------------


def backup(directory: Path, file: Path) -> Copied:
    """Copy a data directory, in use or not, into a tar file (`.tar`, `.tar.gz`, `.tgz`, `.tar.zst`).

    The file appears under its name only when it is complete and on stable storage. Every checksum is checked on the
    way: what is damaged is copied as it is, and told.

    Raises:
        BackupError: the file is there already, or has an unknown ending, or the directory changes too fast.
        LogError: the directory is none, or is damaged.
    """
    if file.exists():
        raise BackupError(f"{file} is there already: name another file, or remove it")
    meta = read_meta(directory)
    if meta is None:
        raise FormatError(f"{directory} is no data directory: name the one that the broker was started with")
    files = Files()
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with (
            _compressed(file, temporary) as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            _add(tar, DIRECTORY_META, files.read_whole(directory / DIRECTORY_META))
            manifest = _Manifest(damage=[], first={})
            for number in range(meta.shards):
                shard = _ShardCopy(tar, files, directory / "shards" / f"{number:03d}", number)
                shard.run()
                manifest.damage += shard.damage
                if shard.first:
                    manifest.first[number] = shard.first
            _add(tar, MANIFEST, msgspec.json.encode(manifest))
        with files.reading(temporary) as fd:
            files.sync(fd)
            size = files.size(fd)
        files.rename(temporary, file)
        files.sync_directory(file.absolute().parent)
    except OSError as error:
        raise BackupError(
            f"{directory} can't be copied to {file}: {error}; check the disk and the permissions"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return Copied(size, manifest.damage)


class _ShardCopy:
    """Puts one shard's segments into the tar, the oldest first, one open at a time.

    Retention may take one that was not copied yet, and then all before it too. What those alone had told was appended
    again before, so it is in what is there then: the copy goes on with that, and `first` says that what is older is to
    go from it.
    """

    def __init__(self, tar: tarfile.TarFile, files: Files, path: Path, number: int) -> None:
        self._tar = tar
        self._files = files
        self._path = path
        self._number = number
        self.damage: list[Damage] = []
        self.first = 0
        """The oldest segment that belongs to the copy, if retention took some that are in it."""

    def run(self) -> None:
        """Copy the shard."""
        numbers = self._numbers_from(1)
        meta = ShardMeta.load(self._files, self._path, self._number)
        if meta is None:
            if numbers:
                raise LogDamaged(
                    f"{self._path / SHARD_META} is missing or damaged: start the broker, which mends it, then try again"
                )
            return
        folder = f"shards/{self._number:03d}"
        _add(self._tar, f"{folder}/{SHARD_META}", self._files.read_whole(self._path / SHARD_META))
        jumps = 0
        while numbers:
            number = numbers.pop(0)
            try:
                self._add_segment(folder, number, last=not numbers)
            except FileNotFoundError:
                jumps += 1
                numbers = self._numbers_from(number + 1)
                self.first = number + 1
                if jumps > JUMPS_MAX or not numbers:
                    raise BackupError(
                        f"retention drops segments of {self._path} faster than they can be copied: try again"
                    ) from None

    def _numbers_from(self, first: int) -> list[int]:
        try:
            names = self._files.names(self._path)
        except FileNotFoundError:
            return []
        return [number for number in segment_numbers(names) if number >= first]

    def _add_segment(self, folder: str, number: int, *, last: bool) -> None:
        path = segment_path(self._path, number)
        with self._files.reading(path) as fd:
            end, damage = self._look(fd, number, last=last)
            self.damage += damage
            if end:
                with _Slice(self._files, fd, end) as content:
                    self._tar.addfile(_member(f"{folder}/{path.name}", end), content)

    def _look(self, fd: int, number: int, *, last: bool) -> tuple[int, list[Damage]]:
        """How much of a segment to copy, and what of that can't be read.

        A sealed one is copied whole, the newest up to its last whole valid record.
        """
        size = self._files.size(fd)
        end, damage = HEADER_SIZE, []
        for offset, length, whole in _stretches(self._files, fd, self._number, number, size):
            if whole:
                end = offset + length
            elif offset or not last or size > HEADER_SIZE:  # else it is being made this moment
                damage.append(Damage(self._number, number, offset, length))
            else:
                return 0, []
        if not last or (damage and not damage[0].offset):
            return size, damage
        return end, [each for each in damage if each.offset < end]


def _stretches(files: Files, fd: int, shard: int, number: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """Offset and size of each record of a segment, and of what can't be read: all of it if its header is damaged."""
    try:
        header = SegmentHeader.decode(files.read(fd, HEADER_SIZE, 0), shard, number)
    except LogDamaged:
        yield 0, size, False
        return
    for found in scan(files, fd, header.mark, HEADER_SIZE, size):
        yield found.offset, found.size, found.record is not None


class _Slice(io.RawIOBase):
    """The first bytes of an open file, as tarfile wants to read them. One that turns out shorter is an error."""

    def __init__(self, files: Files, fd: int, size: int) -> None:
        self._files = files
        self._fd = fd
        self._left = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._files.read(self._fd, wanted, self._at) if wanted else b""
        if len(data) != wanted:
            raise BackupError("a segment became shorter while it was copied (its disk is failing): try again")
        self._at += wanted
        self._left -= wanted
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = FILE_MODE
    return info


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


# Restore -------------------------------------------------------------------------------------------------------------


def restore(file: Path, directory: Path) -> Restored:
    """Unpack a backup into an empty or missing directory, and check every record.

    What was damaged when it was copied stays as it is: the broker sets it aside, as it does in the original.
    On failure the directory is left as it was found.

    Raises:
        BackupError: the directory is not empty, or the file is no backup, or damaged.
    """
    if directory.exists() and any(directory.iterdir()):
        raise BackupError(f"{directory} is not empty: restore into a new directory")
    files = Files()
    existed = directory.exists()
    try:
        make_durable_directory(directory)
        with _decompressed(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                _unpack(tar, info, files, directory)
        restored = _check(files, directory)
        _sync_tree(files, directory)
    except (OSError, EOFError, tarfile.TarError, LogError) as error:
        _clear(directory, keep=existed)
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{file} can't be restored: {error}; use another backup, or check the disk") from error
    except BaseException:
        _clear(directory, keep=existed)
        raise
    return restored


def _unpack(tar: tarfile.TarFile, info: tarfile.TarInfo, files: Files, directory: Path) -> None:
    if not info.isreg() or not MEMBER.fullmatch(info.name):
        raise BackupError(f"the backup holds {info.name!r}, which no backup of ours does: it was not unpacked")
    path = directory / info.name
    files.make_directory(path.parent)
    source = tar.extractfile(info)
    assert source is not None
    fd = files.create(path)
    try:
        at = 0
        while data := source.read(CHUNK):
            if files.write(fd, data, at) != len(data):
                raise BackupError(f"{path} was written in part: make room on the disk")
            at += len(data)
        if at != info.size:
            raise BackupError(f"{info.name} is cut short in the backup: use another one")
        files.sync(fd)
    finally:
        files.close(fd)


def _check(files: Files, directory: Path) -> Restored:
    """Every checksum of what was unpacked. Each shard begins another epoch: what came after the backup is lost."""
    meta = read_meta(directory, files)
    if meta is None:
        raise BackupError(f"the backup has no {DIRECTORY_META}: it is none, or is cut short")
    manifest = _take_manifest(files, directory)
    known = set(manifest.damage)
    records = 0
    for shard in range(meta.shards):
        path = directory / "shards" / f"{shard:03d}"
        files.make_directory(path)
        numbers = segment_numbers(files.names(path))
        shard_meta = ShardMeta.load(files, path, shard)
        if shard_meta is not None:
            shard_meta.renew_epoch()
            shard_meta.clean_segment = shard_meta.clean_size = 0  # of the directory that was copied, at some other time
            shard_meta.save(files, path)
        elif numbers:
            raise BackupError(f"the backup has no valid {SHARD_META} for shard {shard}: use another one")
        for number in numbers:
            if number < manifest.first.get(shard, 0):
                files.unlink(segment_path(path, number))
            else:
                records += _check_segment(files, path, shard, number, known)
    return Restored(records, [each for each in manifest.damage if each.segment >= manifest.first.get(each.shard, 0)])


def _take_manifest(files: Files, directory: Path) -> _Manifest:
    """What the backup says of itself, which is no part of the data."""
    try:
        text = files.read_whole(directory / MANIFEST)
        manifest = msgspec.json.decode(text, type=_Manifest)
    except FileNotFoundError:
        return _Manifest()  # made before there were any: nothing in it may be damaged
    except msgspec.DecodeError as error:
        raise BackupError(f"{MANIFEST} of the backup can't be read: {error}; use another one") from None
    files.unlink(directory / MANIFEST)
    return manifest


def _check_segment(files: Files, path: Path, shard: int, number: int, known: set[Damage]) -> int:
    records = 0
    with files.reading(segment_path(path, number)) as fd:
        for offset, size, whole in _stretches(files, fd, shard, number, files.size(fd)):
            if whole:
                records += 1
            elif Damage(shard, number, offset, size) not in known:
                raise BackupError(f"segment {number} of shard {shard} is damaged at {offset}: use another backup")
    return records


def _sync_tree(files: Files, directory: Path) -> None:
    for path in (
        *sorted((directory / "shards").iterdir()),
        directory / "shards",
        directory,
        directory.absolute().parent,
    ):
        files.sync_directory(path)


def _clear(directory: Path, *, keep: bool) -> None:
    """Take away what a failed restore unpacked. The directory was empty or missing before, so all of it is ours."""
    for root, folders, names in os.walk(directory, topdown=False):
        for name in names:
            Path(root, name).unlink(missing_ok=True)
        for name in folders:
            with suppress(OSError):
                Path(root, name).rmdir()
    if not keep:
        with suppress(OSError):
            directory.rmdir()


# Compression ---------------------------------------------------------------------------------------------------------


@contextmanager
def _compressed(file: Path, temporary: Path) -> Iterator[IO[bytes]]:
    """A stream into the temporary file, packed as the final name's ending says."""
    kind = _kind(file)
    with _new_file(temporary) as raw:
        if kind == "gz":
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6) as packed:
                yield packed  # type: ignore[misc]  # a GzipFile is a stream of bytes
        elif kind == "zst":
            with _zstd(["-q", "-c", "-T0"], stdin=subprocess.PIPE, stdout=raw) as process:
                assert process.stdin is not None
                yield process.stdin
                process.stdin.close()
        else:
            yield raw


@contextmanager
def _decompressed(file: Path) -> Iterator[IO[bytes]]:
    kind = _kind(file)
    with file.open("rb") as raw:
        if kind == "gz":
            with gzip.GzipFile(fileobj=raw, mode="rb") as packed:
                yield packed  # type: ignore[misc]  # a GzipFile is a stream of bytes
        elif kind == "zst":
            with _zstd(["-q", "-d", "-c"], stdin=raw, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                yield process.stdout
                while process.stdout.read(CHUNK):
                    pass  # so that its verdict on the whole file is heard
        else:
            yield raw


@contextmanager
def _zstd(arguments: list[str], stdin: IO[bytes] | int, stdout: IO[bytes] | int) -> Iterator[subprocess.Popen[bytes]]:
    """The zstd program: Python has no such module before 3.14."""
    program = which("zstd")
    if program is None:
        raise BackupError("a .zst backup needs the zstd program: install it, or use .tar.gz")
    process = subprocess.Popen([program, *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)  # noqa: S603
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                with suppress(OSError):
                    stream.close()
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        code = process.wait()
    if code:
        raise BackupError(f"zstd failed: {said or code}; use another backup, or check the disk")


def _new_file(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb")


def _kind(file: Path) -> str:
    name = file.name
    if name.endswith((".tar.gz", ".tgz")):
        return "gz"
    if name.endswith((".tar.zst", ".tzst")):
        return "zst"
    if name.endswith(".tar"):
        return "tar"
    raise BackupError(f"{file} has an unknown ending: use .tar, .tar.gz or .tar.zst")
