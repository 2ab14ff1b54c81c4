"""The one seam between the log and the disk. Tests put a faulty disk in its place.

Promises of every implementation:

- `write` puts bytes at a place and may write fewer than asked (the caller treats that as a failure); `read` gives fewer
  bytes only at the end of the file; `read_cached` never waits for the disk.
- What was written is on stable storage once `sync` has returned; a name (made, renamed, removed) once
  `sync_directory` has.
- Errors are OSError. Any method may be called in any thread.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
NOT_CACHED = -1
"""What `read_cached` answers when the bytes are not in the page cache."""

_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_sync_data = getattr(os, "fdatasync", os.fsync)


class Files:
    """The operating system's files."""

    def __init__(self) -> None:
        self._nowait = bool(_NOWAIT)
        self._held: dict[Path, int] = {}
        """Directories that are kept open."""

    def create(self, path: Path) -> int:
        """Open for reading and writing; made if missing, emptied if not."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    def open(self, path: Path, *, write: bool = False) -> int:
        """Open an existing file."""
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""
        os.close(fd)

    def size(self, fd: int) -> int:
        """Bytes in the file."""
        return os.fstat(fd).st_size

    def write(self, fd: int, data: bytes | memoryview, at: int) -> int:
        """Write at a place; returns how much was written."""
        return os.pwrite(fd, data, at)

    def read(self, fd: int, size: int, at: int) -> bytes:
        """Read from a place; shorter only at the end of the file."""
        data = os.pread(fd, size, at)
        if len(data) == size or not data:
            return data
        parts = [data]  # a signal or a file system may cut a read short
        got = len(data)
        while got < size and (data := os.pread(fd, size - got, at + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def read_cached(self, fd: int, buffer: memoryview, at: int) -> int:
        """Fill the buffer from the page cache; returns how much, perhaps less than asked, or NOT_CACHED."""
        if self._nowait:
            try:
                return os.preadv(fd, (buffer,), at, _NOWAIT)
            except BlockingIOError:
                return NOT_CACHED
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._nowait = False  # this file system can't tell: reads may wait for the disk from here on
        return os.preadv(fd, (buffer,), at)

    def sync(self, fd: int) -> None:
        """Bring the file's bytes, and its size, to stable storage."""
        _sync_data(fd)

    def sync_directory(self, path: Path) -> None:
        """Bring the directory's names to stable storage."""
        held = self._held.get(path)
        if held is not None:
            os.fsync(held)
            return
        fd = _open_directory(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def hold_directory(self, path: Path) -> None:
        """Keep a directory open until `let_go`, so that syncing it never wants for a descriptor."""
        if path not in self._held:
            self._held[path] = _open_directory(path)

    def let_go(self, path: Path) -> None:
        """Close a directory that was kept open, if it was."""
        fd = self._held.pop(path, None)
        if fd is not None:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file."""
        os.ftruncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what has it."""
        os.replace(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a name; no error when it is gone already."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it; no error when it is there."""
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        """The names in a directory."""
        return os.listdir(path)

    def file_size(self, path: Path) -> int:
        """Bytes in a file by name."""
        return path.stat().st_size

    def free_bytes(self, path: Path) -> int:
        """Bytes that the file system of a directory still takes."""
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    # Made of the above ----------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self, path: Path) -> Iterator[int]:
        """A descriptor for reading, closed at the end."""
        fd = self.open(path)
        try:
            yield fd
        finally:
            self.close(fd)

    def replace(self, path: Path, parts: list[bytes]) -> None:
        """Put a whole file in place: a temporary one, synced, renamed, the directory synced. Never half there."""
        temporary = path.with_name(path.name + ".tmp")
        fd = self.create(temporary)
        try:
            at = 0
            for part in parts:
                if self.write(fd, part, at) != len(part):
                    raise OSError(errno.ENOSPC, "the file was written in part", str(temporary))
                at += len(part)
            self.sync(fd)
        except OSError:
            self.close(fd)
            self.unlink(temporary)
            raise
        self.close(fd)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    def read_whole(self, path: Path) -> bytes:
        """All of a small file."""
        with self.reading(path) as fd:
            return self.read(fd, self.size(fd), 0)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def make_durable_directory(path: Path) -> None:
    """Make a directory and those above it, their names on stable storage: what is in it is lost with its name."""
    missing = []
    at = path.absolute()
    while not at.exists():
        missing.append(at)
        at = at.parent
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    for made in reversed(missing):
        with suppress(PermissionError):  # one may be allowed to make names in a directory, and not to list them
            fd = _open_directory(made.parent)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
