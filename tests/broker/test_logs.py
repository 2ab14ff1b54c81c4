"""The broker's own log: its two forms, and what must never be in it."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hubbub_broker.logs import BLANK, SECRET_FIELDS, VALUE_CHARS_MAX, configure, get_logger

SECRET = "s3cr3t-v4lue"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_an_object_a_line() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    get_logger("hubbub.shard").info("recovered", shard=3, records=10)
    get_logger("hubbub.shard").warning("damaged")
    one, two = logged(stream)
    assert list(one)[:4] == ["ts", "level", "logger", "event"]
    assert (one["level"], one["logger"], one["event"], one["shard"]) == ("info", "hubbub.shard", "recovered", 3)
    assert one["ts"].endswith("Z")
    assert two["level"] == "warning"


def test_auto_is_json_off_a_terminal_and_text_on_one() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    configure("auto", "info", pipe)
    get_logger("x").info("started", port=1)
    configure("auto", "info", terminal)
    get_logger("x").info("started", port=1)
    assert logged(pipe)[0]["event"] == "started"
    assert "started" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_text_off_a_terminal_has_no_colour() -> None:
    stream = io.StringIO()
    configure("text", "info", stream)
    get_logger("x").info("started", port=1)
    assert "\x1b[" not in stream.getvalue()
    assert "port=1" in stream.getvalue()


def test_what_is_below_the_level_is_not_there() -> None:
    stream = io.StringIO()
    configure("json", "warning", stream)
    get_logger("x").info("quiet")
    logging.getLogger("other").info("quiet")
    get_logger("x").warning("loud")
    assert [line["event"] for line in logged(stream)] == ["loud"]


def test_a_logger_made_before_is_configured_too() -> None:
    logger = get_logger("early")
    stream = io.StringIO()
    configure("json", "info", stream)
    logger.info("seen")
    assert logged(stream)[0]["event"] == "seen"


@pytest.mark.parametrize("name", [*sorted(SECRET_FIELDS), "Authorization", "X-Bus-Token", "TOKEN"])
def test_payloads_and_credentials_are_blanked(name: str) -> None:
    stream = io.StringIO()
    configure("json", "debug", stream)
    get_logger("x").warning("refused", **{name: SECRET})
    get_logger("x").warning("refused", request={"outer": [{name: SECRET}]})
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count(BLANK) == 2


@pytest.mark.parametrize(
    "text",
    [
        f"GET /v1/ws?access_token={SECRET}&agent=joe",
        f"GET /v1/ws?agent=joe&token={SECRET}",
        f"header Authorization: Bearer {SECRET}",
        f"{{'x-bus-token': '{SECRET}'}}",
    ],
)
def test_credentials_inside_a_text_are_blanked(text: str) -> None:
    stream = io.StringIO()
    configure("json", "debug", stream)
    get_logger("x").warning("refused", request=text)
    logging.getLogger("uvicorn.error").warning(text)
    try:
        raise ValueError(text)
    except ValueError:
        get_logger("x").exception("failed")
    assert len(logged(stream)) == 3
    assert SECRET not in stream.getvalue()


def test_bytes_are_told_by_their_number() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    get_logger("x").info("read", frame=SECRET.encode())
    assert logged(stream)[0]["frame"] == f"({len(SECRET)} bytes)"


def test_long_values_are_cut_and_deep_ones_blanked() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    deep: Any = SECRET
    for _ in range(50):
        deep = [deep]
    get_logger("x").info("odd", text="y" * 10_000, deep=deep)
    (line,) = logged(stream)
    assert len(line["text"]) < VALUE_CHARS_MAX + 50
    assert SECRET not in stream.getvalue()


def test_an_exception_is_one_line_without_local_variables() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    hidden = SECRET
    try:
        raise RuntimeError(f"of length {len(hidden)}")
    except RuntimeError:
        get_logger("x").exception("failed", shard=1)
    (line,) = logged(stream)
    assert "RuntimeError: of length 12" in line["exception"]
    assert SECRET not in stream.getvalue()


def test_other_libraries_go_the_same_way() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    logging.getLogger("somebody").warning("%d things", 3)
    (line,) = logged(stream)
    assert (line["event"], line["logger"], line["level"]) == ("3 things", "somebody", "warning")


def test_frames_and_accesses_are_not_logged_even_at_debug() -> None:
    stream = io.StringIO()
    configure("json", "debug", stream)
    logging.getLogger("websockets.server").debug("< TEXT %s", SECRET)
    logging.getLogger("uvicorn.access").info('"GET /?access_token=%s"', SECRET)
    assert stream.getvalue() == ""
