"""The data directory: made once, for one process at a time."""

import os
from pathlib import Path

import pytest

from hubbub_broker.log import DataDirectory, DirectoryLocked, FormatError
from hubbub_protocol.routing import shard_of


def test_it_knows_its_shards_and_keeps_them(tmp_path):
    path = tmp_path / "data"
    made = DataDirectory.open(path, shards=4)
    assert made.shard(3) == path / "shards" / "003"
    assert made.shard(3).is_dir()
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "hubbub.json").stat().st_mode & 0o777 == 0o600
    made.close()
    made.close()
    again = DataDirectory.open(path)
    assert (again.shards, again.id) == (4, made.id)
    again.close()
    with pytest.raises(FormatError, match="made with 4 shards"):
        DataDirectory.open(path, shards=5)


def test_a_second_opener_is_refused_by_name(tmp_path):
    first = DataDirectory.open(tmp_path, shards=1)
    with pytest.raises(DirectoryLocked, match=str(tmp_path)):
        DataDirectory.open(tmp_path)
    first.close()
    DataDirectory.open(tmp_path).close()


@pytest.mark.parametrize("text", ["", "{}", '{"format":9,"shards":1,"id":"x"}', '{"format":1,"shards":0,"id":"x"}'])
def test_what_is_not_understood_is_refused(tmp_path, text):
    (tmp_path / "hubbub.json").write_text(text)
    with pytest.raises(FormatError):
        DataDirectory.open(tmp_path)


def test_shard_of_is_stable():
    assert shard_of("research", 16) == 2, "changing this would lose every data directory's topics"
    assert len({shard_of(f"group-{n}", 16) for n in range(200)}) == 16


@pytest.mark.parametrize("deep", ["data", "a/b/data"])
def test_the_names_of_a_new_data_directory_are_on_stable_storage(tmp_path, monkeypatch, deep):
    """Else all that is in it may be gone with its name after a power cut."""
    synced, fsync = set(), os.fsync

    def note(fd):
        synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / deep
    DataDirectory.open(path, shards=1).close()
    made = [path, *path.parents[: len(Path(deep).parts)]]
    assert {str(each) for each in made} <= synced
    synced.clear()
    DataDirectory.open(path, shards=1).close()
    assert str(path.parent) not in synced
