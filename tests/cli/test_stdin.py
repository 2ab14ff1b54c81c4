"""Lines from a descriptor."""

import asyncio
import os
from pathlib import Path

import pytest

from hubbub_broker.cli import stdin
from hubbub_broker.cli.exit_code import Failure


async def read(fd: int) -> list[bytes]:
    return [line async for line in stdin.lines(fd)]


async def test_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"one\r\ntwo\n\nlast without end")
    fd = os.open(file, os.O_RDONLY)
    try:
        assert await read(fd) == [b"one", b"two", b"", b"last without end"]
    finally:
        os.close(fd)


async def test_a_line_may_come_in_pieces_and_before_the_end() -> None:
    ours, theirs = os.pipe()
    try:
        lines = stdin.lines(ours)
        os.write(theirs, b"fir")
        os.write(theirs, b"st\nsec")
        assert await anext(lines) == b"first"
        os.write(theirs, b"ond\n")
        os.close(theirs)
        assert [line async for line in lines] == [b"second"]
    finally:
        os.close(ours)


async def test_a_slow_reader_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin, "CHUNK", 8)
    file = tmp_path / "lines"
    content = b"".join(b"line %05d\n" % number for number in range(2000))
    file.write_bytes(content)
    fd = os.open(file, os.O_RDONLY)
    try:
        lines = stdin.lines(fd)
        assert await anext(lines) == b"line 00000"
        await asyncio.to_thread(lambda: None)
        assert os.lseek(fd, 0, os.SEEK_CUR) <= 8 * (stdin.AHEAD + 4)
        assert len([line async for line in lines]) == 1999
    finally:
        os.close(fd)


async def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin, "LINE_BYTES_MAX", 100_000)
    file = tmp_path / "line"
    file.write_bytes(b"x" * 1_000_000)
    fd = os.open(file, os.O_RDONLY)
    try:
        with pytest.raises(Failure, match="longer than 100000 bytes"):
            await read(fd)
    finally:
        os.close(fd)


async def test_a_descriptor_that_can_not_be_read_is_a_failure() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        with pytest.raises(Failure, match="can't read standard input: Bad file descriptor"):
            await read(theirs)
    finally:
        os.close(theirs)
