"""A flipped bit, anywhere in any file, never gives a reader a wrong message and never hides one in silence."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.disk import InlineSyncer, flip_bit
from harness.shard_log import append, commit, open_log, read_all
from hubbub_broker.log import LogError, LogSettings

SETTINGS = LogSettings(segment_bytes=1500)
TOPICS = ["g/a", "g/b", "g/c"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[int, bytes]], dict[bytes, bytes]]:
    """A shard with sealed segments and an active one, cleanly closed."""
    directory = tmp_path_factory.mktemp("flips") / "003"
    sent: dict[str, dict[int, bytes]] = {name: {} for name in TOPICS}
    states = {}

    async def write() -> None:
        log = open_log(directory, InlineSyncer(), SETTINGS)
        for number in range(60):
            name = TOPICS[number % 3]
            sent[name][number // 3 + 1] = append(log, name, b"x" * number, ts=1000.0 + number, n=number // 3 + 1)
            if number % 10 == 9:
                states[b"k%d" % (number % 4)] = b"%d" % number
                log.append_state(7, b"k%d" % (number % 4), b"%d" % number)
                await commit(log)
                await log.settled()
        log.close()

    asyncio.run(write())
    assert len(list(directory.glob("*.idx"))) >= 3
    return directory, sent, states


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.suffix in {".log", ".idx", ".json", ".db"})


@settings(max_examples=300)
@given(choice=st.integers(0, 10**6), place=st.integers(0, 10**9))
@example(choice=0, place=0)
async def test_a_flipped_bit_is_never_believed_and_never_hidden(
    written: Any, tmp_path_factory: pytest.TempPathFactory, choice: int, place: int
) -> None:
    original, sent, states = written
    directory = tmp_path_factory.mktemp("flipped") / "003"
    shutil.copytree(original, directory)
    try:
        files = files_of(directory)
        path = files[choice % len(files)]
        flip_bit(path, place % (path.stat().st_size * 8))
        await check(directory, sent, states, path)
    finally:
        shutil.rmtree(directory.parent)


async def check(directory: Path, sent: dict[str, dict[int, bytes]], states: dict[bytes, bytes], path: Path) -> None:
    epoch = epoch_of(directory)
    try:
        log = open_log(directory, InlineSyncer(), SETTINGS, now=2000.0)
    except LogError:
        return  # refused, which hides nothing
    try:
        whole = True
        for name in TOPICS:
            topic = log.topic(name)
            found = await read_all(log, topic)
            assert found.items() <= sent[name].items()
            whole = whole and found == sent[name] and topic.writers == {b"agent": len(found)}
            assert topic.head == len(sent[name]) or log.epoch != epoch
            for seq in sent[name]:
                stored = log.read_one(topic, seq)
                assert stored is None or stored.line == sent[name][seq]
        whole = whole and dict(log.states(7)) == states
        if not whole:
            assert log.stats.damaged, path
    finally:
        log.close()


def epoch_of(directory: Path) -> str:
    """What the meta file says, unless the flipped bit is in it."""
    try:
        return str(json.loads((directory / "shard.json").read_bytes().partition(b" ")[2])["epoch"])
    except (ValueError, KeyError):
        return "unreadable"


@settings(max_examples=100)
@given(choice=st.integers(0, 10**6), place=st.integers(0, 10**9))
async def test_a_bit_that_flips_while_the_log_is_open_is_noticed(
    written: Any, tmp_path_factory: pytest.TempPathFactory, choice: int, place: int
) -> None:
    original, sent, _ = written
    directory = tmp_path_factory.mktemp("flipped") / "003"
    shutil.copytree(original, directory)
    log = open_log(directory, InlineSyncer(), SETTINGS, now=2000.0)
    try:
        files = [path for path in files_of(directory) if path.suffix in {".log", ".idx"}]
        path = files[choice % len(files)]
        flip_bit(path, place % (path.stat().st_size * 8))
        for name in TOPICS:
            topic = log.topic(name)
            found = await read_all(log, topic)
            assert found.items() <= sent[name].items()
            assert found == sent[name] or log.stats.damaged
    finally:
        log.close()
        shutil.rmtree(directory.parent)
