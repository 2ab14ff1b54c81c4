"""Times, as people read them."""

from datetime import UTC, datetime

_UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))


def when(ts: float) -> str:
    """A time in this place's own zone; `-` for none."""
    return datetime.fromtimestamp(ts, UTC).astimezone().isoformat(sep=" ", timespec="seconds") if ts else "-"


def ago(ts: float | None, now: float) -> str:
    """How long ago that was; `-` for never."""
    return "-" if ts is None else lasting(max(0.0, now - ts))


def lasting(seconds: float) -> str:
    """A duration in its largest units: `1h05m`, `3.2s`, `4.1ms`."""
    if seconds < 1.0:
        return f"{seconds * 1000:.3g}ms"
    for place, (size, unit) in enumerate(_UNITS[:-1]):
        if seconds >= size:
            smaller, its = _UNITS[place + 1]
            return f"{int(seconds // size)}{unit}{int(seconds % size // smaller):02}{its}"
    return f"{seconds:.3g}s"
