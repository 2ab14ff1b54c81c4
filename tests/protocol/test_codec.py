"""Bytes to frames and back, and what happens to bytes that are no frames."""

import json
import math
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbub_protocol import codec
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.frames import (
    BrokerFrame,
    ClientFrame,
    Entry,
    Frame,
    From,
    Hello,
    Msg,
    Ping,
    Pub,
    Published,
    Will,
    With,
)


@dataclass
class Reading:
    value: float


class Level(Enum):
    HIGH = math.inf
    LOW = 1.0


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        [math.nan],
        {"a": {"b": (None, math.inf)}},
        {math.inf},
        Reading(math.nan),
        [Level.HIGH],
        {"raw": msgspec.Raw(b"null"), "x": math.nan},
        {1: math.nan},
    ],
)
def test_a_number_that_json_has_not_is_found_wherever_it_is(value: Any) -> None:
    assert b"null" in codec.encode_value(value)
    with pytest.raises(ValueError, match="JSON"):
        codec.check_finite(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1.5, None],
        {"a": (None, "null")},
        {None, 1},
        Reading(1.0),
        [Level.LOW, None],
        msgspec.Raw(b"[null]"),
        {"raw": msgspec.Raw(b"null")},
        [datetime(2026, 1, 1, tzinfo=UTC), uuid4(), b"x", None],
        {uuid4(): None},
        {1.5: None},
    ],
)
def test_what_is_null_by_itself_is_let_through(value: Any) -> None:
    assert codec.encode_value(value)
    codec.check_finite(value)


# Strategies ---------------------------------------------------------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=20)
whole = st.integers(-(2**63), 2**63)
seconds = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | seconds | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
raw = json_values.map(lambda value: msgspec.Raw(codec.encode_value(value)))
starts = (
    st.sampled_from(["new", "all"])
    | st.builds(From, seq=whole, epoch=st.none() | text)
    | st.builds(From, last=whole)
    | st.builds(From, since=seconds, after=st.none() | st.dictionaries(text, whole, max_size=3))
)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: whole,
    float: seconds,
    bool: st.booleans(),
    msgspec.Raw: raw,
    str | From: starts,
    Will | None: st.none() | st.builds(Will, topic=text, data=raw, type=st.none() | text, delay=seconds),
    str | None: st.none() | text,
    int | None: st.none() | whole,
    float | None: st.none() | seconds,
    str | int | None: st.none() | text | whole,
    list[str] | None: st.none() | st.lists(text, max_size=3),
    list[msgspec.Raw] | None: st.none() | st.lists(raw, max_size=3),
    list[int] | None: st.none() | st.lists(whole, max_size=3),
    list[float] | None: st.none() | st.lists(seconds, max_size=3),
    dict[str, Any]: st.dictionaries(text, json_values, max_size=3),
    dict[str, Any] | None: st.none() | st.dictionaries(text, json_values, max_size=3),
    dict[str, msgspec.Raw]: st.dictionaries(text, raw, max_size=3),
    dict[str, int]: st.dictionaries(text, whole, max_size=3),
    dict[str, float]: st.dictionaries(text, seconds, max_size=3),
    list[str]: st.lists(text, max_size=3),
    int | dict[str, int] | None: st.none() | whole | st.dictionaries(text, whole, max_size=3),
    list[With]: st.lists(st.builds(With, topic=text, id=text, data=raw, ttl=st.none() | seconds), max_size=2),
    list[Entry] | None: st.none() | st.lists(st.builds(Entry, key=text, value=raw, version=whole), max_size=2),
    list[Published] | None: st.none()
    | st.lists(st.builds(Published, topic=text, id=text, seq=whole, lc=whole), max_size=2),
}


def frames_of(kind: type[Frame]) -> st.SearchStrategy[Frame]:
    """Frames of one class: required fields always, the others sometimes."""
    fields = msgspec.structs.fields(kind)
    given_always = {field.name: BY_TYPE[field.type] for field in fields if field.required}
    given_sometimes = {field.name: BY_TYPE[field.type] for field in fields if not field.required}
    return st.fixed_dictionaries(given_always, optional=given_sometimes).map(lambda values: kind(**values))


client_frames = st.one_of(*map(frames_of, get_args(ClientFrame)))
broker_frames = st.one_of(*map(frames_of, get_args(BrokerFrame)))
whatever = st.binary(max_size=200)

# Round trips --------------------------------------------------------------------------------------------------------


@given(client_frames)
def test_a_client_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert codec.decode_client(codec.encode(frame)) == frame


@given(broker_frames)
def test_a_broker_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert codec.decode_broker(codec.encode(frame)) == frame


