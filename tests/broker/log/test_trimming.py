"""Retention: what the policy protects stays, what goes leaves its states, standings and writers behind."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.disk import InlineSyncer
from harness.shard_log import append, commit, hash_of, open_log, read_all
from hubbub_broker.log import LogSettings, Retention
from hubbub_broker.log.taken_ids import KIND, ids_in
from hubbub_broker.log.trimming import may_go

SMALL = LogSettings(segment_bytes=1000)


async def fill(log, count, name="g/a", ts=1000.0, writer=b"agent"):
    for _ in range(count):
        append(log, name, b"x" * 50, ts=ts, writer=writer, n=log.topic(name).writers.get(writer, 0) + 1)
        await commit(log)
        await log.settled()


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_only_what_has_enough_behind_it_may_go(max_count, max_bytes, records, size):
    allowed = may_go(Retention(0.0, max_bytes, max_count), records, size)
    assert allowed == ((max_count > 0 and records >= max_count) or (max_bytes > 0 and size >= max_bytes))


async def test_no_limit_keeps_everything(tmp_path):
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    await fill(log, 30)
    assert await log.enforce_retention(lambda _: Retention(), 9e9) == []
    log.close()


async def test_count_keeps_that_many_and_the_gap_says_retention(tmp_path):
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    await fill(log, 30)
    assert await log.enforce_retention(lambda _: Retention(max_count=10), 1000.0)
    topic = log.topic("g/a")
    first = log.first_seq(topic)
    assert 1 < first <= 21
    chunk = log.read_chunk(topic, 1, 30, 1 << 20)
    assert chunk is not None
    assert (chunk.first, chunk.reason) == (first, "retention")
    assert sorted(await read_all(log, topic)) == list(range(first, 31))
    log.close()


async def test_one_topic_without_limit_keeps_the_segment(tmp_path):
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    append(log, "g/keep")
    await fill(log, 30)
    keep = {"g/keep": Retention()}
    assert await log.enforce_retention(lambda name: keep.get(name, Retention(max_count=1)), 9e9) == []
    log.close()


async def test_the_shards_own_limit_goes_before_policies(tmp_path):
    settings = LogSettings(segment_bytes=1000, retention_bytes=3000)
    log = open_log(tmp_path / "003", InlineSyncer(), settings)
    await fill(log, 60)
    assert await log.enforce_retention(lambda _: Retention(), 1000.0)
    assert log.size <= 3000
    log.close()


async def test_standings_states_and_writers_outlive_their_segment_and_the_catalogue(tmp_path):
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    log.append_state(7, b"key", b"body")
    log.append_state(7, b"gone", b"body")
    await fill(log, 3, "g/old", ts=900.0)
    await fill(log, 1, "g/new", writer=b"silent")
    log.append_state(7, b"gone", b"")
    await fill(log, 60, "g/new")
    dropped = await log.enforce_retention(lambda name: Retention(max_age=50.0, max_count=5), 1000.0)
    assert len(dropped) >= 3
    log.close()
    for path in directory.glob("catalogue.db*"):
        path.unlink()
    log = open_log(directory, InlineSyncer(), SMALL)
    old, new = log.topic("g/old"), log.topic("g/new")
    assert (old.head, old.last_ts, old.writers) == (3, 900.0, {b"agent": 3})
    assert log.first_seq(old) == 4
    assert (new.head, new.writers) == (61, {b"silent": 1, b"agent": 60})
    assert dict(log.states(7)) == {b"key": b"body"}
    append(log, "g/old")
    await commit(log)
    assert sorted(await read_all(log, old)) == [4]
    log.close()


async def test_a_commit_of_the_caller_meanwhile_waits_for_the_logs_own(tmp_path):
    """Retention carries states over with a commit of its own; the shard need not know."""
    syncer = InlineSyncer()
    log = open_log(tmp_path / "003", syncer, SMALL)
    log.append_state(7, b"key", b"body")
    await fill(log, 40)
    syncer.held = True
    task = asyncio.create_task(log.enforce_retention(lambda _: Retention(max_count=5), 1000.0))
    while not syncer.waiting:  # noqa: ASYNC110 - the turns of the loop are what is waited for
        await asyncio.sleep(0)
    assert not log.busy
    append(log, "g/a")
    results: list[Any] = []
    log.commit(results.append)
    assert log.busy
    syncer.held = False  # type: ignore[unreachable]  # commit() has made it busy
    syncer.release()
    assert await task
    for _ in range(10):
        await asyncio.sleep(0)
    assert results == [None]
    assert not log.busy
    assert log.topic("g/a").head == 41
    log.close()


def remembered(log, head):
    return [log.dedup(hash_of("d", "g/a", str(seq))) for seq in range(1, head + 1)]


async def trimmed(log, count=3):
    """Ten messages, and what retention takes then."""
    await fill(log, 10, ts=log._clock())
    return await log.enforce_retention(lambda _: Retention(max_count=count), log._clock())


@pytest.mark.parametrize("crashed", [True, False])
async def test_ids_that_retention_took_are_known_after_a_restart(tmp_path, crashed):
    """Also those whose carriers were dropped in turn."""
    directory = tmp_path / "003"
    log = open_log(directory, InlineSyncer(), SMALL)
    assert await trimmed(log)
    log = reopened(log, directory, crashed=crashed)
    for _ in range(3):
        assert await trimmed(log)
    head = log.topic("g/a").head
    assert remembered(log, head) == list(range(1, head + 1))
    log = reopened(log, directory, crashed=crashed)
    assert log.first_seq(log.topic("g/a")) > 20
    assert remembered(log, head) == list(range(1, head + 1))
    log.close()


async def test_ids_that_retention_took_go_with_the_window(tmp_path):
    directory = tmp_path / "003"
    settings = LogSettings(segment_bytes=1000, dedup_window=100.0)
    log = open_log(directory, InlineSyncer(), settings, now=1000.0)
    assert await trimmed(log)
    assert list(log.states(KIND))
    log.close()
    log = open_log(directory, InlineSyncer(), settings, now=1101.0)
    assert remembered(log, 3) == [0, 0, 0]
    for _ in range(4):
        assert await trimmed(log)
    assert all(ids_in(body)[0] == 1101.0 for _, body in log.states(KIND))
    log.close()


async def test_no_more_ids_are_kept_than_are_remembered(tmp_path):
    directory = tmp_path / "003"
    settings = LogSettings(segment_bytes=1000, dedup_entries=20)
    log = open_log(directory, InlineSyncer(), settings)
    for _ in range(12):
        assert await trimmed(log)
    kept = sum(len(ids_in(body)[1][0]) for _, body in log.states(KIND))
    assert 0 < kept <= 3 * settings.dedup_entries, "what was forgotten since it was carried goes when its carrier goes"
    head = log.topic("g/a").head
    log = reopened(log, directory, crashed=False, settings=settings)
    assert remembered(log, head)[-20:] == list(range(head - 19, head + 1))
    log.close()


def reopened(log, directory, *, crashed, settings=SMALL):
    if crashed:
        log._standings.close()
        log._shelf.close()
    else:
        log.close()
    return open_log(directory, InlineSyncer(), settings)
