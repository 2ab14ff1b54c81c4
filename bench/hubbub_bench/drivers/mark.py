"""The mark in each message that tells which one it is, and the reading of marks from frames.

    ~ FFFFFF SSSSSSSSSS TTTTTTTTTTTTTTTTTTT ~ padding
      flow   sequence   due, monotonic clock in ns

Flow and sequence stand together as one number of 16 digits, the key, which is the message's `id` too. So that the
messages of a frame are consecutive ones of one publisher is seen by comparing a list with a range.
"""

from dataclasses import dataclass
from typing import NamedTuple

FLOW_MAX = 10**6 - 1
SEQUENCES = 10**10
"""Keys of one flow: the key of its message number s is flow * SEQUENCES + s."""
_KEY = 16
_STAMP = 19
MARK_BYTES = 1 + _KEY + _STAMP + 1

Run = tuple[int, int, int]
"""Consecutive messages of one publisher: flow, first sequence, count."""


class Sighting(NamedTuple):
    """What a mark says."""

    flow: int
    sequence: int
    due: int
    """When it should have been sent, in ns of the monotonic clock."""


class BadMark(Exception):
    """A message does not begin with a mark: somebody else publishes here, or bytes were changed on the way."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The messages of one frame."""

    count: int
    runs: list[Run]
    stamps: list[int]


def pattern(size: int) -> bytes:
    """A message's `data` of `size` bytes, to be filled in with `%` by (key, stamp)."""
    return b"~%016d%019d~" + (b"abcdefghijklmnopqrstuvwxyz012345" * (size // 32 + 1))[: size - MARK_BYTES]


def read_mark(data: bytes) -> Sighting:
    """The mark at the beginning of a message's `data`, with or without the quote before it.

    Raises:
        BadMark: if it is not one.
    """
    begin = data.find(b"~", 0, 2) + 1
    try:
        flow, sequence = divmod(int(data[begin : begin + _KEY]), SEQUENCES)
        return Sighting(flow, sequence, int(data[begin + _KEY : begin + _KEY + _STAMP]))
    except ValueError:
        raise BadMark(f"not a mark: {data[:200]!r}") from None


def read_deliveries(text: bytes, count: int) -> Deliveries:
    """The marks in a frame of `count` messages.

    Raises:
        BadMark: if there are not as many marks, or one is not a mark.
    """
    marks = text.split(b"~")[1::2]
    if len(marks) != count:
        raise BadMark(f"{count} messages with {len(marks)} marks: {text[:200]!r}")
    try:
        return Deliveries(count, runs_of([int(mark[:_KEY]) for mark in marks]), [int(mark[_KEY:]) for mark in marks])
    except ValueError:
        raise BadMark(f"not a mark: {text[:200]!r}") from None


def read_ids(text: bytes, count: int) -> list[Run]:
    """The keys in a frame of `count` answers to publishes.

    Raises:
        BadMark: if there are not as many ids, or one is not a key.
    """
    ids = text.split(b'"id":"')[1:]
    if len(ids) != count:
        raise BadMark(f"{count} answers with {len(ids)} ids: {text[:200]!r}")
    try:
        return runs_of([int(id[:_KEY]) for id in ids])
    except ValueError:
        raise BadMark(f"not an id of ours: {text[:200]!r}") from None


def runs_of(keys: list[int]) -> list[Run]:
    """Keys as runs, in order."""
    first, count = keys[0], len(keys)
    if keys[-1] - first == count - 1 and keys == list(range(first, first + count)):
        return [(first // SEQUENCES, first % SEQUENCES, count)]
    runs = []
    begin = 0
    for end in range(1, count + 1):
        if end == count or keys[end] != keys[end - 1] + 1:
            flow, sequence = divmod(keys[begin], SEQUENCES)
            runs.append((flow, sequence, end - begin))
            begin = end
    return runs
