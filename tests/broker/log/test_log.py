"""A shard's log, seen by its caller: rules, failures, and what is told of them."""

import asyncio
import errno
from typing import Any

import pytest

from harness.disk import FaultyDisk, InlineSyncer
from harness.shard_log import append, commit, hash_of, line_of, open_log, read_all
from hubbub_broker.log import LogDamaged, LogFailed, LogFull, LogMisused, LogSettings, Syncer

SMALL = LogSettings(segment_bytes=1000, min_free_bytes=100)


@pytest.fixture
def disk():
    return FaultyDisk()


@pytest.fixture
async def log(tmp_path, disk):
    made = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    yield made
    disk.heal()
    made.close()
    made.close()


def size_of(log: Any) -> int:
    return int(log._active.path.stat().st_size)


async def test_nothing_is_read_before_it_is_durable(log):
    line = append(log, "g/a")
    topic = log.topic("g/a")
    chunk = log.read_chunk(topic, 1, 1, 1000)
    assert chunk is not None
    assert (chunk.lines, chunk.next) == ([], 1)
    assert log.read_one(topic, 1).line == line
    assert log.pending_bytes
    await commit(log)
    assert log.read_chunk(topic, 1, 1, 1000).lines == [line]
    assert log.pending_bytes == 0


async def test_rules_are_enforced(log):
    topic = log.topic("g/a")
    with pytest.raises(LogMisused, match="nothing is pending"):
        log.commit(lambda _: None)
    with pytest.raises(LogMisused, match="at 0; 2"):
        log.append_message(topic, 2, line_of("g/a", b""), 0, 1.0, 1, 1, 1, 0.0, b"", 0)
    with pytest.raises(LogMisused, match="must begin with"):
        log.append_message(topic, 1, line_of("g/b", b""), 0, 1.0, 1, 1, 1, 0.0, b"", 0)
    assert topic.head == 0
    append(log, "g/a")
    log.commit(lambda _: None)
    with pytest.raises(LogMisused, match="under way"):
        log.commit(lambda _: None)
    await asyncio.sleep(0)


async def test_special_messages_are_marked_and_plain_ones_are_not(log):
    append(log, "g/a")
    append(log, "g/a", header_size=9)
    append(log, "g/a", expires=5.0)
    await commit(log)
    chunk = log.read_chunk(log.topic("g/a"), 1, 3, 10_000)
    assert chunk.special == {1: (9, 0.0), 2: (0, 5.0)}
    assert log.read_chunk(log.topic("g/a"), 1, 1, 10_000).special is None


async def test_an_empty_range_ends_behind_itself(log):
    append(log, "g/a")
    await commit(log)
    chunk = log.read_chunk(log.topic("g/a"), 2, 1, 100)
    assert (chunk.lines, chunk.next) == ([], 2)


async def test_at_least_one_message_comes_however_small_the_limit(log):
    lines = [append(log, "g/a", b"x" * 500) for _ in range(3)]
    await commit(log)
    chunk = log.read_chunk(log.topic("g/a"), 1, 3, 1)
    assert (chunk.lines, chunk.next) == (lines[:1], 2)


async def test_what_is_not_cached_is_warmed(tmp_path):
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    line = append(log, "g/a")
    await commit(log)
    disk.cached = False
    assert log.read_chunk(log.topic("g/a"), 1, 1, 100) is None
    warmed = asyncio.get_running_loop().create_future()
    log.warm(log.topic("g/a"), 1, 1, 100, lambda: warmed.set_result(None))
    await warmed
    assert disk.calls["read"]
    disk.cached = True
    chunk = log.read_chunk(log.topic("g/a"), 1, 1, 100)
    assert chunk is not None
    assert chunk.lines == [line]
    log.close()


async def test_ids_of_a_segment_that_a_former_start_began_are_remembered(tmp_path):
    directory, now = tmp_path / "004", 1_000_000.0
    log = open_log(directory, InlineSyncer(), SMALL, now=now)
    log.append_state(7, b"k", b"v")
    await commit(log)
    log.close()
    log = open_log(directory, InlineSyncer(), SMALL, now=now)  # the segment goes on: its beginning was read
    while len(log._shelf.segments) < 3:
        append(log, "g/a", ts=now)
        await commit(log)
    head = log.topic("g/a").head
    await log.settled()
    log.close()
    log = open_log(directory, InlineSyncer(), SMALL, now=now)
    assert [log.dedup(hash_of("d", "g/a", str(seq))) for seq in range(1, head + 1)] == list(range(1, head + 1))
    log.close()


