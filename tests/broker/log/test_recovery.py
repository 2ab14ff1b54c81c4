"""Opening after a crash: torn tails, damage, lost files, interrupted seals."""

from pathlib import Path

import pytest

from harness.disk import FaultyDisk, InlineSyncer, flip_bit
from harness.shard_log import append, commit, hash_of, line_of, open_log, read_all
from hubbub_broker.log import LogFailed, LogFull, LogSettings, Retention, ShardLog
from hubbub_broker.log.header import HEADER_SIZE
from hubbub_broker.log.record import MESSAGE_SIZE

SMALL = LogSettings(segment_bytes=1000)
IN_SMALL = 6
"""Messages of `written` that make a small segment full."""


def newest(directory: Path) -> Path:
    return max(directory.glob("*.log"))


async def written(directory: Path, count: int, *, crashed: bool = True, settings: LogSettings | None = None) -> str:
    """Write `count` messages to one topic, one commit each; the epoch."""
    log = open_log(directory, InlineSyncer(), settings)
    for _ in range(count):
        append(log, "g/a", b"x" * 50, n=log.topic("g/a").head + 1)
        await commit(log)
        await log.settled()
    if crashed:
        log._standings.close()
        log._shelf.close()
    else:
        log.close()
    return log.epoch


async def test_a_torn_tail_is_cut_off_and_is_no_damage(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 3)
    path = newest(directory)
    path.write_bytes(path.read_bytes()[:-5])
    log = open_log(directory, InlineSyncer())
    assert log.topic("g/a").head == 2
    assert log.epoch == epoch
    assert (log.stats.damaged, log.stats.truncated_bytes > 0) == (0, True)
    append(log, "g/a")
    await commit(log)
    assert len(await read_all(log, log.topic("g/a"))) == 3
    log.close()


async def test_a_tail_that_was_cleanly_closed_and_does_not_hold_is_damage(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 3, crashed=False)
    path = newest(directory)
    flip_bit(path, path.stat().st_size * 8 - 20)
    log = open_log(directory, InlineSyncer())
    assert log.stats.damaged
    assert log.epoch != epoch
    assert list(directory.glob("*.bad"))
    log.close()


