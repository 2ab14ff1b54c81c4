"""Tools for people: verify, stat, dump; backup of a live directory and back."""

import asyncio
import gzip
import io
import shutil
import tarfile

import pytest

from harness.disk import InlineSyncer, flip_bit
from harness.shard_log import append, commit, open_log, read_all
from hubbub_broker.log import (
    BackupError,
    DataDirectory,
    DirectoryLocked,
    Files,
    FormatError,
    LogSettings,
    Retention,
)
from hubbub_broker.log.backup import _ShardCopy, backup, restore
from hubbub_broker.log.inspect import dump, stat, topic_matches, verify
from hubbub_broker.log.record import Message

SMALL = LogSettings(segment_bytes=1000)


@pytest.fixture
async def live(tmp_path):
    """A data directory with an open log in its second shard."""
    directory = DataDirectory.open(tmp_path / "data", shards=2)
    log = open_log(directory.shard(1), InlineSyncer(), SMALL)
    for number in range(30):
        append(log, f"g/{number % 3}", b"x" * 50)
        await commit(log)
        await log.settled()
    yield directory, log
    log.close()
    directory.close()


def closed(live):
    directory, log = live
    log.close()
    directory.close()
    return directory.path


async def test_verify_finds_nothing_wrong(live):
    report = verify(closed(live))
    assert report.ok
    assert (report.shards, report.messages, report.topics, report.notes) == (2, 30, 3, [])


async def test_a_directory_in_use_or_none_is_refused(live, tmp_path):
    directory, _ = live
    for tool in (verify, stat, lambda path: list(dump(path))):
        with pytest.raises(DirectoryLocked):
            tool(directory.path)
        with pytest.raises(FormatError, match="no data directory"):
            tool(tmp_path / "none")


@pytest.mark.parametrize("pattern", ["*1.log", "*1.idx"])
async def test_verify_finds_damage(live, pattern):
    path = closed(live)
    victim = min((path / "shards" / "001").glob(pattern))
    flip_bit(victim, 700 * 8)
    assert not verify(path).ok


async def test_verify_finds_a_missing_segment(live):
    path = closed(live)
    sorted((path / "shards" / "001").glob("*.log"))[1].unlink()
    assert any("missing" in problem.what for problem in verify(path).problems)


async def test_stat_and_dump(live):
    path = closed(live)
    assert [shard.number for shard in stat(path)] == [0, 1]
    assert stat(path)[1].segments > 3
    messages = [d.record for d in dump(path, "g/1")]
    assert [m.seq for m in messages if isinstance(m, Message)] == list(range(1, 11))
    assert len(list(dump(path, limit=4))) == 4


def test_patterns():
    assert topic_matches("a/*/c", "a/b/c")
    assert topic_matches("a/**", "a/b/c")
    assert not topic_matches("a/*", "a/b/c")
    assert not topic_matches("a/**", "a")
    assert not topic_matches("a/b/c", "a/b")


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.zst"])
async def test_a_live_directory_is_copied_and_restored_as_another_epoch(live, tmp_path, ending):
    if ending == ".tar.zst" and shutil.which("zstd") is None:
        pytest.skip("there is no zstd program")
    directory, log = live
    file = tmp_path / f"copy{ending}"
    append(log, "g/0")  # appended, not committed: not part of it
    assert backup(directory.path, file) == (file.stat().st_size, [])
    target = tmp_path / "restored"
    assert restore(file, target) == (30, [])
    opened = DataDirectory.open(target)
    again = open_log(opened.shard(1), InlineSyncer(), SMALL)
    assert again.epoch != log.epoch
    assert again.stats.damaged == 0
    for name in ("g/0", "g/1", "g/2"):
        assert len(await read_all(again, again.topic(name))) == 10
    again.close()
    opened.close()


async def test_a_batch_that_is_half_there_is_left_out(live, tmp_path):
    directory, log = live
    with log._active.path.open("ab") as file:
        file.write(b"half a record")
    backup(directory.path, tmp_path / "copy.tar")
    assert restore(tmp_path / "copy.tar", tmp_path / "restored") == (30, [])


async def test_backups_that_can_not_be_made_are_refused(live, tmp_path):
    directory, _ = live
    there = tmp_path / "there.tar"
    there.touch()
    for file in (there, tmp_path / "copy.zip"):
        with pytest.raises(BackupError):
            backup(directory.path, file)
    with pytest.raises(FormatError):
        backup(tmp_path / "none", tmp_path / "copy.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "there.tar"]


async def test_a_damaged_backup_leaves_nothing_behind(live, tmp_path):
    directory, _ = live
    backup(directory.path, tmp_path / "copy.tar")
    data = bytearray((tmp_path / "copy.tar").read_bytes())
    data[data.index(b"xxxxxxxx")] ^= 1
    (tmp_path / "copy.tar").write_bytes(data)
    with pytest.raises(BackupError, match="damaged"):
        restore(tmp_path / "copy.tar", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(bytes(data))[:-50])
    with pytest.raises(BackupError):
        restore(tmp_path / "cut.tar.gz", tmp_path / "restored")


async def test_restoring_over_something_is_refused(live, tmp_path):
    directory, _ = live
    backup(directory.path, tmp_path / "copy.tar")
    with pytest.raises(BackupError, match="not empty"):
        restore(tmp_path / "copy.tar", directory.path)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "shards/001/../../evil", "shards/001/catalogue.db", "hubbub.json/x"]
)
def test_names_that_lead_outside_are_refused(tmp_path, name):
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(BackupError, match="no backup of ours"):
        restore(file, tmp_path / "target")
    assert not list(tmp_path.rglob("*evil")), "nothing was written"


