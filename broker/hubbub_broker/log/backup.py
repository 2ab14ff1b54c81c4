"""Backups: of a directory that a broker is writing to, into one tar file, and back.

A backup is a consistent prefix of each shard's log: segments are only ever appended to and dropped from the front, so
copying them from the oldest to the newest, and of the newest all whole valid records, gives a history that was once on
disk. Sidecars and catalogue are not in it: they are derived, and made again when the restored directory is opened.

    hubbub.json
    shards/007/shard.json
    shards/007/00000000000000000001.log …
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
from typing import IO

from .directory import NAME as DIRECTORY_META
from .directory import read_meta
from .errors import BackupError, FormatError, LogDamaged, LogError
from .files import FILE_MODE, Files
from .header import HEADER_SIZE, SegmentHeader
from .meta import NAME as SHARD_META
from .meta import ShardMeta
from .names import segment_numbers, segment_path
from .scan import scan

ATTEMPTS = 5
"""How often a shard is tried again when retention took a segment from under the copy."""
MEMBER = re.compile(r"hubbub\.json|shards/\d{3}/(?:shard\.json|\d{20}\.log)")
"""The only names that a backup may hold: nothing is ever written outside the directory."""
CHUNK = 1 << 20


class _SegmentGone(Exception):
    """Retention dropped a segment that was about to be copied."""


# Backup --------------------------------------------------------------------------------------------------------------


def backup(directory: Path, file: Path) -> int:
    """Copy a data directory, in use or not, into a tar file (`.tar`, `.tar.gz`, `.tgz`, `.tar.zst`); its size.

    The file appears under its name only when it is complete and on stable storage.

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
            for number in range(meta.shards):
                _add_shard(tar, files, directory / "shards" / f"{number:03d}", number)
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
    return size


def _add_shard(tar: tarfile.TarFile, files: Files, path: Path, number: int) -> None:
    """A shard's segments. What is in the tar can't be taken out again, so all are opened before the first is copied."""
    for _ in range(ATTEMPTS):
        try:
            opened = _open_all(files, path)
        except _SegmentGone:
            continue
        break
    else:
        raise BackupError(f"retention drops segments of {path} faster than they can be opened: try again")
    try:
        meta = ShardMeta.load(files, path, number)
        if meta is None:
            if opened:
                raise LogDamaged(
                    f"{path / SHARD_META} is missing or damaged: start the broker, which mends it, then try again"
                )
            return
        folder = f"shards/{number:03d}"
        _add(tar, f"{folder}/{SHARD_META}", files.read_whole(path / SHARD_META))
        for position, (segment, fd) in enumerate(opened):
            end = _valid_end(files, fd, number, segment, last=position == len(opened) - 1)
            if end:
                info = _member(f"{folder}/{segment_path(path, segment).name}", end)
                with _Slice(files, fd, end) as content:
                    tar.addfile(info, content)
    finally:
        for _, fd in opened:
            files.close(fd)


def _open_all(files: Files, path: Path) -> list[tuple[int, int]]:
    """Every segment, opened: from then on retention can't take it away."""
    opened: list[tuple[int, int]] = []
    try:
        names = files.names(path)
    except FileNotFoundError:
        return []
    try:
        opened.extend((number, files.open(segment_path(path, number))) for number in segment_numbers(names))
    except FileNotFoundError:
        for _, fd in opened:
            files.close(fd)
        raise _SegmentGone from None
    return opened


def _valid_end(files: Files, fd: int, shard: int, number: int, *, last: bool) -> int:
    """How much of a segment to copy: a sealed one whole, the newest up to its last whole valid record."""
    size = files.size(fd)
    if not last:
        return size
    try:
        header = SegmentHeader.decode(files.read(fd, HEADER_SIZE, 0), shard, number)
    except LogDamaged:
        return 0 if size <= HEADER_SIZE else size  # being made this moment; or damaged, which restoring tells
    end = HEADER_SIZE
    for found in scan(files, fd, header.mark, HEADER_SIZE, size):
        if found.record is not None:
            end = found.offset + found.size
    return end


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


def restore(file: Path, directory: Path) -> int:
    """Unpack a backup into an empty or missing directory, check every record, and return how many there are.

    On failure the directory is left as it was found.

    Raises:
        BackupError: the directory is not empty, or the file is no backup, or damaged.
    """
    if directory.exists() and any(directory.iterdir()):
        raise BackupError(f"{directory} is not empty: restore into a new directory")
    files = Files()
    existed = directory.exists()
    try:
        files.make_directory(directory)
        with _decompressed(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                _unpack(tar, info, files, directory)
        records = _check(files, directory)
        _sync_tree(files, directory)
    except (OSError, EOFError, tarfile.TarError, LogError) as error:
        _clear(directory, keep=existed)
        if isinstance(error, BackupError):
            raise
        raise BackupError(f"{file} can't be restored: {error}; use another backup, or check the disk") from error
    except BaseException:
        _clear(directory, keep=existed)
        raise
    return records


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


def _check(files: Files, directory: Path) -> int:
    """Every checksum of what was unpacked. Each shard begins another epoch: what came after the backup is lost."""
    meta = read_meta(directory, files)
    if meta is None:
        raise BackupError(f"the backup has no {DIRECTORY_META}: it is none, or is cut short")
    records = 0
    for shard in range(meta.shards):
        path = directory / "shards" / f"{shard:03d}"
        files.make_directory(path)
        numbers = segment_numbers(files.names(path))
        shard_meta = ShardMeta.load(files, path, shard)
        if shard_meta is not None:
            shard_meta.renew_epoch()
            shard_meta.save(files, path)
        elif numbers:
            raise BackupError(f"the backup has no valid {SHARD_META} for shard {shard}: use another one")
        for number in numbers:
            records += _check_segment(files, path, shard, number)
    return records


def _check_segment(files: Files, path: Path, shard: int, number: int) -> int:
    records = 0
    with files.reading(segment_path(path, number)) as fd:
        header = SegmentHeader.decode(files.read(fd, HEADER_SIZE, 0), shard, number)
        for found in scan(files, fd, header.mark, HEADER_SIZE, files.size(fd)):
            if found.record is None:
                raise BackupError(f"segment {number} of shard {shard} is damaged at {found.offset}: use another backup")
            records += 1
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
