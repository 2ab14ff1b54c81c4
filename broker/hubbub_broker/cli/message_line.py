"""A message as one line: for people, and for programs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .output import colour_of, compact, paint, printable

if TYPE_CHECKING:
    from hubbub import Message

PREVIEW_BYTES = 48
"""Bytes of a binary payload that are shown."""


def as_text(message: Message, colour: bool) -> str:
    """Time, topic, seq, sender and data on one line; what steers a terminal is made visible instead."""
    at = datetime.fromtimestamp(message.ts, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    seq = "~" if message.seq is None else f"#{message.seq}"
    parts = [
        paint(at, 2, colour),
        message.topic,
        paint(seq, 2, colour),
        paint(message.sender, colour_of(message.sender), colour),
    ]
    if message.type:
        parts.append(paint(f"[{printable(message.type)}]", 2, colour))
    if message.parent:
        parts.append(paint(f"^{printable(message.parent)}", 2, colour))
    if message.orphan:
        parts.append(paint("(orphan)", 31, colour))
    return " ".join([*parts, _data(message)])


def as_json(message: Message) -> str:
    """Everything that the message has, with the wire's names."""
    fields: dict[str, Any] = {
        "topic": message.topic,
        "seq": message.seq,
        "id": message.id,
        "from": message.sender,
        "ts": message.ts,
        "lc": message.lc,
        "type": message.type,
        "parent": message.parent,
        "reply_to": message.reply_to,
        "ephemeral": message.ephemeral or None,
        "orphan": message.orphan or None,
    }
    line = {name: value for name, value in fields.items() if value is not None}
    try:
        if message.headers:
            line["headers"] = message.headers
        data = message.data
        if isinstance(data, bytes):
            return json.dumps(line | {"data_base64": base64.b64encode(data).decode()}, ensure_ascii=False)
        return json.dumps(line | {"data": data}, ensure_ascii=False)
    except (ValueError, RecursionError) as error:  # the publisher's mistake; the message is shown all the same
        line.pop("headers", None)
        return json.dumps(line | {"unreadable": str(error)}, ensure_ascii=False)


def _data(message: Message) -> str:
    try:
        data = message.data
    except ValueError as error:
        return f"(unreadable: {printable(str(error))})"
    if isinstance(data, bytes):
        more = "…" if len(data) > PREVIEW_BYTES else ""
        return f"({len(data)} bytes) {data[:PREVIEW_BYTES].hex(' ')}{more}"
    from .written import as_written

    return printable(as_written(message.raw) if message.raw else compact(data))