def test_links_are_refused(tmp_path):
    file = tmp_path / "link.tar"
    with tarfile.open(file, "w") as tar:
        info = tarfile.TarInfo("hubbub.json")
        info.type = tarfile.SYMTYPE
        info.linkname = "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(BackupError):
        restore(file, tmp_path / "target")


@pytest.mark.parametrize("loss", ["a record", "a segment", "a sealed segment's end", "all"])
async def test_verify_finds_a_lost_tail(live, loss):
    """Nothing that is left is torn or damaged: the clean close, or the index, tells how much there was."""
    path = closed(live)
    files = sorted((path / "shards" / "001").glob("*.log"))
    if loss == "all":
        for file in files:
            file.unlink()
    elif loss == "a segment":
        files[-1].unlink()
    else:
        file = files[-1] if loss == "a record" else files[0]
        records = [d.offset for d in dump(path) if d.segment == int(file.stem)]
        file.write_bytes(file.read_bytes()[: records[-1]])
    assert any("lost" in problem.what for problem in verify(path).problems)


@pytest.mark.parametrize("place", ["record", "header"])
async def test_what_is_damaged_is_named_copied_and_set_aside_again(live, tmp_path, place):
    """One flipped bit costs a message, or a segment, and not the backup: as when a broker opens the directory."""
    directory, _ = live
    victim = sorted(directory.shard(1).glob("*.log"))[1]
    records = [d for d in dump(closed(live)) if d.segment == int(victim.stem)]
    flip_bit(victim, (records[1].offset + 100) * 8 if place == "record" else 100)
    copied = backup(directory.path, tmp_path / "copy.tar")
    assert [(each.shard, each.segment, each.offset) for each in copied.damage] == [
        (1, int(victim.stem), records[1].offset if place == "record" else 0)
    ]
    restored = restore(tmp_path / "copy.tar", tmp_path / "restored")
    assert restored.damage == copied.damage
    lost = 1 if place == "record" else len(records)
    assert restored.records == 30 - lost
    again = open_log(tmp_path / "restored" / "shards" / "001", InlineSyncer(), SMALL)
    assert again.stats.damaged == 1
    assert sum([len(await read_all(again, again.topic(f"g/{n}"))) for n in range(3)]) == 30 - lost
    again.close()


async def test_damage_that_a_backup_does_not_know_of_is_its_own(live, tmp_path):
    directory, _ = live
    flip_bit(min(directory.shard(1).glob("*.log")), 200 * 8)
    backup(directory.path, tmp_path / "copy.tar")
    data = bytearray((tmp_path / "copy.tar").read_bytes())
    data[data.rindex(b"xxxxxxxx")] ^= 1
    (tmp_path / "copy.tar").write_bytes(data)
    with pytest.raises(BackupError, match="damaged"):
        restore(tmp_path / "copy.tar", tmp_path / "restored")


async def test_a_backup_has_one_segment_open_at_a_time(live, tmp_path, monkeypatch):
    directory, _ = live
    opened: set[int] = set()
    most = 0
    do_open, do_close = Files.open, Files.close

    def count(self, path, *, write=False):
        nonlocal most
        opened.add(fd := do_open(self, path, write=write))
        most = max(most, len(opened))
        return fd

    def uncount(self, fd):
        opened.discard(fd)
        do_close(self, fd)

    monkeypatch.setattr(Files, "open", count)
    monkeypatch.setattr(Files, "close", uncount)
    backup(directory.path, tmp_path / "copy.tar")
    assert most <= 2


@pytest.mark.parametrize("after", range(5))
async def test_what_retention_takes_meanwhile_is_no_loss(live, tmp_path, monkeypatch, after):
    """What was copied already goes from the copy, and what was carried on is in it."""
    directory, log = live
    log.append_state(7, b"key", b"in the newest, before anything is dropped")
    await commit(log)
    loop, add_segment, done = asyncio.get_running_loop(), _ShardCopy._add_segment, []

    def add(self, folder, number, *, last):
        add_segment(self, folder, number, last=last)
        done.append(number)
        if len(done) == after + 1:
            dropped = log.enforce_retention(lambda _: Retention(max_count=1), 1000.0)
            assert asyncio.run_coroutine_threadsafe(dropped, loop).result(10)

    monkeypatch.setattr(_ShardCopy, "_add_segment", add)
    assert (await asyncio.to_thread(backup, directory.path, tmp_path / "copy.tar")).damage == []
    monkeypatch.undo()
    restore(tmp_path / "copy.tar", tmp_path / "restored")
    again = open_log(tmp_path / "restored" / "shards" / "001", InlineSyncer(), SMALL)
    assert again.stats.damaged == 0
    assert again.state(7, b"key") == b"in the newest, before anything is dropped"
    for name in ("g/0", "g/1", "g/2"):
        topic = again.topic(name)
        assert (topic.head, topic.writers) == (10, log.topic(name).writers)
        first = again.first_seq(topic)
        assert sorted(await read_all(again, topic, first)) == list(range(first, 11))
    again.close()
