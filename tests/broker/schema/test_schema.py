"""One JSON Schema: what it lets pass, what it says of what does not fit, and what is refused as a schema."""

import time
from typing import Any

import pytest

from hubbub_broker.schema import BadSchema, SchemaLimits, read_schema
from hubbub_protocol.codec import encode_value

LIMITS = SchemaLimits(max_schema_bytes=65_536)
TASK = {
    "type": "object",
    "required": ["task"],
    "properties": {
        "task": {"type": "string", "minLength": 1},
        "scores": {"type": "array", "items": {"type": "number", "maximum": 1}},
        "a/b~c": {"type": "integer"},
        "when": {"format": "date-time"},
    },
    "additionalProperties": False,
}


def misfit(document: dict[str, Any], data: Any) -> str | None:
    return read_schema("g", "t", document, 1, LIMITS).misfit(encode_value(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"task": "x", "scores": [0.5, 1]}, None),
        ({}, "`data/task`: it is missing"),
        ({"task": ""}, "`data/task`: it is shorter than 1 character"),
        ({"task": "x", "scores": [0.5, 2]}, "`data/scores/1`: it is greater than the maximum of 1"),
        ({"task": "x", "a/b~c": "y"}, '`data/a~1b~0c`: it is not of type "integer"'),
        ({"task": "x", "when": "soon"}, '`data/when`: it is not a "date-time"'),
        ({"task": "x", "extra": 1}, "`data`: Additional properties are not allowed ('extra' was unexpected)"),
        ("text", '`data`: it is not of type "object"'),
    ],
)
def test_what_does_not_fit_is_told_by_field(data: Any, said: str | None) -> None:
    assert misfit(TASK, data) == said


def test_nobody_s_data_is_repeated_and_no_reason_is_long() -> None:
    words = [f"word{number}" for number in range(1000)]
    said = misfit({"enum": words}, "secret")
    assert said is not None
    assert "secret" not in said
    assert len(said) < 400
    said = misfit({"additionalProperties": {"type": "null"}}, {"k" * 10_000: 1})
    assert said is not None
    assert len(said) < 700


def test_data_that_is_nested_too_deep_to_read_does_not_fit() -> None:
    said = read_schema("g", "t", {"items": {"$ref": "#"}}, 1, LIMITS).misfit(b"[" * 5000 + b"]" * 5000)
    assert said is not None
    assert "can't be checked" in said


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]
)
def test_a_schema_may_name_its_draft(draft: str) -> None:
    assert misfit({"$schema": draft, "type": "integer"}, 3) is None
    assert misfit({"$schema": draft, "type": "integer"}, "3") is not None


def test_a_schema_may_refer_to_itself_and_to_its_parts() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}},
    }
    assert misfit(tree, {"next": {"next": {"n": 3}}}) is None
    assert misfit(tree, {"next": {"next": {"n": "x"}}}) == '`data/next/next/n`: it is not of type "integer"'


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (True, "a JSON Schema is an object"),
        ([], "a JSON Schema is an object"),
        ({"type": "strin"}, "/type: "),
        ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum: "),
        ({"pattern": "("}, "/pattern: "),
        ({"pattern": "(?=a)b"}, "/pattern: "),
        ({"pattern": "(a{1000}){1000}"}, "/pattern: "),
        ({"$schema": "http://example.org/mine"}, "Unknown meta-schema"),
        (
            {"properties": {"a": {"$ref": "http://example.org/x.json"}}},
            "/properties/a/$ref: refers to 'http://example.org",
        ),
        ({"$ref": "file:///etc/passwd"}, "/$ref: refers to 'file:///etc/passwd'"),
        ({"$ref": "#/$defs/none"}, "/$ref: refers to '#/$defs/none', and there is nothing"),
        ({"$dynamicRef": "#x"}, "/$dynamicRef: is not supported"),
        ({"properties": {"a": {"$id": "http://example.org/a"}}}, "/properties/a/$id: is not supported below the top"),
        ({"description": "x" * 70_000}, "at most 65536 are allowed (max_schema_bytes)"),
    ],
)
def test_what_can_t_be_used_is_refused_with_the_place(document: Any, said: str) -> None:
    with pytest.raises(BadSchema) as caught:
        read_schema("g", "t", document, 1, LIMITS)
    assert said in str(caught.value)


@pytest.mark.parametrize(("group", "type"), [("a/b", "t"), ("g", "a b"), ("g", ""), ("g", "x" * 200)])
def test_group_and_type_are_one_segment_each(group: str, type: str) -> None:
    with pytest.raises(BadSchema, match="bad "):
        read_schema(group, type, {}, 1, LIMITS)


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(levels):
        document = {"not": document}
    return document


def doubling(levels: int) -> dict[str, Any]:
    parts: dict[str, Any] = {"d0": {"type": "integer"}}
    for level in range(1, levels + 1):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        parts[f"d{level}"] = {"allOf": [below, dict(below)]}
    return {"$defs": parts, "$ref": f"#/$defs/d{levels}"}


def chain(length: int) -> dict[str, Any]:
    parts: dict[str, Any] = {"d0": {}}
    parts |= {f"d{number}": {"$ref": f"#/$defs/d{number - 1}"} for number in range(1, length)}
    return {"$defs": parts, "$ref": f"#/$defs/d{length - 1}"}


def test_what_would_take_for_ever_is_refused_in_no_time() -> None:
    start = time.process_time()
    for document, said in ((doubling(60), "10000 parts"), (nested(70), "64 levels"), (chain(900), "256 steps")):
        with pytest.raises(BadSchema, match=said):
            read_schema("g", "t", document, 1, LIMITS)
    assert time.process_time() - start < 5
    assert misfit(doubling(8), 3) is None
    assert misfit(nested(60), 3) is None


def test_a_pattern_takes_time_linear_in_the_text() -> None:
    schema = read_schema("g", "t", {"pattern": "^(a+)+$"}, 1, LIMITS)
    start = time.process_time()
    assert schema.misfit(encode_value("a" * 100_000 + "b")) is not None
    assert time.process_time() - start < 5
