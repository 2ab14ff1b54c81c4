"""Names and numbers: of files, of topics as keys."""

import re
from pathlib import Path

from xxhash import xxh3_64_intdigest, xxh3_128_digest

SEGMENT_SUFFIX = ".log"
SIDECAR_SUFFIX = ".idx"
BAD_SUFFIX = ".bad"
SEGMENT_NAME = re.compile(r"(\d{20})\.log")


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment's records are."""
    return directory / f"{number:020d}{SEGMENT_SUFFIX}"


def sidecar_path(directory: Path, number: int) -> Path:
    """Where a sealed segment's index is."""
    return directory / f"{number:020d}{SIDECAR_SUFFIX}"


def segment_numbers(names: list[str]) -> list[int]:
    """The segments among the names of a directory, oldest first."""
    return sorted(int(match[1]) for name in names if (match := SEGMENT_NAME.fullmatch(name)))


def topic_key(name: bytes) -> bytes:
    """128 bits that stand for a topic in an index: wide enough that no two topics are ever taken for one another."""
    return xxh3_128_digest(name)


def topic_salt(name: bytes) -> int:
    """What a message's id hash is mixed with, so that one table serves all topics of a segment."""
    return xxh3_64_intdigest(name)