@given(client_frames | broker_frames)
def test_a_frame_is_one_line_of_json_with_its_op(frame: Frame) -> None:
    line = codec.encode(frame)
    assert b"\n" not in line
    assert json.loads(line)["op"] == type(frame).__struct_config__.tag


@given(st.lists(client_frames, min_size=1, max_size=4))
def test_lines_of_a_text_frame_can_be_told_apart(many: list[Frame]) -> None:
    joined = b"\n".join(map(codec.encode, many))
    assert [codec.decode_client(line) for line in joined.split(b"\n")] == many


@given(client_frames)
def test_another_json_library_may_write_it(frame: Frame) -> None:
    as_others_would = json.dumps(json.loads(codec.encode(frame)), ensure_ascii=True).encode()
    read = codec.decode_client(as_others_would)
    assert json.loads(codec.encode(read)) == json.loads(codec.encode(frame))


@given(json_values)
def test_values_come_back_as_they_were(value: object) -> None:
    assert codec.decode_value(codec.encode_value(value)) == value


@given(whatever, whatever)
def test_a_binary_frame_comes_apart_as_it_was_joined(header: bytes, payload: bytes) -> None:
    joined = codec.join_binary(header, payload)
    assert joined[:4] == len(header).to_bytes(4, "big")
    assert codec.split_binary(joined) == (header, payload)


# Hostile input ------------------------------------------------------------------------------------------------------

PUB = b'{"op":"pub","topic":"a/b","id":"1","data":%b}'
NOT_FRAMES = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"3",
    b'"hello"',
    b"{}",
    b"{",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf" + b'{"op":"ping"}',  # a byte order mark
    '{"op":"ping"}'.encode("utf-16"),
    b'{"op":1}',
    b'{"op":null}',
    b'{"op":"nonsense"}',
    b'{"op":"PING"}',
    b'{"op":"welcome"}',  # the broker's, not a client's
    b'{"op":"ping"} {"op":"ping"}',
    b'{"op":"ping"}{"op":"ping"}',
    b'{"op":"ping",}',
    b"{'op':'ping'}",
    b'{"op":"ping","rid":1.5}',
    b'{"op":"ping","rid":[1]}',
    b'{"op":"ping","rid":true}',
    b'{"op":"hello"}',
    b'{"op":"hello","agent":null}',
    b'{"op":"hello","agent":["joe"]}',
    b'{"op":"hello","agent":"joe","groups":"all"}',
    b'{"op":"pub","topic":"a/b"}',
    b'{"op":"pub","id":"1"}',
    b'{"op":"pub","topic":"a/b","id":1}',
    b'{"op":"pub","topic":"a/b","id":"1","lc":1.5}',
    b'{"op":"pub","topic":"a/b","id":"1","lc":"1"}',
    b'{"op":"pub","topic":"a/b","id":"1","ttl":1e999}',
    b'{"op":"pub","topic":"a/b","id":"1","ttl":NaN}',
    b'{"op":"pub","topic":"a/b","id":"1","ephemeral":1}',
    b'{"op":"sub","topic":"a/b","from":7}',
    b'{"op":"sub","topic":"a/b","from":{"seq":"7"}}',
    b'{"op":"ack","topic":"a/b","consumer":"c","seqs":7}',
]
NOT_VALUES = [
    b"",
    b"tru",
    b"NaN",
    b"Infinity",
    b"-",
    b"01",
    b"1.",
    b'"a',
    b'"\x01"',
    b'"\\x"',
    b'"\\ud800"',
    b"[1,]",
    b"{1:2}",
]


@pytest.mark.parametrize("line", NOT_FRAMES, ids=lambda line: ascii(line)[:40])
def test_what_is_no_frame_is_refused_with_a_reason(line: bytes) -> None:
    with pytest.raises(BadFrame) as refusal:
        codec.decode_client(line)
    assert str(refusal.value)
    assert refusal.value.__suppress_context__, "the library's own exception is not shown to users"


@pytest.mark.parametrize("value", NOT_VALUES, ids=ascii)
def test_user_data_that_is_not_json_is_refused(value: bytes) -> None:
    with pytest.raises(BadFrame):
        codec.decode_client(PUB % value)
    with pytest.raises(BadFrame):
        codec.decode_value(value)


