"""What is compared: TOML files in `comparisons/`, each one piece of work and the servers that do it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

FOLDER = Path(__file__).resolve().parent.parent / "comparisons"


class BadWork(Exception):
    """A comparison's file can't be used; the message says why."""


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of the driver's report."""

    key: str
    """Its name there; a dot goes inside: `e2e_us.p50`."""
    name: str
    unit: str
    better: Literal["more", "less"] = "more"
    scale: float = 1.0
    at_most: float | None = None
    """A mark of Hubbub's own."""


class Side(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server at the work. The first side is Hubbub, and the others are what it is held against."""

    rival: Literal["hubbub", "nats", "mosquitto", "redis"]
    label: str
    """What it is, how it is set, and what it keeps."""
    flags: str = ""
    """For the driver, beside those of the work."""
    options: dict[str, str] = {}
    instead: dict[str, str] = {}
    """By a figure's key: what of this side's report stands for it, where it has no such thing."""
    marks: dict[str, float] = {}
    """By a figure's key: the ratio that Hubbub is to reach, or where less is better, not to exceed."""


class Work(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of work."""

    title: str
    order: int
    figures: list[Figure]
    sides: list[Side]
    flags: str = ""
    kind: Literal["driver", "sdk"] = "driver"
    """Who does it: the driver, or for each side its client for Python."""
    runs: int | None = None
    """Most runs that it needs: what hardly differs from run to run takes fewer."""
    name: str = ""


def load(path: Path) -> Work:
    """The work in a file, named after it.

    Raises:
        BadWork: naming the file and the field.
    """
    try:
        work = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Work)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadWork(f"{path}: {error}") from None
    if not work.sides or work.sides[0].rival != "hubbub":
        raise BadWork(f"{path}: the first side has to be Hubbub")
    keys = {figure.key for figure in work.figures}
    for side in work.sides:
        if unknown := set(side.marks) - keys:
            raise BadWork(f"{path}: marks for {', '.join(sorted(unknown))}, which is no figure of it")
    return msgspec.structs.replace(work, name=path.stem)


def load_all(folder: Path = FOLDER) -> list[Work]:
    """Every comparison, in order."""
    return sorted((load(path) for path in folder.glob("*.toml")), key=lambda one: one.order)
