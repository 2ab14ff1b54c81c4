"""What an error says about when to come back.

Read from, in this order: a number in the error's own attribute `retry_after` (our own errors, and those of many
clients), then the headers `retry-after-ms` and `Retry-After` of its `response` (httpx, requests, and the clients of
model providers that are built on them) or of the error itself (aiohttp).
"""

import math
from collections.abc import Mapping
from typing import Any


def retry_after_of(error: BaseException, now: float) -> float | None:
    """Seconds to wait, or None if the error does not say. `now` is the time since the Unix epoch, for HTTP dates."""
    own = _seconds(getattr(error, "retry_after", None))
    if own is not None:
        return own
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    if not hasattr(headers, "get"):
        return None
    milliseconds = _seconds(_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = _header(headers, "retry-after")
    seconds = _seconds(value)
    return seconds if seconds is not None or not isinstance(value, str) else _until(value, now)


def _header(headers: Mapping[str, Any], name: str) -> Any:
    # Clients' own mappings look names up in any case; a plain dict has one of the usual two.
    value = headers.get(name)
    return headers.get(name.title()) if value is None else value


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str, now: float) -> float | None:
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - seldom needed, and not loaded for it

    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None
