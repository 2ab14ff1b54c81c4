"""The data directory of a broker.

hubbub.json      format, number of shards (fixed when it is made), the directory's own id
lock             held by the process that has it open
shards/000 …     one folder for each shard's log
"""

import secrets
from pathlib import Path

import msgspec

from hubbub_broker.shards import SHARDS_MAX

from .errors import FormatError, LogFailed
from .files import Files
from .lock import DirectoryLock, lock_directory

NAME = "hubbub.json"
FORMAT = 1
SHARDS_DEFAULT = 16


class DirectoryMeta(msgspec.Struct, kw_only=True, frozen=True):
    """What `hubbub.json` holds."""

    format: int
    shards: int
    id: str


class DataDirectory:
    """An open, locked data directory."""

    def __init__(self, path: Path, meta: DirectoryMeta, lock: DirectoryLock | None) -> None:
        self.path = path
        self.shards = meta.shards
        """How many shards it has."""
        self.id = meta.id
        """Its own id: another directory has another."""
        self._lock = lock

    @classmethod
    def open(cls, path: Path, shards: int | None = None, *, files: Files | None = None) -> "DataDirectory":
        """Open a data directory, or make one (with `shards` shards, 16 unless said), and lock it.

        Raises:
            DirectoryLocked: another process has it.
            FormatError: it is another version's, has another number of shards than asked for, or is none at all.
            LogFailed: the disk fails.
        """
        files = files or Files()
        if shards is not None and not 1 <= shards <= SHARDS_MAX:
            raise FormatError(f"shards must be from 1 to {SHARDS_MAX}, not {shards}: correct the settings")
        try:
            lock = lock_directory(path)
            try:
                meta = read_meta(path, files) or _make(path, shards or SHARDS_DEFAULT, files)
                if shards is not None and shards != meta.shards:
                    raise FormatError(
                        f"the data directory {path} was made with {meta.shards} shards, which can't be changed; "
                        f"{shards} were asked for: correct the settings, or name another directory"
                    )
                for number in range(meta.shards):
                    files.make_directory(path / "shards" / f"{number:03d}")
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise LogFailed(
                f"the data directory {path} can't be used: {error}; check the disk and permissions"
            ) from error
        return cls(path, meta, lock)

    @classmethod
    def join(cls, path: Path) -> "DataDirectory":
        """Use a data directory that another process has made and locked for this one: which shares that lock.

        Raises:
            FormatError: it is none.
        """
        meta = read_meta(path)
        if meta is None:
            raise FormatError(f"{path} is no data directory")
        return cls(path, meta, None)

    def shard(self, number: int) -> Path:
        """The folder of a shard's log."""
        return self.path / "shards" / f"{number:03d}"

    def close(self) -> None:
        """Let go of the lock, after the logs were closed. Idempotent."""
        if self._lock is not None:
            self._lock.close()

    @property
    def lock_fd(self) -> int:
        """The lock's file, for processes that are to share it: the directory is in use until the last has closed it."""
        assert self._lock is not None, "it is locked by another process"
        return self._lock.fd


def read_meta(path: Path, files: Files | None = None) -> DirectoryMeta | None:
    """What a data directory says of itself; None when it is not one yet.

    Raises:
        FormatError: it can't be understood.
    """
    try:
        text = (files or Files()).read_whole(path / NAME)
    except FileNotFoundError:
        return None
    try:
        meta = msgspec.json.decode(text, type=DirectoryMeta)
    except msgspec.DecodeError as error:
        raise FormatError(f"{path / NAME} is damaged or another version's: {error}; restore it from a backup") from None
    if meta.format != FORMAT:
        raise FormatError(f"{path} has format {meta.format}, this program knows {FORMAT}: use a newer one")
    if not 1 <= meta.shards <= SHARDS_MAX:
        raise FormatError(f"{path / NAME} tells of {meta.shards} shards: restore it from a backup")
    return meta


def _make(path: Path, shards: int, files: Files) -> DirectoryMeta:
    if (path / "shards").exists():
        raise FormatError(f"{path} has shards but no {NAME}: restore that file from a backup")
    meta = DirectoryMeta(format=FORMAT, shards=shards, id=secrets.token_hex(8))
    text = msgspec.json.format(msgspec.json.encode(meta))
    files.replace(path / NAME, [text + b"\n"])
    for number in range(shards):
        files.make_directory(path / "shards" / f"{number:03d}")
    files.sync_directory(path / "shards")
    files.sync_directory(path)
    return meta
