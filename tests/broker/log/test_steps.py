"""Steps: records that belong together are there all, or none, wherever a write was torn."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.disk import FaultyDisk, InlineSyncer, flip_bit
from harness.shard_log import append, commit, open_log
from hubbub_broker.log import LogFull, LogSettings, ShardLog
from hubbub_broker.log.directory import DataDirectory
from hubbub_broker.log.header import HEADER_SIZE
from hubbub_broker.log.inspect import verify
from hubbub_broker.log.record import MORE, Tail, decode
from hubbub_broker.log.scan import scan

Seen = tuple[int, int, dict[bytes, bytes]]
"""The heads of two topics, and the states."""


def step(log: ShardLog, number: int) -> None:
    """One step: a message to each of two topics and two states, all of which name its number."""
    with log.step():
        append(log, "g/a", b"a%d" % number)
        append(log, "g/b", b"b%d" % number)
        log.append_state(7, b"k", b"%d" % number)
        log.append_state(7, b"k%d" % number, b"x" * number)


def seen(log: ShardLog) -> Seen:
    return log.topic("g/a").head, log.topic("g/b").head, dict(log.states(7))


def after(steps: int) -> Seen:
    states = {b"k%d" % number: b"x" * number for number in range(1, steps + 1)}
    return steps, steps, {**states, **({b"k": b"%d" % steps} if steps else {})}


def let_go(log: ShardLog) -> None:
    """As a crash does: nothing is written any more."""
    log._standings.close()
    log._shelf.close()


async def test_a_write_that_is_torn_at_any_byte_leaves_whole_steps_only(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    bounds = [log._end]
    for number in range(1, 3):
        step(log, number)
        bounds.append(log._end)
    await commit(log)
    let_go(log)
    path = next(directory.glob("*.log"))
    whole = path.read_bytes()
    assert len(whole) == bounds[-1]
    for size in range(bounds[0], len(whole) + 1):
        path.write_bytes(whole[:size])
        log = open_log(directory, InlineSyncer())
        complete = sum(bound <= size for bound in bounds) - 1
        assert seen(log) == after(complete), size
        assert (log.stats.damaged, log.stats.truncated_bytes) == (0, size - bounds[complete])
        assert path.stat().st_size == bounds[complete]
        let_go(log)


async def test_single_records_before_and_behind_a_step_stand_for_themselves(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    append(log, "g/before")
    ends = [log._end]
    step(log, 1)
    ends.append(log._end)
    append(log, "g/behind")
    ends.append(log._end)
    log.append_state(7, b"last", b"1")
    await commit(log)
    let_go(log)
    path = next(directory.glob("*.log"))
    whole = path.read_bytes()
    for end, there in zip(ends, ([1, 0, 0], [1, 1, 0], [1, 1, 1]), strict=True):
        path.write_bytes(whole[: end + 9])
        log = open_log(directory, InlineSyncer())
        assert [log.topic(name).head for name in ("g/before", "g/a", "g/behind")] == there
        assert log.state(7, b"last") is None
        let_go(log)


async def test_a_step_of_one_record_and_an_empty_one_bear_no_mark(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    with log.step():
        pass
    with log.step():
        append(log, "g/a")
    await commit(log)
    assert [flags for flags, _ in records(log)] == [1]
    log.close()


async def test_all_records_of_a_step_but_the_last_are_marked_and_read_as_ever(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    with log.step():
        lines = [append(log, "g/a", header_size=5), append(log, "g/a", expires=5000.0)]
        log.append_tail(Tail("g/t", 7, 7, 1.0, 70, {}))
    assert log.read_one(log.topic("g/a"), 2) is not None, "before it is written"
    await commit(log)
    assert [flags & MORE for flags, _ in records(log)] == [MORE, MORE, 0]
    chunk = log.read_chunk(log.topic("g/a"), 1, 2, 10_000)
    assert chunk is not None
    assert (chunk.lines, chunk.special) == (lines, {0: (5, 0.0), 1: (0, 5000.0)})
    log.close()
    log = open_log(directory, InlineSyncer())
    assert (log.topic("g/a").head, log.topic("g/t").head, log.stats.damaged) == (2, 7, 0)
    log.close()


async def test_a_full_disk_takes_a_whole_step_back(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(min_free_bytes=0), disk)
    step(log, 1)
    await commit(log)
    disk.write_short(150)
    step(log, 2)
    with pytest.raises(LogFull):
        await commit(log)
    assert seen(log) == after(1)
    assert log.recheck()
    step(log, 2)
    await commit(log)
    log.close()
    log = open_log(tmp_path / "003", InlineSyncer())
    assert seen(log) == after(2)
    log.close()


@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_leaves_whole_steps_only(tmp_path: Path, seed: int) -> None:
    disk = FaultyDisk(seed)
    log = open_log(tmp_path / "003", InlineSyncer(), files=disk)
    step(log, 1)
    await commit(log)
    for number in (2, 3, 4):
        step(log, number)
    syncer = InlineSyncer()
    syncer.held = True
    log._syncer = syncer
    log.commit(lambda _: None)  # written, and never synced
    disk.dead = True
    let_go(log)
    disk.crash()
    log = open_log(tmp_path / "003", InlineSyncer(), files=disk)
    assert seen(log) in [after(count) for count in (1, 2, 3, 4)]
    assert log.stats.damaged == 0
    log.close()


@pytest.mark.parametrize("damaged", range(4))
async def test_damage_within_a_step_is_told_of_and_the_rest_of_it_is_kept(tmp_path: Path, damaged: int) -> None:
    """It was on stable storage once, as the batch behind it says."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    step(log, 1)
    await commit(log)
    places = [offset for _, offset in records(log)]
    step(log, 2)
    await commit(log)
    let_go(log)
    path = next(directory.glob("*.log"))
    flip_bit(path, (places[damaged] + 20) * 8)
    log = open_log(directory, InlineSyncer())
    assert log.stats.damaged == 1
    a, b, states = seen(log)
    assert (a, b, states[b"k"], states[b"k2"]) == (2, 2, b"2", b"xx")
    assert (b"k1" in states) is (damaged != 3)
    let_go(log)


