"""How large a JSON Schema is once what it refers to stands where it is referred to. Pure.

A few hundred bytes can stand for millions of checks of one message: `a` twice `b`, `b` twice `c`, and so on. That is
counted here, without being done.
"""

from typing import Any

from .refusal import BadSchema

PARTS_MAX = 10_000
"""Objects and lists of a schema, each counted as often as it is referred to. The largest that people write have a few
hundred; 10,000 take a millisecond a message."""
DEPTH_MAX = 64
"""Objects and lists within each other, what is referred to not counted."""

STEPS_MAX = 256
"""Steps from the top to the innermost part, what is referred to included."""

_DEFINITIONS = ("$defs", "definitions")
_ELSEWHERE = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$anchor")


def check_extent(document: dict[str, Any]) -> None:
    """Refuse a schema that is too large for a check of each message, or that refers to anything but itself.

    Raises:
        BadSchema: naming the place.
    """
    _check_depth(document)
    counted: dict[int, int] = {}
    under_way: set[int] = set()

    def count(part: Any, place: str, steps: int) -> int:
        if not isinstance(part, dict | list):
            return 0
        if steps > STEPS_MAX:
            raise BadSchema(place, f"is more than {STEPS_MAX} steps inside, counting what is referred to")
        if id(part) in under_way:  # it is in itself, further down: the checks follow the message, not the schema
            return 1
        known = counted.get(id(part))
        if known is not None:
            return known
        under_way.add(id(part))
        total = 1
        inner = part.items() if isinstance(part, dict) else enumerate(part)
        for name, value in inner:
            if part is document and name in _DEFINITIONS:
                continue  # they count where they are referred to
            total += count(value, f"{place}/{_escaped(str(name))}", steps + 1)
            if name == "$ref" and isinstance(value, str):
                total += count(_target(document, value, place), value[1:], steps + 1)
        under_way.discard(id(part))
        if total > PARTS_MAX:
            raise BadSchema(place, f"is checked in more than {PARTS_MAX} parts once what it refers to is put in")
        counted[id(part)] = total
        return total

    count(document, "", 0)


def _check_depth(document: dict[str, Any]) -> None:
    level: list[tuple[str, Any]] = [("", document)]
    for _ in range(DEPTH_MAX):
        below = []
        for place, part in level:
            if isinstance(part, dict):
                below += [(f"{place}/{_escaped(str(name))}", value) for name, value in part.items()]
                _check_words(part, place)
            elif isinstance(part, list):
                below += [(f"{place}/{number}", value) for number, value in enumerate(part)]
        level = below
        if not level:
            return
    raise BadSchema(level[0][0], f"is nested deeper than {DEPTH_MAX} levels")


def _check_words(part: dict[str, Any], place: str) -> None:
    for word in _ELSEWHERE:
        if isinstance(part.get(word), str | bool):
            raise BadSchema(f"{place}/{word}", "is not supported: refer with `$ref` to a place in the same schema")
    if place and isinstance(part.get("$id"), str):
        raise BadSchema(
            f"{place}/$id", "is not supported below the top: refer with `$ref` to a place in the same schema"
        )


def _target(document: dict[str, Any], reference: str, place: str) -> Any:
    """What `#/a/b` stands for."""
    if reference == "#":
        return document
    found: Any = document
    if not reference.startswith("#/"):
        why = f"refers to {reference[:80]!r}: only `#` and `#/…`, places in the same schema, can be referred to"
        raise BadSchema(f"{place}/$ref", why)
    for name in reference[2:].split("/"):
        step = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            raise BadSchema(f"{place}/$ref", f"refers to {reference[:80]!r}, and there is nothing")
    return found


def _escaped(name: str) -> str:
    return name[:80].replace("~", "~0").replace("/", "~1")
