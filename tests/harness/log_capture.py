"""The broker's own log of its doings, read back by a test."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from hubbub_broker import logs


class CapturedLog:
    """Every line that was logged in this process since it began, by whichever library."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream
        self._read = 0
        self.entries: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        text = self._stream.getvalue()[self._read :]
        self._read += len(text)
        new = [json.loads(line) for line in text.splitlines()]
        self.entries.extend(new)
        return new

    def check_no_bug(self) -> None:
        """Assert that nothing logged since the last look is an error, or carries a traceback."""
        bad = [entry for entry in self.read() if entry["level"] in ("error", "critical") or "exception" in entry]
        assert bad == []


@contextmanager
def captured_log(level: Any = "debug") -> Iterator[CapturedLog]:
    """Everything that is logged inside the block. How logging was set up comes back at its end."""
    names = [None, *logs.LOUD_LOGGERS, "uvicorn"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    structure = structlog.get_config()
    stream = io.StringIO()
    try:
        logs.configure("json", level, stream)
        yield CapturedLog(stream)
    finally:
        structlog.configure(**structure)
        for logger, number, handlers, propagate in before:
            logger.setLevel(number)
            logger.handlers = handlers
            logger.propagate = propagate
