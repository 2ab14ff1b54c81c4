"""One setting: its unit and bounds, how it is read, how it is shown, and what is allowed, in words.

The bounds stand beside the field once; reading, checking, refusing and documenting all go by them.
"""

import difflib
import json
import math
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from .quantity import format_duration, format_size, parse_duration, parse_size


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    off: str = "",
    secret: bool = False,
) -> Any:
    """A field with its bounds.

    `off` says what 0 means where 0 is allowed besides `least` to `most`. The value of a `secret` one is never shown.
    """
    return Field(
        default=default,
        description=description,
        json_schema_extra={"unit": unit, "least": least, "most": most, "off": off, "secret": secret},
    )


SECRET_SHOWN = "***"  # noqa: S105 - stands where a secret would
"""Stands for the value of a secret setting wherever settings are shown."""


def extra_of(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def kind_of(field: FieldInfo) -> Any:
    """The field's type, without its `| None`."""
    kind = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        return next(arg for arg in get_args(kind) if arg is not type(None))
    return kind


def show(field: FieldInfo, value: Any) -> str:
    """A value of `field` as a person would write it in a TOML file."""
    unit = extra_of(field).get("unit")
    if value is None:
        return '""'
    if unit in ("bytes", "s"):
        text = format_size(int(value)) if unit == "bytes" else format_duration(float(value))
        return text if text.isdigit() else f'"{text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    if isinstance(value, SecretStr):
        value = SECRET_SHOWN if value else ""
    text = json.dumps(value if isinstance(value, tuple) else str(value), ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")  # TOML takes JSON's strings, but for that and for pairs of surrogates


def allowed(field: FieldInfo) -> str:
    """What a value of `field` may be, in words."""
    kind, extra = kind_of(field), extra_of(field)
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        *first, last = get_args(kind)
        return ", ".join(first) + f" or {last}"
    if extra.get("most") is None:
        return str(extra.get("unit") or "text")
    low, high = (show(field, extra[end]).strip('"') for end in ("least", "most"))
    zero = f"0 ({extra['off']}), or " if extra["off"] else ""
    whole = "a whole number, " if kind is int and extra["unit"] != "bytes" else ""
    unit = f" {extra['unit']}" if extra["unit"] not in ("", "bytes", "s") else ""
    return f"{whole}{zero}{low} to {high}{unit}"


class Table(BaseModel):
    """A TOML table whose fields are made with `setting`: reads units, and keeps values within bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and kind_of(field) in (int, float):
            raise ValueError("a number is wanted")  # pydantic would take true for 1
        if isinstance(value, str):
            if not value and kind_of(field) is Path and field.default is None:
                return None
            if value == SECRET_SHOWN and extra_of(field).get("secret"):
                raise ValueError("a placeholder")
            unit = extra_of(field).get("unit")
            if unit == "bytes":
                return parse_size(value)
            if unit == "s":
                return parse_duration(value)
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _bound(cls, value: Any, info: ValidationInfo) -> Any:
        extra = extra_of(cls.model_fields[info.field_name or ""])
        if value is None or extra.get("most") is None or (extra["off"] and value == 0):
            return value
        if not math.isfinite(value) or not extra["least"] <= value <= extra["most"]:
            raise ValueError("out of bounds")
        return value


def complaint(detail: Any, table: type[Table], name: str) -> str:
    """One of pydantic's complaints about the field `name` of `table`, in our words: what is wanted there."""
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name.replace("-", "_"), table.model_fields, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `hubbub config --reference` lists them all"
        return "there is no such setting" + hint
    if detail["type"] == "missing":
        return "is missing: every rule needs one"
    field = table.model_fields.get(name)
    if field is None:
        return "must be a [[policy]] table"
    text = f"must be {allowed(field)}"
    own = str(detail.get("ctx", {}).get("error", ""))
    if own.startswith(("bad ", "pattern ", "topic ")):
        return own
    if own.startswith("not a "):  # not a size, not a duration: with the forms that are
        return f"{text} ({own})"
    return text


def brief(value: Any) -> str:
    """What was given, short enough for a line."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
