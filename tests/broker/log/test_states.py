"""States by key and by prefix: the newest body wherever it lies, and nothing of what was taken back."""

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.disk import FaultyDisk, InlineSyncer
from harness.shard_log import append, commit, open_log
from hubbub_broker.log import LogFull, LogSettings, ShardLog
from hubbub_broker.log.catalogue import Catalogue, state_statements
from hubbub_broker.log.states import FEW, StateTable

SMALL = LogSettings(segment_bytes=1000, min_free_bytes=0)
KEYS = st.binary(max_size=3) | st.sampled_from([b"\xff", b"\xff\xff", b"a\xff", b"a\xff\xff", b"b"])


async def seal(log: ShardLog) -> None:
    """Fill segments until what was appended before lies in a sealed one."""
    number = log._active.number
    while log._active.number == number:
        append(log, "g/filler", b"x" * 300)
        await commit(log)
    await log.settled()


async def test_one_key_by_itself(tmp_path: Path) -> None:
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    assert log.state(7, b"k") is None
    log.append_state(7, b"k", b"1")
    assert log.state(7, b"k") == b"1", "appended and not committed"
    assert (log.state(8, b"k"), log.state(7, b"")) == (None, None)
    await seal(log)
    assert log.state(7, b"k") == b"1", "in the catalogue"
    log.append_state(7, b"k", b"2")
    assert log.state(7, b"k") == b"2", "over the catalogue"
    await seal(log)
    log.append_state(7, b"k", b"")
    assert log.state(7, b"k") is None, "deleted over the catalogue"
    assert list(log.states(7)) == []
    await seal(log)
    assert log.state(7, b"k") is None, "deleted in the catalogue"
    log.close()


async def test_between_its_sealing_and_its_place_in_the_catalogue_a_segment_still_tells(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    log.append_state(7, b"old", b"1")
    log.append_state(7, b"both", b"1")
    disk.fail("rename", errno.EIO)  # the seal fails, and its index stays in memory
    await seal(log)
    assert len(log._standings.fresh) == 2
    log.append_state(7, b"both", b"2")
    assert (log.state(7, b"old"), log.state(7, b"both")) == (b"1", b"2")
    assert dict(log.states(7, b"")) == {b"old": b"1", b"both": b"2"}
    log.close()


@pytest.mark.parametrize("seed", range(8))
async def test_after_a_crash_and_after_a_clean_end(tmp_path: Path, seed: int) -> None:
    disk = FaultyDisk(seed)
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    log.append_state(7, b"sealed", b"1")
    await seal(log)
    log.append_state(7, b"sealed", b"2")
    log.append_state(7, b"fresh", b"1")
    log.append_state(7, b"gone", b"1")
    log.append_state(7, b"gone", b"")
    await commit(log)
    log.append_state(7, b"never", b"1")
    assert log.state(7, b"never") == b"1"
    log._standings.close()
    disk.crash()
    for _ in range(2):
        log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
        assert [log.state(7, key) for key in (b"sealed", b"fresh", b"gone", b"never")] == [b"2", b"1", None, None]
        assert dict(log.states(7)) == {b"sealed": b"2", b"fresh": b"1"}
        log.close()


async def test_what_is_taken_back_was_never_set(tmp_path: Path) -> None:
    disk = FaultyDisk()
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL, disk)
    log.append_state(7, b"a/sealed", b"1")
    await seal(log)
    log.append_state(7, b"a/fresh", b"1")
    await commit(log)
    before = {b"a/sealed": b"1", b"a/fresh": b"1"}
    log.append_state(7, b"a/new", b"1")
    assert dict(log.states(7, b"a/")) == {**before, b"a/new": b"1"}
    log.append_state(7, b"a/newer", b"1")
    log.append_state(7, b"a/newer", b"2")
    log.append_state(7, b"a/fresh", b"2")
    log.append_state(7, b"a/sealed", b"")
    disk.fail("write", errno.ENOSPC)
    with pytest.raises(LogFull):
        await commit(log)
    assert dict(log.states(7, b"a/")) == before
    assert [log.state(7, key) for key in (b"a/new", b"a/newer", b"a/fresh", b"a/sealed")] == [None, None, b"1", b"1"]
    assert log.recheck()
    log.append_state(7, b"a/new", b"3")
    await commit(log)
    assert dict(log.states(7, b"a/")) == {**before, b"a/new": b"3"}
    log.close()


@given(st.dictionaries(KEYS, st.binary(min_size=1, max_size=3)), KEYS)
def test_a_prefix_in_memory_gives_exactly_its_keys(states: dict[bytes, bytes], prefix: bytes) -> None:
    table = StateTable()
    for kind in (6, 8, 7):
        for key, body in states.items():
            table.put(kind, key, body + bytes([kind]))
    wanted = {key: body + b"\7" for key, body in states.items() if key.startswith(prefix)}
    assert table.with_prefix(7, prefix) == wanted


@given(states=st.dictionaries(KEYS, st.binary(min_size=1, max_size=3)), prefix=KEYS)
def test_a_prefix_in_the_catalogue_gives_exactly_its_keys(
    states: dict[bytes, bytes], prefix: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalogue, _ = Catalogue.open(tmp_path_factory.mktemp("catalogue"), "log", 60.0)
    rows = [(kind, key, body) for kind in (6, 7, 8) for key, body in states.items()]
    catalogue.add_segment(1, 99, 5, 100.0, state_statements(1, rows))
    wanted = {key: body for key, body in states.items() if key.startswith(prefix)}
    assert dict(catalogue.states(7, prefix)) == wanted
    catalogue.close()


def test_keys_stay_in_order_however_they_come_and_go() -> None:
    random = Random(5)
    table = StateTable()
    model: dict[bytes, bytes] = {}
    for step in range(60):
        for _ in range(random.choice((1, 5, FEW * 2))):
            key, body = b"%03d" % random.randrange(500), b"%d" % step
            before = table.put(7, key, body)
            assert before == model.get(key)
            if random.random() < 0.5:
                table.restore(7, key, before)
            else:
                model[key] = body
        prefix = random.choice((b"", b"0", b"12", b"499", b"9"))
        assert table.with_prefix(7, prefix) == {key: body for key, body in model.items() if key.startswith(prefix)}
    assert len(table) == len(model)


@pytest.mark.parametrize(
    "ask", [lambda c: c.state(7, b"k00001"), lambda c: list(c.states(7, b"k00001"))], ids=["key", "prefix"]
)
def test_the_catalogue_reads_only_what_was_asked_for(tmp_path: Path, ask: Callable[[Catalogue], object]) -> None:
    """A row costs SQLite several steps: were all 20,000 looked at, it would take tens of thousands of them."""
    catalogue, _ = Catalogue.open(tmp_path, "log", 60.0)
    catalogue.add_segment(1, 99, 5, 100.0, state_statements(1, ((7, b"k%05d" % n, b"body") for n in range(20_000))))
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    catalogue._reader.set_progress_handler(step, 1)
    assert ask(catalogue) in (b"body", [(b"k00001", b"body")])
    assert steps < 100
    catalogue.close()


async def test_a_changed_row_is_noticed_and_the_catalogue_made_again(tmp_path: Path) -> None:
    log = open_log(tmp_path / "003", InlineSyncer(), SMALL)
    log.append_state(7, b"k", b"1")
    await seal(log)
    other = sqlite3.connect(tmp_path / "003" / "catalogue.db")
    with other:
        other.execute("UPDATE states SET body = x'00'")
    other.close()
    assert log.state(7, b"k") == b"1"
    assert log.stats.catalogue_rebuilds == 1
    log.close()