async def test_a_full_disk_takes_back_and_recovers(log, disk):
    first = append(log, "g/a", writer=b"w", n=1)
    await commit(log)
    topic = log.topic("g/a")
    disk.fail("write", errno.ENOSPC)
    append(log, "g/a", writer=b"w", n=2)
    append(log, "g/b")
    log.append_state(7, b"k", b"v")
    with pytest.raises(LogFull, match="make room"):
        await commit(log)
    assert (topic.head, topic.writers, log.topic("g/b").head) == (1, {b"w": 1}, 0)
    assert not log.dedup(hash_of("d", "g/a", "2"))
    assert not log.has_id(topic, hash_of("2"))
    assert not dict(log.states(7))
    with pytest.raises(LogFull):
        append(log, "g/a")
    disk.free = 99
    assert not log.recheck()
    disk.free = 100
    assert log.recheck()
    assert log.failed is None
    second = append(log, "g/a", writer=b"w", n=2)
    await commit(log)
    assert await read_all(log, topic) == {1: first, 2: second}


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_take_back_and_recover(log, disk, code):
    """It is not the disk that fails: the next segment's file is made as soon as there is a descriptor for it."""
    topic, first = log.topic("g/a"), log._active
    while log._active is first:
        append(log, "g/a", b"x" * 100)
        await commit(log)
    await log.settled()
    head = topic.head
    disk.fail("create", code)
    append(log, "g/a")
    with pytest.raises(LogFull, match="open files"):
        await commit(log)
    assert topic.head == head
    disk.fail("names", code)
    assert not log.recheck(), "there is none yet"
    assert log.recheck()
    append(log, "g/a")
    await commit(log)
    assert list(await read_all(log, topic)) == list(range(1, head + 2))


async def test_an_id_that_can_not_be_looked_up_is_an_error_of_the_log_and_the_next_try_finds_it(log, disk):
    topic, first = log.topic("g/a"), log._active
    while log._active is first:
        append(log, "g/a", b"x" * 100)
        await commit(log)
    await log.settled()
    first.close(disk)
    disk.fail("open", errno.EMFILE)
    with pytest.raises(LogDamaged, match="check the disk"):
        log.has_id(topic, hash_of("1"))
    assert log.has_id(topic, hash_of("1"))


async def test_a_short_write_is_cut_back(log, disk):
    append(log, "g/a")
    await commit(log)
    size = size_of(log)
    disk.write_short(7)
    append(log, "g/a")
    with pytest.raises(LogFull):
        await commit(log)
    assert size_of(log) == size


async def test_a_failed_write_is_for_good_unless_the_disk_was_full(log, disk):
    disk.fail("write", errno.EIO)
    append(log, "g/a")
    with pytest.raises(LogFailed):
        await commit(log)
    assert not log.recheck()
    assert "start the broker again" in log.failed


async def test_a_failed_sync_is_never_retried_and_takes_all_back(tmp_path, disk):
    syncer = InlineSyncer()
    log = open_log(tmp_path / "003", syncer, SMALL, disk)
    line = append(log, "g/a")
    await commit(log)
    syncer.held = True
    append(log, "g/a")
    results: list[Any] = []
    log.commit(results.append)
    append(log, "g/a")
    disk.fail("sync", errno.EIO)
    syncs = disk.calls["sync"]
    syncer.held = False
    syncer.release()
    await asyncio.sleep(0)
    assert isinstance(results[0], LogFailed)
    assert (log.topic("g/a").head, log.pending_bytes, log.busy) == (1, 0, False)
    assert not log.recheck()
    assert disk.calls["sync"] == syncs + 1
    assert await read_all(log, log.topic("g/a")) == {1: line}
    log.close()


async def test_a_topic_that_was_let_go_comes_back(log):
    append(log, "g/a", writer=b"w", n=4)
    topic = log.topic("g/a")
    log.forget(topic)
    assert log.topic("g/a") is topic
    await commit(log)
    log.forget(topic)
    again = log.topic("g/a")
    assert again is not topic
    assert (again.head, again.lc, again.writers) == (1, 1, {b"w": 4})


async def test_times_are_found(log):
    for number in range(40):
        append(log, "g/a", b"x" * 60, ts=1000.0 + number // 2)
        if number % 5 == 4:
            await commit(log)
            await log.settled()
    topic = log.topic("g/a")
    assert [log.seq_at(topic, ts) for ts in (0.0, 1000.0, 1000.5, 1010.0, 1019.0, 1019.5)] == [1, 1, 3, 21, 39, 41]


async def test_with_real_threads(tmp_path):
    syncer = Syncer(2)
    log = open_log(tmp_path / "003", syncer, SMALL)
    lines = []
    for _ in range(30):
        lines += [append(log, "g/a", b"x" * 90) for _ in range(3)]
        await commit(log)
    await log.settled()
    assert log.stats.seals > 5
    assert list((await read_all(log, log.topic("g/a"))).values()) == lines
    assert (log.stats.records, log.stats.syncs, log.stats.batch_records.max) == (90, 30, 3)
    log.close()
    syncer.close()