@pytest.mark.parametrize("field", [b"data", b"headers", b"colour"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"], ids=ascii)
def test_what_is_not_utf_8_does_not_pass_unread(field: bytes, bad: bytes) -> None:
    """User data is not decoded on its way; a subscriber would have to close its connection for it (RFC 6455, 8.1)."""
    with pytest.raises(BadFrame, match="UTF-8"):
        codec.decode_client(b'{"op":"pub","topic":"a/b","id":"1","%b":"%b"}' % (field, bad))


@pytest.mark.parametrize("field", [b"data", b"headers", b"colour"])
def test_a_newline_inside_an_object_does_not_pass_as_a_second_line(field: bytes) -> None:
    forged = codec.encode(Msg(topic="a/b", id="2", sender="the boss", ts=0.0, lc=9, seq=9))
    with pytest.raises(BadFrame, match="newline"):
        codec.decode_client(b'{"op":"pub","topic":"a/b","id":"1","%b":[\n%b\n]}' % (field, forged))


@given(whatever)
@example(b'{"op":"ping"}')
def test_whatever_bytes_come_the_answer_is_a_frame_or_a_refusal(line: bytes) -> None:
    for decode in (codec.decode_client, codec.decode_broker):
        with suppress(BadFrame):
            assert isinstance(decode(line), Frame)


@given(st.lists(client_frames, min_size=1, max_size=4), st.data())
def test_lines_that_are_read_in_one_go_are_what_they_are_one_by_one(many: list[Frame], data: st.DataObject) -> None:
    """Damaged or not: whenever one of them would be refused, they are not read in one go."""
    text = bytearray(b"\n".join(map(codec.encode, many)))
    for _ in range(data.draw(st.integers(0, 2))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from([*b'\n{}[]",:0 \t', 0xE9]))
    found = codec.decode_client_lines(bytes(text))
    if found is not None:
        assert found == [codec.decode_client(line) for line in bytes(text).split(b"\n")]


@given(client_frames, st.data())
def test_a_damaged_frame_is_read_or_refused_and_what_is_read_can_be_sent(frame: Frame, data: st.DataObject) -> None:
    line = bytearray(codec.encode(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = codec.decode_client(bytes(line))
    except BadFrame:
        return
    again = codec.encode(read)
    again.decode("utf-8")
    assert b"\n" not in again
    codec.decode_client(again)


@given(client_frames, st.data())
def test_half_a_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    line = codec.encode(frame)
    with pytest.raises(BadFrame):
        codec.decode_client(line[: data.draw(st.integers(0, len(line) - 1))])


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_nesting_too_deep_to_read_is_refused(opening: bytes) -> None:
    closing = {b"[": b"]", b'{"a":': b"}"}[opening]
    deep = opening * 100_000 + b"1" + closing * 100_000
    with pytest.raises(BadFrame, match="recursion"):
        codec.decode_client(PUB % deep)
    with pytest.raises(BadFrame, match="recursion"):
        codec.decode_value(deep)


@pytest.mark.parametrize("depth", [0, 300, 800])
def test_what_was_taken_is_read_wherever_it_is_read(depth: int) -> None:
    """How deep text may be nested depends on how much of the stack is in use."""
    data = b"[" * 900 + b"]" * 900
    line = b'{"op":"msg","topic":"g/t","id":"p","from":"a","ts":1.0,"lc":1,"data":%b}' % data
    limit = sys.getrecursionlimit()

    def at(calls: int) -> None:
        if calls:
            return at(calls - 1)
        message = codec.decode_broker(line)
        assert isinstance(message, Msg)
        assert bytes(message.data) == data
        assert codec.decode_stored(line) == (message, None)
        assert bytes((codec.members_of(b'{"a":%b}' % data) or {})["a"]) == data
        assert codec.reader_of(_Id)(line).id == "p"
        return None

    at(depth)
    assert sys.getrecursionlimit() == limit


def test_what_is_nested_without_an_end_is_refused_wherever_it_is_read() -> None:
    line = b'{"op":"msg","topic":"g/t","id":"p","from":"a","ts":1.0,"lc":1,"data":' + b"[" * 3_000_000
    with pytest.raises(BadFrame):
        codec.decode_broker(line)
    assert codec.members_of(b"{" * 3_000_000) is None


class _Id(msgspec.Struct):
    id: str


def test_nesting_that_people_use_is_read() -> None:
    deep = b"[" * 200 + b"]" * 200
    assert sys.getrecursionlimit() >= 1000
    pub = codec.decode_client(PUB % deep)
    assert isinstance(pub, Pub)
    assert bytes(pub.data) == deep
    assert codec.decode_value(deep)


def test_numbers_too_large_to_hold_are_refused_and_not_made_infinite() -> None:
    with pytest.raises(BadFrame):
        codec.decode_value(b"1e999")
    assert math.isfinite(codec.decode_value(b"1e308"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_can_not_hold_becomes_null(value: float) -> None:
    assert codec.encode_value({"x": value}) == b'{"x":null}'


def test_what_is_no_value_at_all_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        codec.encode_value(object())


# What an `err` can refer to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reference"),
    [
        (b'{"op":"nonsense","rid":7,"id":"x"}', (7, "x")),
        (b'{"op":"pub","topic":3,"id":"x"}', (None, "x")),
        (b'{"op":"pub","rid":"r"}', ("r", None)),
        (b'{"rid":[1],"id":"x"}', (None, None)),
        (b"nonsense", (None, None)),
        (b"", (None, None)),
        (b'{"id":' + b"[" * 100_000, (None, None)),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_the_reference_of_a_bad_line_is_read_so_far_as_it_can_be(
    line: bytes, reference: tuple[str | int | None, str | None]
) -> None:
    assert codec.reference_of(line) == reference


@given(whatever)
def test_no_bytes_keep_the_reference_from_being_looked_for(line: bytes) -> None:
    rid, message_id = codec.reference_of(line)
    assert rid is None or isinstance(rid, str | int)
    assert message_id is None or isinstance(message_id, str)


# Many lines at once, and JSON that people wrote -----------------------------------------------------------------------


@given(st.lists(broker_frames, min_size=1, max_size=4))
def test_the_lines_of_the_broker_s_frame_are_read_in_one_go(many: list[Frame]) -> None:
    assert codec.decode_broker_lines(b"\n".join(map(codec.encode, many))) == many


@pytest.mark.parametrize("bad", [b"{", b"[]", b'{"op":"hello","agent":"joe"}', b'{"op":"pong"} 7', b"\xff"], ids=ascii)
def test_one_bad_line_of_many_is_told(bad: bytes) -> None:
    with pytest.raises(BadFrame):
        codec.decode_broker_lines(b'{"op":"pong"}\n%b\n{"op":"pong"}' % bad)


read_publishes = codec.decoder_of(Pub | list[Pub])


@given(frames_of(Pub), st.sampled_from([0, 1, 4]))
def test_json_laid_out_for_people_reads_like_a_line(frame: Frame, indent: int) -> None:
    pretty = msgspec.json.format(codec.encode(frame), indent=indent)
    assert json.loads(codec.encode(read_publishes(pretty))) == json.loads(codec.encode(frame))
    (one,) = read_publishes(b"[\n" + pretty + b"\n]\n")
    assert b"\n" not in codec.encode(one)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"{\n",
        b"7",
        b'{"op":"ping"}',
        b'{"topic":"a/b","id":"1","data":"\xff"}',
        b'{\n"topic":"a/b","id":"1","data":"\xff"}',
        b'{"topic":"a/b","id":"1","data":"a\nb"}',
        b'{"topic":"a/b","id":"1",\n"data":"a\nb"}',
        b'{"topic":"a/b","id":"1","data":\n' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'[{"topic":"a/b","id":"1"},\n{"topic":"a/b"}]',
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_what_is_not_a_publish_is_refused_however_it_is_laid_out(text: bytes) -> None:
    with pytest.raises(BadFrame):
        read_publishes(text)


@given(whatever)
@example(b'{"topic":"a/b","id":"1","data":\n[1,\n2]}')
def test_whatever_bytes_come_what_is_read_is_one_line(text: bytes) -> None:
    with suppress(BadFrame):
        read = read_publishes(text)
        for frame in read if isinstance(read, list) else [read]:
            line = codec.encode(frame)
            assert b"\n" not in line
            line.decode()


# Binary frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame", [b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\5abcd", b"\xff\xff\xff\xffabc"], ids=ascii
)
def test_a_binary_frame_shorter_than_it_says_is_refused(frame: bytes) -> None:
    with pytest.raises(BadFrame, match="header"):
        codec.split_binary(frame)


@given(whatever)
def test_a_binary_frame_comes_apart_or_is_refused(frame: bytes) -> None:
    try:
        header, payload = codec.split_binary(frame)
    except BadFrame:
        return
    assert codec.join_binary(header, payload) == frame


def test_an_empty_header_and_an_empty_payload_are_what_they_are() -> None:
    assert codec.split_binary(b"\0\0\0\0") == (b"", b"")
    assert codec.split_binary(codec.join_binary(codec.encode(Ping()), b""))[0] == codec.encode(Ping())


def test_a_frame_is_not_read_by_the_other_end() -> None:
    with pytest.raises(BadFrame):
        codec.decode_broker(codec.encode(Hello(agent="joe")))


def test_a_publish_that_is_kept_does_not_keep_what_it_came_with() -> None:
    lines = b"\n".join(b'{"op":"pub","topic":"g/c","id":"%d","data":[1],"headers":{"a":"b"}}' % n for n in range(2))
    alone = sys.getrefcount(lines)
    found = codec.decode_client_lines(lines)
    assert found is not None
    first = found[0]
    assert isinstance(first, Pub)
    assert sys.getrefcount(lines) > alone
    stays = codec.kept(first)
    assert stays == first
    del found, first
    assert sys.getrefcount(lines) == alone
    assert (bytes(stays.data), bytes(stays.headers)) == (b"[1]", b'{"a":"b"}')
