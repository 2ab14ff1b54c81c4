"""One JSON Schema, compiled.

`jsonschema_rs` checks a small message in half a microsecond. Its regular expressions take time linear in the text, and
it fetches nothing: what a schema refers to has to be in it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jsonschema_rs

from hubbub_protocol.codec import decode_value, encode_value
from hubbub_protocol.errors import BadFrame, BadName
from hubbub_protocol.names import check_group, check_segment

from .extent import check_extent
from .refusal import BadSchema

REASON_CHARS_MAX = 300
"""Characters of what is wrong with a message: a schema may list a thousand allowed values."""
POINTER_CHARS_MAX = 200

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=2**20, dfa_size_limit=2**20)
"""Linear time, and at most so many bytes for one compiled pattern."""


class SchemaLimits(NamedTuple):
    """What a schema may be at most."""

    max_schema_bytes: int


class Schema:
    """What the data of messages of one type in one group has to look like."""

    __slots__ = ("_validator", "document", "group", "type", "version")

    def __init__(self, group: str, type: str, version: int, document: dict[str, Any], validator: Any) -> None:
        self.group = group
        self.type = type
        self.version = version
        """Of the key that it is kept under: it grows with each change."""
        self.document = document
        self._validator = validator

    def misfit(self, data: bytes | memoryview) -> str | None:
        """Why some JSON text does not fit, naming the field as a JSON pointer; None if it does."""
        try:
            value = decode_value(data)
        except BadFrame as error:
            return f"`data` can't be checked: {str(error)[:REASON_CHARS_MAX]}"
        if self._validator.is_valid(value):
            return None
        wrong = next(iter(self._validator.iter_errors(value)))
        kind = wrong.kind
        path = [*wrong.instance_path]
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            path.append(str(kind.property))
            reason = "it is missing"
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.FalseSchema):
            reason = "nothing is allowed here"
        else:
            reason = wrong.message
        return f"`data{_pointer(path)}`: {reason[:REASON_CHARS_MAX]}"


def read_schema(group: str, type: str, document: Any, version: int, limits: SchemaLimits) -> Schema:
    """Compile a schema.

    Args:
        group: whose messages it is about.
        type: the `type` of messages that it is about: one segment, as of a topic.
        document: a JSON Schema: draft 2020-12 unless its `$schema` names another (4 to 2019-09). `format` is checked.
        version: of the key that it is kept under.
        limits: the broker's own.

    Raises:
        BadSchema: saying what is wrong, and where in the schema.
    """
    try:
        check_group(group)
        check_segment(type, "message type for a schema")
    except BadName as error:
        raise BadSchema("", str(error)) from None
    if not isinstance(document, dict):
        raise BadSchema("", 'a JSON Schema is an object such as {"type": "object", "required": ["task"]}')
    _check_size(document, limits)
    check_extent(document)
    try:
        validator = jsonschema_rs.validator_for(
            document, pattern_options=_PATTERNS, offline=True, validate_formats=True, mask="it"
        )
    except jsonschema_rs.ValidationError as error:
        raise BadSchema(_pointer(error.instance_path), error.message[:REASON_CHARS_MAX]) from None
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        raise BadSchema("", str(error)[:REASON_CHARS_MAX]) from None
    return Schema(group, type, version, document, validator)


def _check_size(document: dict[str, Any], limits: SchemaLimits) -> None:
    try:
        size = len(encode_value(document))
    except (TypeError, RecursionError) as error:
        raise BadSchema("", f"can't be written as JSON: {error}") from None
    if size > limits.max_schema_bytes:
        raise BadSchema("", f"takes {size} bytes, and at most {limits.max_schema_bytes} are allowed (max_schema_bytes)")


def _pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901), cut where somebody's key is a novel."""
    text = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return text if len(text) <= POINTER_CHARS_MAX else text[: POINTER_CHARS_MAX - 1] + "…"
