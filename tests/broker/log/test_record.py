"""Records: what is encoded is decoded, whatever it holds; what is damaged is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.shard_log import line_of
from hubbub_broker.log.record import (
    MESSAGE,
    MESSAGE_BODY,
    MESSAGE_SIZE,
    VERSION,
    State,
    Tail,
    decode,
    encode_state,
    encode_tail,
    seal_record,
)

BIG = 2**63 - 1
names = st.from_regex(r"[a-z]{1,5}/[A-Za-z0-9.@-]{1,9}", fullmatch=True)


@given(names, st.binary(max_size=30), st.binary(max_size=90), st.integers(0, BIG), st.integers(0, 2**64 - 1))
def test_a_message_comes_back(topic, writer, body, number, hash_):
    line = line_of(topic, body)
    size = MESSAGE_SIZE + len(writer) + len(line)
    fixed = (size, MESSAGE, VERSION, 0, len(topic), len(writer), 7, number, number, 1.5, 2.5, hash_, hash_, number)
    message = decode(seal_record(9, MESSAGE_BODY.pack(*fixed) + writer + line))
    assert message == (topic, number, number, 1.5, 2.5, 7, hash_, hash_, writer, number, line)


@given(st.integers(0, 255), st.binary(max_size=30), st.binary(max_size=90))
def test_a_state_comes_back(kind, key, body):
    assert decode(seal_record(9, encode_state(kind, key, body, 1))) == State(kind, key, body)


@given(names, st.dictionaries(st.binary(max_size=9), st.tuples(st.integers(0, BIG), st.floats(0, 2e9)), max_size=5))
def test_a_tail_comes_back(topic, writers):
    tail = Tail(topic, 5, 6, 7.5, 8, writers)
    assert decode(seal_record(9, encode_tail(tail, 0))) == tail


@pytest.mark.parametrize(("at", "value"), [(12, 77), (13, 9)])
def test_an_unknown_kind_or_version_is_refused(at, value):
    record = bytearray(seal_record(9, encode_state(1, b"k", b"v", 0)))
    record[at] = value
    with pytest.raises(ValueError, match="newer program"):
        decode(bytes(record))