async def test_the_last_record_of_a_confirmed_step_lost_before_a_torn_one(tmp_path: Path) -> None:
    """Two faults at once: what was confirmed is kept, and only the torn step goes."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer())
    step(log, 1)
    await commit(log)
    last = [offset for _, offset in records(log)][-1]
    step(log, 2)
    await commit(log)
    let_go(log)
    path = next(directory.glob("*.log"))
    flip_bit(path, (last + 20) * 8)
    path.write_bytes(path.read_bytes()[:-3])
    log = open_log(directory, InlineSyncer())
    assert log.stats.damaged == 1
    assert seen(log) == (1, 1, {b"k": b"1"})
    let_go(log)


async def test_a_sealed_segment_that_is_read_again_keeps_its_steps(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    settings = LogSettings(segment_bytes=1500)
    log = open_log(directory, InlineSyncer(), settings)
    for number in range(1, 11):
        step(log, number)
        await commit(log)
        await log.settled()
    log.close()
    for path in (*directory.glob("*.idx"), *directory.glob("catalogue.db*")):
        path.unlink()
    log = open_log(directory, InlineSyncer(), settings)
    assert seen(log) == after(10)
    log.close()


async def test_verify_tells_of_a_torn_step_and_of_damage_in_one(tmp_path: Path) -> None:
    data = DataDirectory.open(tmp_path, shards=1)
    directory = data.shard(0)
    log = open_log(directory, InlineSyncer())
    step(log, 1)
    await commit(log)
    middle = [offset for _, offset in records(log)][1]
    step(log, 2)
    await commit(log)
    let_go(log)
    data.close()
    assert (verify(tmp_path).ok, verify(tmp_path).notes) == (True, [])
    path = next(directory.glob("*.log"))
    path.write_bytes(path.read_bytes()[:-3])
    report = verify(tmp_path)
    assert report.ok
    assert any("not whole" in note.what for note in report.notes)
    flip_bit(path, (middle + 20) * 8)
    assert [problem.offset for problem in verify(tmp_path).problems if "can't be read" in problem.what] == [middle]


def records(log: ShardLog) -> Iterator[tuple[int, int]]:
    """Flags and place of each record in the active file."""
    segment = log._active
    with log._files.reading(segment.path) as fd:
        for found in scan(log._files, fd, segment.mark, HEADER_SIZE, segment.size):
            assert found.record is not None
            decode(found.record)
            yield found.record[14], found.offset
