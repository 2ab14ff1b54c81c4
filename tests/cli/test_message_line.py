"""A message as one line."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from hubbub import Message
from hubbub_broker.cli.message_line import as_json, as_text
from hubbub_protocol.frames import Msg


class Nobody:
    async def publish(self, topic: str, data: Any, /, **options: Any) -> Any:
        raise AssertionError("nothing is published here")

    def blob(self, ref: Any) -> Any:
        raise AssertionError("nothing is fetched here")

    async def ancestors(self, message: Any, depth: int) -> Any:
        raise AssertionError("nothing is asked for here")


def message(data: bytes = b'{"text": "hi"}', payload: bytes | None = None, **fields: Any) -> Message:
    values: dict[str, Any] = {"seq": 7, "lc": 9, "ts": 1_700_000_000.25, **fields}
    frame = Msg(topic="research/conv-42", id="m1", sender="joe", data=Raw(data), **values)
    return Message(frame, Nobody()) if payload is None else Message(frame, Nobody(), payload)


def test_a_line_for_people() -> None:
    line = as_text(message(), colour=False)
    at, topic, seq, sender, data = line.split(" ", 4)
    assert (topic, seq, sender, data) == ("research/conv-42", "#7", "joe", '{"text": "hi"}')
    assert at.endswith(".250")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"type": "note"}, " [note] "),
        ({"parent": "m0"}, " ^m0 "),
        ({"orphan": True}, " (orphan) "),
        ({"seq": None, "ephemeral": True}, " ~ joe "),
    ],
)
def test_what_is_special_is_marked(fields: dict[str, Any], part: str) -> None:
    assert part in as_text(message(**fields), colour=False)


@pytest.mark.parametrize(
    ("data", "shown"),
    [(b'"plain text"', "plain text"), (b"[1, 2]", "[1, 2]"), (b"null", "null"), (b'"\\u001b[2J"', "\\x1b[2J")],
)
def test_data_for_people(data: bytes, shown: str) -> None:
    assert as_text(message(data), colour=False).endswith(f" joe {shown}")


def test_nothing_of_a_message_steers_the_terminal() -> None:
    line = as_text(message(b'"\\u009b"', type="\x1b]0;x\x07", parent="\x1b[2J"), colour=False)
    assert line.isprintable()


def test_colour_only_if_wanted() -> None:
    assert "\x1b[" in as_text(message(), colour=True)
    assert "\x1b[" not in as_text(message(), colour=False)


def test_bytes_are_shown_in_hexadecimal_and_cut() -> None:
    assert as_text(message(payload=b"\x00\xff"), colour=False).endswith("(2 bytes) 00 ff")
    assert as_text(message(payload=bytes(100)), colour=False).endswith("00…")


def test_a_line_for_programs_has_the_names_of_the_wire() -> None:
    line = json.loads(as_json(message(parent="m0", headers=Raw(b'{"h": 1}'))))
    assert line == {
        "topic": "research/conv-42",
        "seq": 7,
        "id": "m1",
        "from": "joe",
        "ts": 1_700_000_000.25,
        "lc": 9,
        "parent": "m0",
        "headers": {"h": 1},
        "data": {"text": "hi"},
    }


def test_bytes_for_programs_are_base64() -> None:
    line = json.loads(as_json(message(payload=b"\x00\xff")))
    assert line["data_base64"] == "AP8="
    assert "data" not in line


def test_what_is_nested_too_deep_to_write_is_said() -> None:
    deep = b"[" * 900 + b"]" * 900
    text = at_depth(200, lambda: as_json(message(data=deep)))
    assert "unreadable" in json.loads(text)
    assert at_depth(200, lambda: as_text(message(data=deep), colour=False))


def at_depth(calls: int, do: Callable[[], str]) -> str:
    """Do something with so much of the stack in use."""
    return do() if not calls else at_depth(calls - 1, do)


@pytest.mark.parametrize("fields", [{"data": b"{oops"}, {"headers": Raw(b"{oops")}])
def test_what_can_not_be_read_is_said_and_does_not_end_the_reading(fields: dict[str, Any]) -> None:
    assert "unreadable" in json.loads(as_json(message(**fields)))
    if "data" in fields:
        assert "(unreadable: " in as_text(message(**fields), colour=False)
