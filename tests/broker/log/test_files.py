"""The seam to the disk: a replaced file is whole, whatever happens."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from harness.disk import FaultyDisk, PowerCut
from hubbub_broker.log import Files


def replace_for_ever(disk: FaultyDisk, path: Path, content: bytes) -> NoReturn:
    while True:
        disk.replace(path, [content])


@pytest.mark.parametrize("seed", range(20))
def test_a_replaced_file_survives_a_power_cut(tmp_path, seed):
    disk = FaultyDisk(seed)
    path = tmp_path / "file"
    disk.replace(path, [b"old"])
    disk.replace(path, [b"new", b"er"])
    disk.crash()
    assert path.read_bytes() == b"newer"


@pytest.mark.parametrize("seed", range(40))
def test_a_replacement_that_is_cut_short_leaves_the_old_or_the_new(tmp_path, seed):
    disk = FaultyDisk(seed)
    path = tmp_path / "file"
    disk.replace(path, [b"old"])
    disk.cut_after = seed % 6
    with pytest.raises(PowerCut):
        replace_for_ever(disk, path, b"newer")
    disk.crash()
    assert path.read_bytes() in (b"old", b"newer")


@pytest.mark.parametrize("call", ["create", "write", "sync"])
def test_a_replacement_that_fails_leaves_the_old_and_no_litter(tmp_path, call):
    disk = FaultyDisk()
    path = tmp_path / "file"
    disk.replace(path, [b"old"])
    disk.fail(call, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        disk.replace(path, [b"newer"])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_sync_is_the_systems(tmp_path, monkeypatch):
    """No test can see a page cache being lost: this one looks whether the system was asked."""
    asked = []
    monkeypatch.setattr(
        "hubbub_broker.log.files._sync_data", lambda fd: asked.append(os.path.realpath(f"/dev/fd/{fd}"))
    )
    monkeypatch.setattr("os.fsync", lambda fd: asked.append(os.path.realpath(f"/dev/fd/{fd}")))
    files = Files()
    path = tmp_path / "file"
    fd = files.create(path)
    files.sync(fd)
    files.close(fd)
    files.sync_directory(tmp_path)
    assert asked == [str(path.resolve()), str(tmp_path.resolve())]


def test_reads_from_the_page_cache(tmp_path):
    files = Files()
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with files.reading(path) as fd:
        buffer = bytearray(4)
        assert files.read_cached(fd, memoryview(buffer), 3) == 4
        assert buffer == b"3456"
        assert files.read(fd, 100, 8) == b"89"
    assert path.stat().st_size == files.file_size(path)
    assert files.free_bytes(tmp_path) > 0


def test_a_directory_that_is_held_is_synced_without_a_descriptor(tmp_path, monkeypatch):
    def no_more(*_):
        raise OSError(errno.EMFILE, "too many open files")

    files = Files()
    files.hold_directory(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_more)
        files.sync_directory(tmp_path)
        files.let_go(tmp_path)
        files.let_go(tmp_path)
        with pytest.raises(OSError, match="too many"):
            files.sync_directory(tmp_path)
