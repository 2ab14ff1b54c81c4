"""One process for a data directory: the lock is the kernel's, so it can't outlive its holder."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import DirectoryLocked
from .files import FILE_MODE, make_durable_directory

NAME = "lock"


class DirectoryLock:
    """Holds the lock until `close`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @property
    def fd(self) -> int:
        """The locked file. Whoever inherits it holds the lock too."""
        return self._fd

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock_directory(path: Path) -> DirectoryLock:
    """Lock a directory, made if missing, for this process.

    Raises:
        DirectoryLocked: another process (or this one) has it.
    """
    make_durable_directory(path)
    fd = os.open(path / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        who = f" (process {holder})" if holder.isdecimal() else ""
        raise DirectoryLocked(
            f"the data directory {path} is in use by another process{who}: stop that one, or name another directory"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return DirectoryLock(path, fd)
