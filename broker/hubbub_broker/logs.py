"""The broker's log of its own doings: one line an event, as JSON or for people, on stderr.

What each level contains, and nothing else:

    debug      the life of each connection: opened, welcomed, subscribed, closed and why
    info       the process: start, recovery, listening, stop; what operators changed
    warning    something was refused at a limit, damaged, slow or lost, and the broker goes on: who, what, which limit.
               A storm of refusals is a line every ten seconds for each client and limit (refusal_log.py)
    error      a promise can't be kept: storage failed, a shard is read-only, a bug

Every line has `ts` (UTC), `level`, `logger`, `event` (a few fixed words; the particulars are fields of their own).
Payloads and tokens are never logged: a field whose name is in `SECRET_FIELDS` is blanked out, whoever passed it; so is
what looks like a token inside a text; and long values are cut.
"""

import logging
import re
import sys
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

SECRET_FIELDS = frozenset(
    {
        "access_token",
        "authorization",
        "body",
        "bus_token",
        "cookie",
        "data",
        "data_base64",
        "headers",
        "key",
        "line",
        "lines",
        "meta",
        "password",
        "payload",
        "secret",
        "token",
        "token_secret",
        "x-bus-token",
    }
)
"""Field names whose values are user data or credentials. Case does not matter, and `_` and `-` are the same."""

BLANK = "(not logged)"
VALUE_CHARS_MAX = 1000
"""Characters of one value: enough for an error message, too few for a payload that slipped into one."""
TRACE_CHARS_MAX = 20_000
"""Characters of a traceback."""
DEPTH_MAX = 4
"""Levels of nested fields that are looked through; what is deeper is blanked out."""

LOUD_LOGGERS = {
    "websockets": logging.WARNING,  # its debug level shows the content of frames, and we tell the rest ourselves
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "uvicorn.error": logging.WARNING,  # its start and stop are told by our own lines
    "uvicorn.access": logging.WARNING,  # an access log would show tokens in query strings
}
"""Least levels of other people's loggers, whatever ours is."""

_secret = frozenset(name.replace("-", "_") for name in SECRET_FIELDS)
_credentials = re.compile(r"(?i)((?:access_token|token)=|bearer\s+|x-bus-token['\":\s]+)[^\s&'\",;]+")


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of a part of the broker; `name` is what its lines say under `logger`."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def configure(
    form: Literal["auto", "json", "text"] = "auto",
    level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
) -> None:
    """Send everything that is logged in this process, by whichever library, to `stream` in one form.

    Args:
        form: `auto` is text where `stream` is a terminal, else JSON.
        level: least level that is logged.
        stream: stderr by default.
    """
    stream = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # loggers are made at import, before this is called
    )
    renderer: Processor
    if form == "text" or (form == "auto" and terminal):
        renderer = structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="ts", pad_event_to=28)
    else:
        renderer = structlog.processors.JSONRenderer()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _in_order, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    for name, least in LOUD_LOGGERS.items():
        logging.getLogger(name).setLevel(max(least, number))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor that blanks out payloads and credentials, and cuts long values."""
    for name, value in event.items():
        if name in ("_record", "_from_structlog"):
            continue
        if name == "exception":
            event[name] = _scrub(str(value), TRACE_CHARS_MAX)
        else:
            event[name] = _clean(name, value, DEPTH_MAX)
    return event


def _clean(name: str, value: Any, depth: int) -> Any:
    if name.lower().replace("-", "_") in _secret:
        return BLANK
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"({len(value)} bytes)"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _clean_inside(value, depth - 1) if depth else BLANK
    return _scrub(str(value), VALUE_CHARS_MAX)


def _clean_inside(value: Mapping[Any, Any] | Collection[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(str(key), inner, depth) for key, inner in value.items()}
    return [_clean("", inner, depth) for inner in value]


def _scrub(text: str, most: int) -> str:
    text = _credentials.sub(rf"\1{BLANK}", text)
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more)"


def _in_order(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What every line has comes first, so that lines are easy to compare by eye."""
    first = {name: event.pop(name) for name in ("ts", "level", "logger", "event") if name in event}
    return {**first, **event}
