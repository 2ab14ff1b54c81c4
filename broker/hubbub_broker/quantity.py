"""Sizes and durations as people write them: `64MiB`, `1.5 GB`, `24h`, `1d12h`, `250ms`.

In TOML and in the environment alike, a bare number means bytes or seconds. Every function is pure.
"""

import re

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
DAY = 86_400.0

_SIZES = {
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

_number = r"\d{1,15}(?:\.\d{1,9})?"
_is_number = re.compile(_number).fullmatch
_is_size = re.compile(rf"({_number})\s*([A-Za-z]{{1,3}})").fullmatch
_is_duration = re.compile(rf"(?:{_number}\s*[A-Za-z]{{1,3}}\s*)+").fullmatch
_duration_parts = re.compile(rf"({_number})\s*([A-Za-z]{{1,3}})").findall

SIZE_FORMS = "a whole number of bytes, or a number with B, KiB, MiB, GiB, TiB (1024) or kB, MB, GB, TB (1000)"
DURATION_FORMS = "a number of seconds, or numbers with ms, s, m, h, d, w, such as 90s or 1d12h"


def parse_size(text: str) -> int:
    """Bytes.

    Raises:
        ValueError: saying which forms are allowed.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    found = _is_size(text)
    unit = _SIZES.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError(f"not a size: {SIZE_FORMS}")
    return round(float(found[1]) * unit)


def parse_duration(text: str) -> float:
    """Seconds.

    Raises:
        ValueError: saying which forms are allowed.
    """
    text = text.strip().lower()
    if _is_number(text):
        return float(text)
    parts = _duration_parts(text) if _is_duration(text) else []
    if not parts or any(unit not in _DURATIONS for _, unit in parts):
        raise ValueError(f"not a duration: {DURATION_FORMS}")
    return sum(float(number) * _DURATIONS[unit] for number, unit in parts)


def format_size(size: int) -> str:
    """The shortest exact form, `1MiB` for 1048576; bare bytes where no unit divides it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = _SIZES[unit.lower()]
        if size and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def format_duration(seconds: float) -> str:
    """The shortest exact form, `24h` for 86400.0; bare seconds where no unit divides it."""
    for unit in ("d", "h", "m"):
        scale = _DURATIONS[unit]
        if seconds > scale and seconds % scale == 0:
            return f"{seconds / scale:.0f}{unit}"
    if not seconds:
        return "0"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
