"""What a reader wants of a topic: what `where` and `select` mean, and what is none."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import filter_oracle
from hubbub_protocol import codec
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.filters import Filter, FilterLimits, View, filter_of
from hubbub_protocol.frames import NO_DATA, Msg

NAMES = ["a", "b", "a.b", "c~/d", "ü", "hops"]
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -0.0]) | st.sampled_from("aäbz")
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
messages = st.fixed_dictionaries(
    {"topic": st.just("g/c"), "id": st.sampled_from("xyz"), "from": st.sampled_from(["joe", "ann"])},
    optional={
        "type": st.sampled_from(["task", "result", "tas"]),
        "parent": st.sampled_from("xyz"),
        "reply_to": st.just("g/@joe"),
        "headers": objects,
        "data": values,
    },
)


def pointer(steps: list[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


below = st.lists(st.sampled_from(NAMES), max_size=3)
inner_paths = st.builds(
    lambda root, steps: pointer([root, *steps]), st.sampled_from(["data", "headers"]), below
) | st.builds(
    lambda root, steps: ".".join([root, *steps]),
    st.sampled_from(["data", "headers"]),
    st.lists(st.sampled_from(["a", "b", "ü"]), max_size=3),
)
paths = st.sampled_from(["type", "from", "id", "parent", "reply_to"]) | inner_paths
tests = scalars | st.fixed_dictionaries(
    {},
    optional={
        "==": scalars,
        "!=": scalars,
        "<": st.integers(-3, 3) | st.sampled_from("ab"),
        "<=": st.integers(-3, 3) | st.sampled_from("ab"),
        ">": st.integers(-3, 3) | st.sampled_from("ab"),
        ">=": st.sampled_from([0.5, 1]) | st.sampled_from("ab"),
        "in": st.lists(scalars, max_size=3),
        "exists": st.booleans(),
        "prefix": st.sampled_from(["", "t", "ä"]),
    },
).filter(bool)
wheres = st.recursive(
    st.dictionaries(paths, tests, max_size=3),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "all": st.lists(inner, min_size=1, max_size=2),
            "any": st.lists(inner, min_size=1, max_size=2),
            "not": inner,
            "type": tests,
        },
    ),
    max_leaves=4,
)
selects = st.none() | st.lists(inner_paths, max_size=3)
ROOMY = FilterLimits(bytes=1 << 20, depth=100, tests=1000)


def view_of(line: dict[str, Any]) -> View:
    text = json.dumps({"op": "msg", "ts": 1.5, "lc": 1, **line}, ensure_ascii=False).encode()
    frame = codec.decode_broker(text)
    assert isinstance(frame, Msg)
    return View(frame)


def value_of(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw)) if raw else filter_oracle.ABSENT


@given(messages, wheres)
def test_what_comes_is_what_it_says(line: dict[str, Any], where: dict[str, Any]) -> None:
    assert Filter(where, None, ROOMY).matches(view_of(line)) == filter_oracle.matches(line, where)


@given(messages, selects)
def test_what_is_left_is_what_was_selected(line: dict[str, Any], select: list[str] | None) -> None:
    headers, data, _ = Filter(None, select, ROOMY).cut(view_of(line))
    expected = filter_oracle.cut(line, select)
    assert value_of(headers) == expected.get("headers", filter_oracle.ABSENT)
    assert value_of(data) == expected.get("data", filter_oracle.ABSENT)


@given(wheres, selects)
def test_the_same_wish_in_another_order_is_the_same_filter(where: dict[str, Any], select: list[str] | None) -> None:
    one = Filter(where, select, ROOMY)
    turned = dict(reversed(where.items()))
    other = Filter(turned, None if select is None else [*reversed(select), *select], ROOMY)
    assert (one == other, hash(one) == hash(other)) == (True, True)


@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)), wheres)
def test_whatever_is_no_filter_is_refused_as_such(value: Any, where: dict[str, Any]) -> None:
    for candidate in (value, {**where, "type": value}, {**where, "all": value}, {"data.x": {"in": value}}):
        try:
            found = Filter(candidate, None, ROOMY)
        except BadFrame:
            pass
        else:
            assert found.matches(view_of({"topic": "g/c", "id": "x", "from": "joe"})) in (True, False)


LINE = {
    "topic": "g/c",
    "id": "x",
    "from": "joe",
    "type": "result",
    "headers": {"priority": 3, "trace.id": "t1"},
    "data": {"tags": ["red", "blue"], "parts": [{"n": 1}, {"n": 5}], "title": "A", "deep": {"x": None}},
}


class TestMeaning:
    @pytest.mark.parametrize(
        ("where", "wanted"),
        [
            ({}, True),
            ({"type": "result"}, True),
            ({"type": {"prefix": "res"}, "from": {"in": ["ann", "joe"]}}, True),
            ({"type": "result", "from": "ann"}, False),
            ({"headers.priority": {">=": 3, "<": 4}}, True),
            ({"headers.priority": {">": 3}}, False),
            ({"headers.priority": "3"}, False),
            ({"/headers/trace.id": "t1"}, True),
            ({"data.tags": "blue"}, True),
            ({"data.tags": {"!=": "blue"}}, False),
            ({"data.parts.n": {">": 4}}, True),
            ({"data.missing": {"exists": False}}, True),
            ({"data.missing": {"!=": 1}}, True),
            ({"data.missing": {"<": 1}}, False),
            ({"data.deep.x": None}, True),
            ({"data.deep.y": None}, False),
            ({"any": [{"type": "task"}, {"data.title": "A"}]}, True),
            ({"all": [{"type": "result"}, {"not": {"data.title": "A"}}]}, False),
            ({"headers.priority": {"in": [3.0, "x"]}}, True),
            ({"headers.priority": True}, False),
        ],
    )
    def test_where(self, where: dict[str, Any], wanted: bool) -> None:
        assert Filter(where, None).matches(view_of(LINE)) is wanted

    def test_select_keeps_the_text_as_it_was(self) -> None:
        text = b'{"a":1.50,"big":123456789012345678901234567890,"odd":1e999,"b":[{"n":2,"m":0},7,{"m":1}]}'
        frame = Msg(topic="g/c", id="x", sender="joe", ts=1, lc=1, data=msgspec.Raw(text))
        _, data, _ = Filter(None, ["data.a", "data.big", "data.odd", "data.b.n", "data.none"]).cut(View(frame))
        assert bytes(data) == (b'{"a":1.50,"b":[{"n":2},{}],"big":123456789012345678901234567890,"odd":1e999}')

    @pytest.mark.parametrize("select", [[], ["data"], ["headers.a"], ["headers.hops.x", "headers.a"]])
    def test_what_clients_read_by_themselves_comes_whatever_is_selected(self, select: list[str]) -> None:
        always = {
            "attachments": [{"sha256": "00"}],
            "cause": {"topic": "g/t", "id": "1"},
            "hops": 3,
            "in_reply_to": "q",
            "reply_durably": True,
            "vc": {"joe": 1},
        }
        for name, value in always.items():
            line = {"topic": "g/c", "id": "x", "from": "joe", "headers": {"b": 1, name: value}, "data": 1}
            headers, _, _ = Filter(None, select).cut(view_of(line))
            assert value_of(headers) == {name: value}
        line = {"topic": "g/c", "id": "x", "from": "joe", "headers": {"b": 1}, "data": 1}
        headers, _, _ = Filter(None, ["data"]).cut(view_of(line))
        assert headers == NO_DATA

    def test_bytes_have_no_fields_and_come_if_data_is_selected(self) -> None:
        frame = Msg(topic="g/c", id="x", sender="joe", ts=1, lc=1, headers=msgspec.Raw(b'{"a":1,"b":2}'))
        view = View(frame, binary=True)
        assert Filter({"data": {"exists": True}}, None).matches(view) is False
        assert Filter({"headers.a": 1}, None).matches(view) is True
        assert Filter(None, ["headers.b"]).cut(view) == (msgspec.Raw(b'{"b":2}'), NO_DATA, False)
        assert Filter(None, ["data", "headers"]).cut(view) == (frame.headers, NO_DATA, True)
        assert Filter(None, ["data.a"]).cut(view) == (NO_DATA, NO_DATA, False)

    def test_data_that_no_reader_can_read_has_no_fields(self) -> None:
        frame = Msg(topic="g/c", id="x", sender="joe", ts=1, lc=1, data=msgspec.Raw(b'{"a":1e999}'))
        assert Filter({"data": {"exists": False}}, None).matches(View(frame)) is True

    def test_nothing_asked_for_is_no_filter(self) -> None:
        assert filter_of(None, None) is None
        assert filter_of({}, None) is None
        assert filter_of(None, []) == Filter(None, [])
        assert filter_of({"type": "x"}, None) != filter_of({"type": "x"}, [])


class TestRefusals:
    @pytest.mark.parametrize(
        ("where", "select", "why"),
        [
            ({"colour": "red"}, None, "names nothing of a message"),
            ({"type.x": "red"}, None, "names nothing of a message"),
            ({"": 1}, None, "names nothing of a message"),
            ({"type": {}}, None, "is empty"),
            ({"type": {"like": "x"}}, None, "no operator"),
            ({"type": {"==": [1]}}, None, "is compared with"),
            ({"type": ["x"]}, None, "is compared with"),
            ({"type": {"<": None}}, None, "takes a number or a string"),
            ({"type": {"<": True}}, None, "takes a number or a string"),
            ({"type": {"in": "x"}}, None, "takes a list"),
            ({"type": {"exists": 1}}, None, "takes true or false"),
            ({"type": {"prefix": 1}}, None, "takes a string"),
            ({"all": []}, None, "list of one filter or more"),
            ({"any": {"type": "x"}}, None, "list of one filter or more"),
            ({"not": [1]}, None, "is an object of tests"),
            (None, ["from"], "always comes"),
            (None, [1], "a path is a string"),
            (None, ["body"], "names nothing of a message"),
        ],
    )
    def test_each_says_what_is_wrong(self, where: Any, select: Any, why: str) -> None:
        with pytest.raises(BadFrame, match=why):
            Filter(where, select)

    def test_the_limits_are_named(self) -> None:
        with pytest.raises(BadFrame, match=r"max_filter_bytes\) is 64"):
            Filter({"type": "x" * 80}, None, FilterLimits(bytes=64))
        many = {"all": [{"type": {">": "a", "<": "b"}}, {"not": {"id": "1", "from": {"in": ["a", "b", "c"]}}}]}
        with pytest.raises(BadFrame, match=r"4 tests; the limit \(max_filter_tests\) is 3"):
            Filter(many, None, FilterLimits(tests=3))
        assert Filter(many, None, FilterLimits(tests=4)).where == many
        nested: dict[str, Any] = {"type": "x"}
        for _ in range(3):
            nested = {"not": nested}
        with pytest.raises(BadFrame, match=r"3 levels, the limit \(max_filter_depth\)"):
            Filter(nested, None, FilterLimits(depth=3))
        assert Filter(nested, None, FilterLimits(depth=4)).where == nested
        with pytest.raises(BadFrame, match=r"4 steps; the limit \(max_filter_depth\) is 3"):
            Filter({"data.a.b.c": 1}, None, FilterLimits(depth=3))
