"""What commands print: results to stdout, notes to stderr, colour only for people."""

import json
import os
import sys
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_PALETTE = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""ANSI colours that can be read on dark and on light."""


def colourful(stream: TextIO) -> bool:
    """Whether colour belongs on `stream`: a terminal, and the user did not say no (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: int | str, wanted: bool) -> str:
    """The text in an ANSI colour or style."""
    return f"\x1b[{code}m{text}\x1b[0m" if wanted else text


def colour_of(name: str) -> int:
    """The colour that a sender has, in this run and in the next."""
    return _PALETTE[zlib.crc32(name.encode()) % len(_PALETTE)]


def printable(text: str) -> str:
    """The text without what could steer a terminal: others' messages are not to be trusted with yours."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def compact(value: Any) -> str:
    """Any JSON value on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def note(text: str) -> None:
    """Tell the user something that is not a result."""
    sys.stderr.write(paint(text, 2, colourful(sys.stderr)) + "\n")
    sys.stderr.flush()


def emit(line: str) -> None:
    """One line of result, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows under their heads for people; on a pipe tab-separated without heads, for the next program."""
    if not sys.stdout.isatty():
        for row in rows:
            emit("\t".join(row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*heads, box=box.SIMPLE_HEAD)
    for row in rows:
        grid.add_row(*map(Text, row))
    Console(file=sys.stdout).print(grid)
