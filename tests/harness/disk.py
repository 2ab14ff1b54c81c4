"""A disk that fails on demand, and one that loses power.

The model of a power cut, which is the page cache's:

- Bytes that were written and not synced survive as any prefix, or not at all; what a file system had already made room
  for may read as zeros.
- Names that were made, changed or removed and whose directory was not synced are as they were after some prefix of
  those changes.
- What was synced is there.

The log reaches files only through `Files`, so every call to it is a place where power may go (`cut_after`). Its SQLite
catalogue is derived and not part of the model: tests keep it, delete it or put an older copy in its place.
"""

import errno
import os
from asyncio import AbstractEventLoop
from collections import Counter
from pathlib import Path
from random import Random

from hubbub_broker.log import Files, Syncer
from hubbub_broker.log.syncer import Callback, Job


class PowerCut(BaseException):
    """The machine stops here. Not an Exception: nothing may catch it and go on."""


class _Inode:
    """A file's bytes, apart from its names."""

    def __init__(self) -> None:
        self.durable = b""


class FaultyDisk(Files):
    """Real files in a directory, with faults."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = Random(seed)
        self.calls: Counter[str] = Counter()
        self.dead = False
        self.cut_after: int | None = None
        """Calls that change something until the power goes; None: it stays."""
        self.cached = True
        """Whether reads find everything in the page cache."""
        self.warms = False
        """Whether a read that waits for the disk brings everything into the page cache."""
        self.free: int | None = None
        """What `free_bytes` answers, if set."""
        self._faults: dict[str, list[int]] = {}
        self._short: int | None = None
        self._inodes: dict[Path, _Inode] = {}
        self._by_fd: dict[int, tuple[_Inode, Path]] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._name_changes: list[tuple[str, Path, Path | None, _Inode | None]] = []

    # Faults ---------------------------------------------------------------------------------------------------------

    def fail(self, call: str, code: int = errno.EIO, times: int = 1) -> None:
        """Let the next calls of a method fail."""
        self._faults[call] = [code] * times

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()
        self._short = None
        self.cut_after = None

    def write_short(self, size: int) -> None:
        """Let the next write write only so many bytes."""
        self._short = size

    def _step(self, call: str) -> None:
        self._alive()
        self.calls[call] += 1
        faults = self._faults.get(call)
        if faults:
            code = faults.pop()
            raise OSError(code, os.strerror(code))

    def _change(self, call: str) -> bool:
        """A call that changes something; True when the power goes within it."""
        self._step(call)
        if self.cut_after is None:
            return False
        if self.cut_after == 0:
            self.dead = True
            return True
        self.cut_after -= 1
        return False

    def _alive(self) -> None:
        if self.dead:
            raise PowerCut

    # Files ----------------------------------------------------------------------------------------------------------

    def create(self, path: Path) -> int:
        cut = self._change("create")
        if cut and self.random.random() < 0.5:
            raise PowerCut
        fd = super().create(path)
        inode = self._inodes.get(path)
        if inode is None:
            inode = self._inodes[path] = _Inode()
            self._name_changes.append(("make", path, None, inode))
        self._by_fd[fd] = (inode, path)
        if cut:
            raise PowerCut
        return fd

    def open(self, path: Path, *, write: bool = False) -> int:
        self._step("open")
        fd = super().open(path, write=write)
        self._by_fd[fd] = (self._inode_of(path), path)
        return fd

    def _inode_of(self, path: Path) -> _Inode:
        inode = self._inodes.get(path)
        if inode is None:  # it was there before this disk was
            inode = self._inodes[path] = self._durable_names[path] = _Inode()
            inode.durable = path.read_bytes()
        return inode

    def close(self, fd: int) -> None:
        self._by_fd.pop(fd, None)
        super().close(fd)

    def write(self, fd: int, data: bytes | memoryview, at: int) -> int:
        cut = self._change("write")
        if cut:
            super().write(fd, bytes(data)[: self.random.randint(0, len(data))], at)
            raise PowerCut
        if self._short is not None:
            size, self._short = self._short, None
            return super().write(fd, bytes(data)[:size], at)
        return super().write(fd, data, at)

    def read(self, fd: int, size: int, at: int) -> bytes:
        self._step("read")
        self.cached = self.cached or self.warms
        return super().read(fd, size, at)

    def read_cached(self, fd: int, buffer: memoryview, at: int) -> int:
        self._step("read_cached")
        if not self.cached:
            return -1
        return super().read_cached(fd, buffer, at)

    def sync(self, fd: int) -> None:
        cut = self._change("sync")
        inode, _ = self._by_fd[fd]
        if not cut or self.random.random() < 0.5:
            inode.durable = super().read(fd, self.size(fd), 0)
        if cut:
            raise PowerCut

    def sync_directory(self, path: Path) -> None:
        cut = self._change("sync_directory")
        if not cut or self.random.random() < 0.5:
            rest = []
            for change in self._name_changes:
                if change[1].parent == path:
                    self._apply(change)
                else:
                    rest.append(change)
            self._name_changes = rest
        if cut:
            raise PowerCut

    def truncate(self, fd: int, size: int) -> None:
        if self._change("truncate"):
            raise PowerCut
        super().truncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        cut = self._change("rename")
        if cut and self.random.random() < 0.5:
            raise PowerCut
        super().rename(old, new)
        inode = self._inodes.pop(old)
        self._inodes[new] = inode
        self._name_changes.append(("rename", old, new, inode))
        if cut:
            raise PowerCut

    def unlink(self, path: Path) -> None:
        cut = self._change("unlink")
        if cut and self.random.random() < 0.5:
            raise PowerCut
        if path.exists():
            self._inode_of(path)
            super().unlink(path)
            del self._inodes[path]
            self._name_changes.append(("unlink", path, None, None))
        if cut:
            raise PowerCut

    def make_directory(self, path: Path) -> None:
        self._alive()
        super().make_directory(path)

    def names(self, path: Path) -> list[str]:
        self._step("names")
        return super().names(path)

    def free_bytes(self, path: Path) -> int:
        self._step("free_bytes")
        return super().free_bytes(path) if self.free is None else self.free

    # Power ----------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The power went (now, if not before), and is back: files are as the disk has them."""
        for fd in list(self._by_fd):
            super().close(fd)
        live = {path: path.read_bytes() for path in self._inodes if path.exists()}
        contents = {id(inode): live[path] for path, inode in self._inodes.items() if path in live}
        for change in self._name_changes[: self.random.randint(0, len(self._name_changes))]:
            self._apply(change)
        for path in live:
            if path not in self._durable_names:
                path.unlink()
        for path, inode in self._durable_names.items():
            path.write_bytes(self._survivor(inode, contents.get(id(inode), inode.durable)))
            inode.durable = path.read_bytes()
        self._inodes = dict(self._durable_names)
        self._by_fd.clear()
        self._name_changes.clear()
        self.dead = False
        self.heal()

    def _survivor(self, inode: _Inode, live: bytes) -> bytes:
        durable = inode.durable
        if live == durable:
            return live
        if not live.startswith(durable):
            return self.random.choice((live, durable))
        kept = self.random.choice((len(durable), len(live), self.random.randint(len(durable), len(live))))
        zeros = self.random.choice((0, 0, self.random.randint(0, len(live) - kept)))
        return live[:kept] + bytes(zeros)

    def _apply(self, change: tuple[str, Path, Path | None, _Inode | None]) -> None:
        kind, path, new, inode = change
        if kind == "make":
            assert inode is not None
            self._durable_names[path] = inode
        elif kind == "unlink":
            self._durable_names.pop(path, None)
        else:
            assert new is not None
            assert inode is not None
            self._durable_names.pop(path, None)
            self._durable_names[new] = inode


class InlineSyncer(Syncer):
    """Does jobs at once, in the caller's thread; or, while `held`, when told to. Deterministic, and no thread dies of a
    power cut.
    """

    def __init__(self) -> None:
        self.held = False
        self.waiting: list[tuple[Job, AbstractEventLoop, Callback]] = []

    def submit(self, job: Job, loop: AbstractEventLoop, callback: Callback) -> None:
        if self.held:
            self.waiting.append((job, loop, callback))
        else:
            self._do(job, loop, callback)

    def submit_slow(self, job: Job, loop: AbstractEventLoop, callback: Callback) -> None:
        self._do(job, loop, callback)

    def release(self) -> None:
        """Do what was held."""
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            self._do(*task)

    def close(self) -> None:
        """Nothing to join."""

    @staticmethod
    def _do(job: Job, loop: AbstractEventLoop, callback: Callback) -> None:
        failure: Exception | None = None
        try:
            job()
        except Exception as error:  # noqa: BLE001 - whatever the job raises goes to the callback
            failure = error
        loop.call_soon(callback, failure)


def flip_bit(path: Path, bit: int) -> None:
    """Turn one bit of a file over."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)
