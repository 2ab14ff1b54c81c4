"""Marks: what is written into messages is what is read from frames."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_bench.drivers.mark import MARK_BYTES, SEQUENCES, BadMark, pattern, read_deliveries, read_ids, runs_of


def message(flow: int, sequence: int, stamp: int, size: int = 64) -> bytes:
    data = pattern(size) % (flow * SEQUENCES + sequence, stamp)
    return b'{"op":"msg","topic":"g/t","id":"x","data":"' + data + b'"}'


@pytest.mark.parametrize("size", [MARK_BYTES, MARK_BYTES + 1, 128, 1024])
def test_a_payload_has_the_size_that_was_asked_for(size: int) -> None:
    assert len(pattern(size) % (7, 8)) == size


def test_a_frame_of_one_publishers_messages_is_one_run() -> None:
    text = b"\n".join(message(3, sequence, 100 + sequence) for sequence in (7, 8, 9))
    found = read_deliveries(text, 3)
    assert (found.count, found.runs, found.stamps) == (3, [(3, 7, 3)], [107, 108, 109])


def test_publishers_and_holes_part_runs() -> None:
    text = b"\n".join([message(1, 1, 0), message(1, 2, 0), message(2, 3, 0), message(1, 4, 0), message(1, 4, 0)])
    assert read_deliveries(text, 5).runs == [(1, 1, 2), (2, 3, 1), (1, 4, 1), (1, 4, 1)]


def test_messages_without_a_mark_are_refused() -> None:
    with pytest.raises(BadMark, match="2 messages with 1 marks"):
        read_deliveries(message(1, 1, 0) + b'\n{"op":"msg","topic":"g/t","data":"who is this?"}', 2)
    with pytest.raises(BadMark, match="not a mark"):
        read_deliveries(b'{"op":"msg","data":"~hello~"}', 1)


def test_answers_are_read_by_id() -> None:
    lines = [b'{"op":"ok","id":"%016d","topic":"g/t","seq":%d}' % (2 * SEQUENCES + number, number) for number in (4, 5)]
    assert read_ids(b"\n".join(lines), 2) == [(2, 4, 2)]
    with pytest.raises(BadMark):
        read_ids(b'{"op":"ok","id":"somebody else\'s"}', 1)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_runs_are_the_keys_again(keys: list[int]) -> None:
    runs = runs_of(keys)
    assert [flow * SEQUENCES + first + index for flow, first, count in runs for index in range(count)] == keys
    joints = [(a[1] + a[2], b[1]) for a, b in pairwise(runs)]
    assert all(end != begin for end, begin in joints), "two runs that are one"
