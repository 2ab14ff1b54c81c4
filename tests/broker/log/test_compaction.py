"""Compaction: states that are overwritten for ever take no room that grows, and cost no work that does not end."""

from pathlib import Path

import pytest

from harness.disk import InlineSyncer
from harness.shard_log import append, commit, open_log
from hubbub_broker.log import LogSettings, Retention, ShardLog, trimming

SMALL = LogSettings(segment_bytes=4000)
FOR_EVER = Retention()


async def write_states(log: ShardLog, keys: int, body: bytes) -> None:
    for number in range(keys):
        log.append_state(7, b"%03d" % number, body)
        if number % 10 == 9:
            await commit(log)
    await log.settled()


def bodies(keys: int, body: bytes) -> dict[bytes, bytes]:
    return {b"%03d" % number: body for number in range(keys)}


async def compact(log: ShardLog) -> list[int]:
    dropped = await log.enforce_retention(lambda _: FOR_EVER, 1000.0)
    await log.settled()
    return dropped


async def test_what_is_overwritten_goes_and_the_newest_stays_also_without_the_catalogue(tmp_path: Path) -> None:
    """40 keys of 100 bytes are 5.2 kB; 60 rounds of them 310 kB."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    largest = 0
    for turn in range(60):
        await write_states(log, 40, b"%03d" % turn * 33)
        await compact(log)
        largest = max(largest, log.size)
    assert largest < 20_000
    assert len(log._shelf.segments) < 6
    log.close()
    for path in directory.glob("catalogue.db*"):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert dict(log.states(7)) == bodies(40, b"059" * 33)
    assert log.stats.damaged == 0
    log.close()


async def test_states_that_fill_many_segments_are_not_written_again_and_again(tmp_path: Path) -> None:
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    await write_states(log, 200, b"x" * 100)
    records = log.stats.records
    for _ in range(5):
        assert await compact(log) == []
    assert log.stats.records == records
    assert dict(log.states(7)) == bodies(200, b"x" * 100)
    log.close()


async def test_a_run_ends_when_what_it_carries_fills_segments(tmp_path: Path) -> None:
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    for turn in range(3):
        await write_states(log, 200, b"%d" % turn * 100)
    sealed = [number for number, segment in log._shelf.segments.items() if segment.index is None]
    dropped = await compact(log)
    assert dropped
    assert set(dropped) <= set(sealed)
    assert log.size < 60_000
    assert dict(log.states(7)) == bodies(200, b"2" * 100)
    log.close()


async def test_states_at_the_front_do_not_hold_back_messages_behind_them(tmp_path: Path) -> None:
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    await write_states(log, 60, b"x" * 100)
    assert len(log._shelf.segments) > 1
    for _ in range(100):
        append(log, "g/a", b"x" * 200)
        await commit(log)
        await log.settled()
        await log.enforce_retention(lambda _: Retention(max_count=5), 1000.0)
    assert log.size < 30_000
    assert log.first_seq(log.topic("g/a")) > 50
    assert dict(log.states(7)) == bodies(60, b"x" * 100)
    log.close()


async def test_a_deletion_is_not_undone_by_what_goes_before_it(tmp_path: Path) -> None:
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    await write_states(log, 40, b"x" * 100)
    for number in range(39):
        log.append_state(7, b"%03d" % number, b"")
    await commit(log)
    for turn in range(20):
        for key in (b"a", b"b"):
            log.append_state(7, key, b"%03d" % turn * 300)
        await commit(log)
        await log.settled()
        await compact(log)
    assert log._shelf.oldest > 2
    log.close()
    for path in directory.glob("catalogue.db*"):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    assert sorted(key for key, _ in log.states(7)) == [b"039", b"a", b"b"]
    log.close()


async def test_what_is_carried_becomes_durable_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers' batches stay short, and what is pending small, however many states there are."""
    monkeypatch.setattr(trimming, "CARRY_ROWS", 10)
    monkeypatch.setattr(trimming, "CARRY_BYTES", 2000)
    log = open_log(tmp_path / "003", InlineSyncer(), LogSettings(segment_bytes=40_000))
    for turn in range(3):
        await write_states(log, 100, b"%d" % turn * 99)
    append_state = log.append_state
    pending: list[int] = []

    def watched(kind: int, key: bytes, body: bytes) -> None:
        append_state(kind, key, body)
        pending.append(log.pending_bytes)

    monkeypatch.setattr(log, "append_state", watched)
    await write_states(log, 30, b"3" * 99)
    pending.clear()
    assert await compact(log) == [1]
    assert len(pending) > 30
    assert max(pending) < 2000 + 10 * 130
    assert dict(log.states(7)) == bodies(100, b"2" * 99) | bodies(30, b"3" * 99)
    log.close()
