"""Helpers around a shard's log: messages to append, commits to wait for, everything read back."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from xxhash import xxh3_64_intdigest

from hubbub_broker.log import Files, LogError, LogSettings, ShardLog, Syncer, TopicLog

T = TypeVar("T")


def line_of(topic: str, body: bytes) -> bytes:
    """A wire line as the sequencer makes it."""
    return b'{"op":"msg","topic":"' + topic.encode() + b'","data":"' + body + b'"}'


def hash_of(*parts: object) -> int:
    return xxh3_64_intdigest("\0".join(map(str, parts)).encode())


def open_log(
    directory: Path,
    syncer: Syncer,
    settings: LogSettings | None = None,
    files: Files | None = None,
    now: float = 1000.0,
) -> ShardLog:
    return ShardLog.open(directory, settings or LogSettings(), syncer, clock=lambda: now, files=files)


def append(
    log: ShardLog,
    name: str,
    body: bytes = b"hello",
    *,
    header_size: int = 0,
    ts: float = 1000.0,
    expires: float = 0.0,
    writer: bytes = b"agent",
    n: int = 0,
    id: str | None = None,
) -> bytes:
    """Append the topic's next message; its line. Its id is its seq unless given."""
    topic = log.topic(name)
    seq = topic.head + 1
    line = line_of(name, body)
    key = str(seq) if id is None else id
    log.append_message(
        topic, seq, line, header_size, ts, topic.lc + 1, hash_of(key), hash_of("d", name, key), expires, writer, n
    )
    return line


async def commit(log: ShardLog) -> None:
    """Commit what is pending and wait.

    Raises:
        LogError: it failed.
    """
    future: asyncio.Future[LogError | None] = asyncio.get_running_loop().create_future()
    log.commit(future.set_result)
    error = await future
    if error is not None:
        raise error


async def read_all(log: ShardLog, topic: TopicLog, start: int = 1, max_bytes: int = 1000) -> dict[int, bytes]:
    """Every message that can be read, by seq; checks the rules of chunks on the way."""
    found: dict[int, bytes] = {}
    seq = start
    while seq <= topic.head:
        chunk = log.read_chunk(topic, seq, topic.head, max_bytes)
        if chunk is None:
            warmed = asyncio.Event()
            log.warm(topic, seq, topic.head, max_bytes, warmed.set)
            await warmed.wait()
            continue
        assert not chunk.lines or (chunk.reason is None) == (chunk.first == seq), (seq, chunk.first, chunk.reason)
        found.update(enumerate(chunk.lines, chunk.first))
        assert chunk.next > seq
        assert not chunk.lines or chunk.next == chunk.first + len(chunk.lines)
        seq = chunk.next
    return found


def run(awaitable: Awaitable[T], loop: asyncio.AbstractEventLoop) -> T:
    """Run a coroutine on a loop that is kept between calls."""

    async def whole() -> T:
        return await awaitable

    return loop.run_until_complete(whole())
