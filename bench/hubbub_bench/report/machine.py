"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import psutil

_SYNCS = 50
_BLOCK = b"\0" * 4096
IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Machine:
    """A machine, as far as it bears on the figures."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    python: str
    event_loop: str
    file_system: str
    sync_ms: float
    """Median time to bring 4 KiB to stable storage where the brokers' directories are."""

    @classmethod
    def here(cls, folder: Path, event_loop: str) -> Machine:
        """This machine, with directories of brokers under `folder`."""
        return cls(
            system=f"{platform.system()} {platform.release()}",
            processor=_processor(),
            cores=os.cpu_count() or 1,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            event_loop=event_loop,
            file_system=_file_system(folder),
            sync_ms=_sync_ms(folder),
        )

    @property
    def syncs_are_free(self) -> bool:
        """Whether the directories are in memory, so that durable figures say nothing."""
        return self.file_system in IN_MEMORY

    def __str__(self) -> str:
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gib} GiB, {self.system}, {self.python}, "
            f"{self.event_loop}; {self.file_system}, which takes {self.sync_ms:.2f} ms to sync 4 KiB"
        )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    path = str(folder.resolve())
    mounts = [part for part in psutil.disk_partitions(all=True) if _holds(part.mountpoint, path)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown file system"


def _holds(mount: str, path: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _sync_ms(folder: Path) -> float:
    taken = []
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            os.write(file.fileno(), _BLOCK)
            began = perf_counter()
            sync(file.fileno())
            taken.append(perf_counter() - began)
    return median(taken) * 1000