async def test_damage_with_valid_records_behind_it_is_kept_told_of_once_and_skipped(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 5)
    path = newest(directory)
    flip_bit(path, (HEADER_SIZE + 2 * (path.stat().st_size - HEADER_SIZE) // 5 + 100) * 8)
    log = open_log(directory, InlineSyncer())
    topic = log.topic("g/a")
    assert topic.head == 5
    chunk = log.read_chunk(topic, 3, 5, 10_000)
    assert chunk is not None
    assert (chunk.first, chunk.reason, len(chunk.lines), chunk.next) == (4, "reset", 2, 6)
    assert log.epoch != epoch
    renewed = log.epoch
    log.close()
    log = open_log(directory, InlineSyncer())
    assert log.epoch == renewed
    assert sorted(await read_all(log, log.topic("g/a"))) == [1, 2, 4, 5]
    log.close()


async def test_an_insane_length_does_not_allocate(tmp_path):
    directory = tmp_path / "003"
    await written(directory, 3)
    path = newest(directory)
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE + 8 : HEADER_SIZE + 12] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    log = open_log(directory, InlineSyncer())
    assert sorted(await read_all(log, log.topic("g/a"))) == [2, 3]
    log.close()


async def test_a_file_that_was_being_made_is_made_again(tmp_path):
    """Also when the last close had noted the segment before it had a file."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    while len(log._shelf.segments) == 1:
        append(log, "g/a", b"x" * 100)
        await commit(log)
    await log.settled()
    head, epoch = log.topic("g/a").head, log.epoch
    log.close()
    (directory / "00000000000000000002.log").write_bytes(b"HUBBUB")
    log = open_log(directory, InlineSyncer(), SMALL)
    assert (log.epoch, log.stats.damaged, log.topic("g/a").head) == (epoch, 0, head)
    log.close()


async def test_a_header_that_was_written_in_part_before_zeros_is_no_damage(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 0)
    path = newest(directory)
    path.write_bytes(path.read_bytes()[:20] + bytes(300))
    log = open_log(directory, InlineSyncer())
    assert (log.epoch, log.stats.damaged) == (epoch, 0)
    log.close()


async def test_missing_sidecars_and_catalogue_are_made_again(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 40, crashed=False, settings=SMALL)
    for path in (*directory.glob("*.idx"), *directory.glob("catalogue.db*")):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    topic = log.topic("g/a")
    assert len(await read_all(log, topic)) == 40
    assert topic.writers == {b"agent": 40}
    assert log.epoch == epoch
    log.close()


async def test_lost_newest_segments_mean_another_epoch(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 40, crashed=False, settings=SMALL)
    for path in sorted(directory.glob("*.log"))[-3:]:
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.epoch != epoch
    assert log.stats.damaged
    log.close()


async def test_a_segment_lost_from_the_middle_is_a_gap_and_told_of_once(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 40, crashed=False, settings=SMALL)
    (directory / "00000000000000000002.log").unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    renewed = log.epoch
    assert renewed != epoch
    topic = log.topic("g/a")
    found = sorted(await read_all(log, topic))
    first_lost = next(seq for seq in range(1, 41) if seq not in found)
    chunk = log.read_chunk(topic, first_lost, 40, 10_000)
    assert chunk is not None
    assert chunk.reason == "reset"
    log.close()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.epoch == renewed
    log.close()


@pytest.mark.parametrize("catalogue", ["there", "gone"])
@pytest.mark.parametrize("origin", ["another segment", "another history", "a shorter file"])
async def test_an_index_of_another_file_is_not_believed(tmp_path, origin, catalogue):
    """Each one is whole and holds no error: someone has put it where it does not belong."""
    directory, other = tmp_path / "003", tmp_path / "other" / "003"
    await written(directory, 30, crashed=False, settings=SMALL)
    await written(other, 30, crashed=False, settings=SMALL)
    paths = sorted(directory.glob("*.idx"))
    lines = [line_of("g/a", b"x" * 50)] * 30
    if origin == "another segment":
        paths[1].write_bytes(paths[2].read_bytes())
    elif origin == "another history":
        assert paths[1].read_bytes() != (other / paths[1].name).read_bytes()
        paths[1].write_bytes((other / paths[1].name).read_bytes())
    else:
        log = paths[1].with_suffix(".log")
        whole = log.read_bytes()
        size = MESSAGE_SIZE + len(b"agent") + len(lines[0])
        log.write_bytes(whole[:-size])
        paths[1].unlink()
        open_log(directory, InlineSyncer(), SMALL).close()  # makes the index of what is there
        log.write_bytes(whole)
    if catalogue == "gone":
        for path in directory.glob("catalogue.db*"):
            path.unlink()
    opened = open_log(directory, InlineSyncer(), SMALL)
    assert list((await read_all(opened, opened.topic("g/a"))).values()) == lines
    assert opened.has_id(opened.topic("g/a"), hash_of(8))
    opened.close()


class ForgetfulDisk(FaultyDisk):
    """As most systems are: a sync that failed takes the pages for clean, so no later sync writes them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.forgotten: set[Path] = set()

    def sync(self, fd: int) -> None:
        inode, path = self._by_fd[fd]
        before = inode.durable
        try:
            super().sync(fd)
        except OSError:
            self.forgotten.add(path)
            raise
        if path in self.forgotten:
            inode.durable = before

    def write(self, fd: int, data: bytes | memoryview, at: int) -> int:
        inode, path = self._by_fd[fd]
        if at <= len(inode.durable):  # all that was forgotten is written again
            self.forgotten.discard(path)
        return super().write(fd, data, at)


def killed(log: ShardLog, disk: FaultyDisk) -> None:
    """The process is gone; the system, and what is in its page cache, is not."""
    log._standings.close()
    log._shelf.close()
    disk.heal()


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_found_after_a_kill_survives_the_power_cut_that_follows(tmp_path, seed):
    """It was written and never synced: once the broker has shown it to anyone, it has to be durable."""
    directory, disk, syncer = tmp_path / "003", FaultyDisk(seed), InlineSyncer()
    log = open_log(directory, syncer, files=disk)
    first = append(log, "g/a")
    await commit(log)
    second = append(log, "g/a")
    syncer.held = True
    log.commit(lambda _: None)
    killed(log, disk)
    log = open_log(directory, InlineSyncer(), files=disk)
    assert log.topic("g/a").head == 2
    log._standings.close()
    disk.crash()
    log = open_log(directory, InlineSyncer(), files=disk)
    assert await read_all(log, log.topic("g/a")) == {1: first, 2: second}
    log.close()


@pytest.mark.parametrize("seed", range(6))
async def test_what_a_failed_sync_left_in_the_page_cache_is_written_again(tmp_path, seed):
    directory, disk = tmp_path / "003", ForgetfulDisk(seed)
    log = open_log(directory, InlineSyncer(), files=disk)
    first = append(log, "g/a")
    await commit(log)
    second = append(log, "g/a")
    disk.fail("sync")
    with pytest.raises(LogFailed):
        await commit(log)
    killed(log, disk)
    log = open_log(directory, InlineSyncer(), files=disk)
    assert log.topic("g/a").head == 2, "it was never answered, and may be there"
    log._standings.close()
    disk.crash()
    log = open_log(directory, InlineSyncer(), files=disk)
    assert await read_all(log, log.topic("g/a")) == {1: first, 2: second}
    log.close()


@pytest.mark.parametrize("seed", range(6))
async def test_what_retention_has_dropped_does_not_come_back(tmp_path, seed):
    directory, disk = tmp_path / "003", FaultyDisk(seed)
    log = open_log(directory, InlineSyncer(), SMALL, disk)
    for _ in range(40):
        append(log, "g/a", b"x" * 100)
        await commit(log)
        await log.settled()
    dropped = await log.enforce_retention(lambda _: Retention(max_count=3), 1000.0)
    assert len(dropped) > 3
    log._standings.close()
    disk.crash()
    numbers = {int(path.stem) for path in directory.glob("*.log")} | {
        int(path.stem) for path in directory.glob("*.idx")
    }
    assert not numbers & set(dropped)


async def test_a_torn_tail_leaves_nothing_behind_in_the_file(tmp_path):
    """Else the sealed segment would be longer than it says, and its end be taken for damage at the next opening."""
    directory = tmp_path / "003"
    epoch = await written(directory, 3)
    path = newest(directory)
    with path.open("ab") as file:
        file.write(b"torn" * 1000)
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.stats.truncated_bytes == 4000
    while log._active.path == path:
        append(log, "g/a", b"x" * 50)
        await commit(log)
    await log.settled()
    assert path.stat().st_size == log._shelf.segments[1].size
    log.close()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert (log.stats.damaged, log.stats.catalogue_rebuilds, log.epoch) == (0, 0, epoch)
    log.close()


async def test_what_a_full_disk_refused_in_a_new_file_does_not_come_back(tmp_path):
    directory, disk = tmp_path / "003", FaultyDisk()
    log = open_log(directory, InlineSyncer(), SMALL, disk)
    first = log._active
    while log._active is first:
        append(log, "g/a", b"x" * 50)
        await commit(log)
    await log.settled()
    head = log.topic("g/a").head
    append(log, "g/a", b"x" * 50)
    append(log, "g/a", b"y" * 500)
    disk.write_short(600)  # the header and the first of the two: whole, and refused
    with pytest.raises(LogFull):
        await commit(log)
    killed(log, disk)
    log = open_log(directory, InlineSyncer(), SMALL, disk)
    assert log.topic("g/a").head == head
    log.close()


async def test_a_tail_that_was_cleanly_closed_and_is_cut_off_at_a_records_border_is_damage(tmp_path):
    """Nothing is torn: every record that is left is whole."""
    directory = tmp_path / "003"
    epoch = await written(directory, 3, crashed=False)
    cut_off_last(newest(directory))
    log = open_log(directory, InlineSyncer())
    assert log.stats.damaged == 1
    assert log.epoch != epoch
    await told_once(log, directory)


@pytest.mark.parametrize("sealed", [0, 3])
async def test_a_newest_segment_that_is_gone_after_a_clean_close_is_damage(tmp_path, sealed):
    """It was not sealed yet, so no catalogue knows of it."""
    directory = tmp_path / "003"
    epoch = await written(directory, 2 + IN_SMALL * sealed, crashed=False, settings=SMALL)
    assert len(list(directory.glob("*.log"))) == 1 + sealed
    newest(directory).unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.stats.damaged == 1
    assert log.epoch != epoch
    await told_once(log, directory, SMALL)


async def test_the_last_of_the_full_segments_that_is_gone_is_damage_without_a_catalogue(tmp_path):
    """The next one had no file yet when the log was closed."""
    directory = tmp_path / "003"
    epoch = await written(directory, 2 * IN_SMALL, crashed=False, settings=SMALL)
    assert len(list(directory.glob("*.log"))) == 2
    for path in (newest(directory), *directory.glob("catalogue.db*")):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.stats.damaged
    assert log.epoch != epoch
    await told_once(log, directory, SMALL)


@pytest.mark.parametrize("gone", ["nothing", "catalogue", "index"])
async def test_a_sealed_segment_that_became_shorter_is_damage(tmp_path, gone):
    """Catalogue and index know how long it was."""
    directory = tmp_path / "003"
    epoch = await written(directory, 2 * IN_SMALL, settings=SMALL)
    cut_off_last(newest(directory))
    for path in directory.glob({"nothing": "none", "catalogue": "catalogue.db*", "index": "*.idx"}[gone]):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.stats.damaged
    assert log.epoch != epoch
    await told_once(log, directory, SMALL)


async def test_what_was_written_after_a_clean_close_may_be_torn(tmp_path):
    directory = tmp_path / "003"
    await written(directory, 3, crashed=False)
    epoch = await written(directory, 2)
    cut_off_last(newest(directory))
    log = open_log(directory, InlineSyncer())
    assert (log.epoch, log.stats.damaged, log.topic("g/a").head) == (epoch, 0, 4)
    log.close()


async def test_what_retention_took_after_a_clean_close_is_no_loss(tmp_path):
    directory = tmp_path / "003"
    epoch = await written(directory, 12, crashed=False, settings=SMALL)
    log = open_log(directory, InlineSyncer(), SMALL)
    for _ in range(20):
        append(log, "g/a", b"x" * 50)
        await commit(log)
        await log.settled()
    assert len(await log.enforce_retention(lambda _: Retention(max_count=1), 1000.0)) > 3
    log._standings.close()
    log._shelf.close()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert (log.epoch, log.stats.damaged) == (epoch, 0)
    log.close()


def cut_off_last(path: Path) -> None:
    """Take the last record of a file that `written` has made."""
    size = MESSAGE_SIZE + len(b"agent") + len(line_of("g/a", b"x" * 50))
    path.write_bytes(path.read_bytes()[:-size])


async def told_once(log: ShardLog, directory: Path, settings: LogSettings | None = None) -> None:
    """What is lost is lost once: a kill, and the next opening finds nothing new."""
    append(log, "g/a")
    await commit(log)
    epoch = log.epoch
    log._standings.close()
    log._shelf.close()
    for _ in range(2):
        log = open_log(directory, InlineSyncer(), settings)
        assert (log.epoch, log.stats.damaged) == (epoch, 0)
        log.close()


@pytest.mark.parametrize("crashed", [True, False])
@pytest.mark.parametrize("count", [0, 2, IN_SMALL, IN_SMALL + 2])
async def test_the_time_that_a_log_has_come_to_is_known_when_it_opens(tmp_path, count, crashed):
    """Of what is in the active segment, of what is sealed behind an empty one, and of a clean close."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL, now=3000.0)
    assert log.opened_at == 0.0
    for number in range(count):
        append(log, f"g/{number}", b"x" * 50, ts=2000.0 + number)
        await commit(log)
        await log.settled()
    if crashed:
        log._standings.close()
        log._shelf.close()
    else:
        log.close()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert log.opened_at == (3000.0 if not crashed else 2000.0 + count - 1 if count else 0.0)
    log.close()
    again = open_log(directory, InlineSyncer(), SMALL)
    assert again.opened_at == max(log.opened_at, 1000.0), "a close says no less, whatever the clock"
    again.close()
