"""Sealing: in slices, one segment after the other, and nothing is lost when it fails."""

import asyncio
import errno
from typing import Any

import pytest

from harness.disk import FaultyDisk, InlineSyncer
from harness.shard_log import append, commit, open_log, read_all
from hubbub_broker.log import LogSettings, Retention, sealing

SMALL = LogSettings(segment_bytes=500)


class LateSyncer(InlineSyncer):
    """Slow jobs are done at once, but the loop hears of it only when told: a thread is always ahead of its callback."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Any] = []

    def submit_slow(self, job, loop, callback):
        failure = None
        try:
            job()
        except Exception as error:  # noqa: BLE001 - whatever the job raises goes to the callback
            failure = error
        self.late.append((callback, failure))

    def deliver(self):
        late, self.late = self.late, []
        for callback, failure in late:
            callback(failure)


async def fill_segments(log, count):
    start = len(log._shelf.segments)
    while len(log._shelf.segments) < start + count:
        append(log, "g/a", b"x" * 60)
        await commit(log)
    await asyncio.sleep(0)


async def test_a_segment_that_fills_up_before_the_loop_hears_of_the_last_is_sealed_once(tmp_path):
    syncer = LateSyncer()
    log = open_log(tmp_path / "003", syncer, SMALL)
    await fill_segments(log, 3)
    assert len(syncer.late) == 1, "one after the other"
    while syncer.late:
        syncer.deliver()
        await asyncio.sleep(0.01)
    assert log.stats.seals == 3
    assert len(log._standings.fresh) == 1
    topic = log.topic("g/a")
    assert len(await read_all(log, topic)) == topic.head
    log.close()


async def test_closing_while_the_loop_has_not_heard_of_a_seal(tmp_path):
    log = open_log(tmp_path / "003", LateSyncer(), SMALL)
    await fill_segments(log, 2)
    head = log.topic("g/a").head
    log.close()
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    assert len(await read_all(log, log.topic("g/a"))) == head
    assert log.stats.damaged == 0
    log.close()


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename"])
async def test_a_seal_that_fails_is_tried_again_with_the_next(tmp_path, call):
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    await fill_segments(log, 1)
    await log.settled()
    real = log._shelf.files.replace

    def failing(path, parts):
        disk.replace = real  # type: ignore[method-assign]
        disk.fail(call, errno.EIO)
        real(path, parts)

    disk.replace = failing  # type: ignore[method-assign]
    await fill_segments(log, 1)
    await log.settled()
    assert len(log._standings.fresh) == 2
    await fill_segments(log, 1)
    await log.settled()
    assert (log.stats.seals, len(log._standings.fresh)) == (3, 1)
    topic = log.topic("g/a")
    assert len(await read_all(log, topic)) == topic.head
    log.close()


async def test_a_catalogue_that_turns_out_damaged_is_made_again(tmp_path):
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    await fill_segments(log, 2)
    await log.settled()
    log._standings.catalogue._writer.execute("UPDATE topics SET head = 999")
    log.forget(log.topic("g/a"))
    topic = log.topic("g/a")
    assert len(await read_all(log, topic)) == topic.head
    assert log.stats.catalogue_rebuilds == 1
    log.close()


async def test_retention_mends_a_sidecar_that_it_meets(tmp_path):
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    await fill_segments(log, 4)
    await log.settled()
    min(directory.glob("*.idx")).write_bytes(b"garbage")
    assert await log.enforce_retention(lambda _: Retention(max_count=1), 1000.0)
    log.close()


async def test_a_slice_is_short(tmp_path, monkeypatch):
    """The steps between two chances for the loop are few, however much there is to do."""
    monkeypatch.setattr(sealing, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(sealing, "PAUSE_SECONDS", 0.0)
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(segment_bytes=200_000))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    for number in range(1200):
        append(log, f"g/{number}", b"x" * 60)
    await commit(log)
    await log.settled()
    counter.cancel()
    assert log.stats.seals == 1
    assert turns > 20
    log.close()


async def enter_topics(log, start, count):
    for number in range(start, start + count):
        append(log, f"g/{number}")
    await commit(log)


async def test_a_segment_takes_so_many_topics_and_no_more(tmp_path):
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(segment_topics=100))
    for start in range(0, 1000, 20):
        await enter_topics(log, start, 20)
    await log.settled()
    assert log.stats.seals == 10
    assert [len(await read_all(log, log.topic(f"g/{number}"))) for number in range(0, 1000, 99)] == [1] * 11
    log.close()


async def test_topics_pay_for_their_sealing_however_busy_the_loop_is(tmp_path, monkeypatch):
    """Without a slice of the loop's own: what enters a segment seals the one before."""
    monkeypatch.setattr(sealing, "PAUSE_SECONDS", 3600.0)
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(segment_topics=2000, unsealed_segments=1000))
    most = 0
    for start in range(0, 40_000, 100):
        await enter_topics(log, start, 100)
        most = max(most, len(log._standings.fresh))
    assert most <= 3
    log.close()


async def test_nothing_further_is_confirmed_while_too_many_segments_wait(tmp_path):
    syncer = LateSyncer()
    log = open_log(tmp_path / "003", syncer, LogSettings(segment_topics=10, unsealed_segments=2))
    await enter_topics(log, 0, 10)
    await enter_topics(log, 10, 10)
    waiting = asyncio.create_task(enter_topics(log, 20, 10))
    flushing = asyncio.create_task(log.flush())
    for _ in range(10):
        await asyncio.sleep(0)
    assert log.busy
    assert not waiting.done()
    append(log, "g/more")
    while not waiting.done():
        syncer.deliver()
        await asyncio.sleep(0.001)
    await waiting
    await flushing
    await commit(log)
    assert log.topic("g/more").head == 1
    log.close()


async def test_a_seal_that_fails_holds_nobody_up(tmp_path):
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(segment_topics=10, unsealed_segments=1), disk)

    def failing(path, parts):
        raise OSError(errno.EIO, "as asked")

    disk.replace = failing  # type: ignore[method-assign]
    for start in range(0, 100, 10):
        await enter_topics(log, start, 10)
    assert log.stats.seals == 0
    assert log.failed is None
    log.close()


async def test_closing_lets_those_go_who_wait_for_room(tmp_path):
    log = open_log(tmp_path / "003", LateSyncer(), LogSettings(segment_topics=10, unsealed_segments=1))
    await enter_topics(log, 0, 10)
    waiting = asyncio.create_task(enter_topics(log, 10, 10))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    log.close()
    await waiting
