"""Which messages a reader wants, and how much of each: `where` and `select` of a `sub`. Pure.

    where  = {PATH: TEST, …, "all": [where, …], "any": [where, …], "not": where}       every member holds
    TEST   = scalar, as {"==": scalar} | {OPERATOR: value, …}                          every operator holds
    PATH   = type | from | id | parent | reply_to | headers.NAME… | data | data.NAME…  or /data/NAME…, a JSON pointer
    select = [PATH, …], of `headers…` and `data…` only: the rest of a message always comes, and so do the headers that
             clients fill in and read by themselves

It is JSON and no language of its own: values need no quoting, so that nothing can be smuggled in with one; every client
can build it with what it has; and two filters are the same when their sorted text is.

A path goes into objects by name; an array on the way, or at its end, stands for its elements (an array in an array is
not entered). A test holds if it does for one of the values that are there: of what is not there, only `!=` and
`{"exists": false}` hold. Scalars are equal if they are of one kind and equal: 1 is 1.0, and neither is true.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from . import codec
from .errors import BadFrame
from .frames import NO_DATA, Msg
from .headers import ALWAYS
from .limits import FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TESTS_MAX

Path = tuple[str, ...]
Test = Callable[["View"], bool]
Scalar = Callable[[Any], bool]

_ENVELOPE = {"type", "from", "id", "parent", "reply_to"}
_ROOTS = "type, from, id, parent, reply_to, headers.NAME, data, data.NAME"
_OPERATORS = "==, !=, <, <=, >, >=, in, exists, prefix"

_WHOLE: dict[str, Any] = {}
"""In the tree of what is selected: all that is here."""


class View:
    """A message as filters see it. What several of them look at is decoded once."""

    __slots__ = ("_data", "_headers", "_read", "binary", "frame")

    def __init__(self, frame: Msg, *, binary: bool = False) -> None:
        self.frame = frame
        self.binary = binary
        """Whether its payload is bytes, in which there is nothing to be found."""
        self._read = False
        self._data: list[Any] = []
        self._headers: list[Any] | None = None

    def values(self, path: Path) -> Iterator[Any]:
        """What is at a path: nothing, one value, or several."""
        root = path[0]
        if root == "data":
            if not self._read:
                self._read = True
                self._data = _decoded(self.frame.data)
            return _walk(self._data, path[1:])
        if root == "headers":
            if self._headers is None:
                self._headers = _decoded(self.frame.headers)
            return _walk(self._headers, path[1:])
        frame = self.frame
        match root:
            case "type":
                found = frame.type
            case "from":
                found = frame.sender
            case "id":
                found = frame.id
            case "parent":
                found = frame.parent
            case _:
                found = frame.reply_to
        return iter(() if found is None else (found,))


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """What a filter may cost."""

    bytes: int = FILTER_BYTES_MAX
    depth: int = FILTER_DEPTH_MAX
    tests: int = FILTER_TESTS_MAX


class Filter:
    """A checked `where` and `select`. Two that want the same are equal."""

    __slots__ = ("__weakref__", "_data", "_headers", "_test", "_wants_headers", "key", "select", "where")

    def __init__(
        self, where: dict[str, Any] | None, select: list[str] | None, limits: FilterLimits | None = None
    ) -> None:
        """Check a filter. None and an empty `where` want every message; no `select` wants all of it.

        Raises:
            BadFrame: saying what is wrong with it, or which limit it exceeds.
        """
        limits = limits or FilterLimits()
        text = codec.canonical([where, select])
        if len(text) > limits.bytes:
            raise BadFrame(
                f"the filter takes {len(text)} bytes; the limit (max_filter_bytes) is {limits.bytes}: "
                "ask for less, or filter at the reader"
            )
        self.where = where or None
        self.select = select
        self._test = None if not where else _parse(where, limits.depth, limits.depth)
        count = _tests_in(self.where)
        if count > limits.tests:
            raise BadFrame(
                f"the filter has {count} tests; the limit (max_filter_tests) is {limits.tests}: "
                "a list of values is one test, by `in`"
            )
        self._data: dict[str, Any] | None = None
        self._headers: dict[str, Any] | None = None
        self._wants_headers = False
        selected: list[str] | None = None
        if select is not None:
            paths = sorted({_path(path, limits.depth) for path in select})
            for path in paths:
                if path[0] in _ENVELOPE:
                    raise BadFrame(f"`select` has {path[0]!r}, which always comes: it chooses of data and headers")
            self._data = _tree(paths, "data")
            headers = _tree(paths, "headers")
            self._headers = headers if headers is _WHOLE else {**(headers or {}), **dict.fromkeys(ALWAYS, _WHOLE)}
            self._wants_headers = headers is not None
            selected = ["/" + "/".join(_escaped(step) for step in path) for path in paths]
        self.key: bytes = codec.canonical([self.where, selected])
        """Its text: of two filters that are the same, the same."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Filter {self.key.decode()}>"

    def matches(self, view: View) -> bool:
        """Whether the reader wants this message."""
        return self._test is None or self._test(view)

    @property
    def cuts(self) -> bool:
        """Whether messages that it wants may come without some of what they have."""
        return self.select is not None

    def cut(self, view: View) -> tuple[Raw, Raw, bool]:
        """What of a message comes: headers, data, and whether a payload of bytes does. `NO_DATA`: nothing.

        What comes is the text that was published. Of objects on the way to what is selected, only that is left; so is
        of the objects in an array, where anything else is left out. Some headers come in any case: `headers.ALWAYS`. A
        payload of bytes comes if `data` is selected.
        """
        frame = view.frame
        if self.select is None:
            return frame.headers, frame.data, True
        headers = NO_DATA if self._headers is None else _cut(frame.headers, self._headers)
        if not self._wants_headers and bytes(headers) == b"{}":
            headers = NO_DATA
        if view.binary:
            return headers, NO_DATA, self._data is _WHOLE
        return headers, NO_DATA if self._data is None else _cut(frame.data, self._data), False


def filter_of(
    where: dict[str, Any] | None, select: list[str] | None, limits: FilterLimits | None = None
) -> Filter | None:
    """The filter of a request; None if it wants everything.

    Raises:
        BadFrame: saying what is wrong with it.
    """
    return Filter(where, select, limits) if where or select is not None else None


# Parsing ------------------------------------------------------------------------------------------------------------


def _parse(where: object, depth: int, limit: int) -> Test:
    if not isinstance(where, dict):
        raise BadFrame(f"`where` is an object of tests, or a list of such in `all` and `any`; got {_shown(where)}")
    if depth <= 0:
        raise BadFrame(f"the filter is nested deeper than {limit} levels, the limit (max_filter_depth)")
    tests: list[Test] = []
    for name, wanted in where.items():
        if name in ("all", "any"):
            if not isinstance(wanted, list) or not wanted:
                raise BadFrame(f"`{name}` is a list of one filter or more; got {_shown(wanted)}")
            tests.append(_joined([_parse(each, depth - 1, limit) for each in wanted], all if name == "all" else any))
        elif name == "not":
            tests.append(_negated(_parse(wanted, depth - 1, limit)))
        else:
            tests += _tests_of(_path(name, limit), wanted)
    return tests[0] if len(tests) == 1 else _joined(tests, all)


def _tests_in(where: Any) -> int:
    """How many tests a checked filter makes of a message, at most."""
    count = 0
    for name, wanted in (where or {}).items():
        if name in ("all", "any"):
            count += sum(map(_tests_in, wanted))
        elif name == "not":
            count += _tests_in(wanted)
        else:
            count += len(wanted) if isinstance(wanted, dict) else 1
    return count


def _joined(tests: list[Test], how: Callable[[Iterator[bool]], bool]) -> Test:
    return lambda view: how(test(view) for test in tests)


def _negated(test: Test) -> Test:
    return lambda view: not test(view)


def _tests_of(path: Path, wanted: object) -> Iterator[Test]:
    if not isinstance(wanted, dict):
        yield _some(path, _equal(wanted))
        return
    if not wanted:
        raise BadFrame(f"the test of {'.'.join(path)[:80]!r} is empty: a value, or an object of {_OPERATORS}")
    for operator, value in wanted.items():
        match operator:
            case "==":
                yield _some(path, _equal(value))
            case "!=":
                yield _negated(_some(path, _equal(value)))
            case "<" | "<=" | ">" | ">=":
                yield _some(path, _compare(operator, value))
            case "in":
                yield _some(path, _one_of(value))
            case "prefix":
                if not isinstance(value, str):
                    raise BadFrame(f"`prefix` takes a string; got {_shown(value)}")
                yield _some(path, _begins(value))
            case "exists":
                if not isinstance(value, bool):
                    raise BadFrame(f"`exists` takes true or false; got {_shown(value)}")
                there = _some(path, lambda _: True)
                yield there if value else _negated(there)
            case _:
                raise BadFrame(f"{operator[:40]!r} is no operator: there are {_OPERATORS}")


def _some(path: Path, holds: Scalar) -> Test:
    return lambda view: any(map(holds, view.values(path)))


def _equal(wanted: object) -> Scalar:
    if wanted is None or isinstance(wanted, bool):
        return lambda value: value is wanted
    if isinstance(wanted, str):
        return lambda value: type(value) is str and value == wanted
    if isinstance(wanted, int | float):
        return lambda value: (type(value) is int or type(value) is float) and value == wanted
    raise BadFrame(f"a value is compared with a string, a number, true, false or null; got {_shown(wanted)}")


def _compare(operator: str, wanted: object) -> Scalar:
    if isinstance(wanted, str):
        kinds: tuple[type, ...] = (str,)
    elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
        kinds = (int, float)
    else:
        raise BadFrame(f"`{operator}` takes a number or a string; got {_shown(wanted)}")
    limit: Any = wanted
    match operator:
        case "<":
            return lambda value: type(value) in kinds and value < limit
        case "<=":
            return lambda value: type(value) in kinds and value <= limit
        case ">":
            return lambda value: type(value) in kinds and value > limit
        case _:
            return lambda value: type(value) in kinds and value >= limit


def _one_of(wanted: object) -> Scalar:
    if not isinstance(wanted, list):
        raise BadFrame(f"`in` takes a list of values; got {_shown(wanted)}")
    strings = frozenset(each for each in wanted if isinstance(each, str))
    others = [_equal(each) for each in wanted if not isinstance(each, str)]
    if not others:
        return lambda value: type(value) is str and value in strings
    return lambda value: (type(value) is str and value in strings) or any(holds(value) for holds in others)


def _begins(prefix: str) -> Scalar:
    return lambda value: type(value) is str and value.startswith(prefix)


def _path(text: object, limit: int) -> Path:
    """A path as its steps: `data.author.name`, or `/data/author/name` where a name has a dot in it."""
    if not isinstance(text, str):
        raise BadFrame(f"a path is a string; got {_shown(text)}")
    if text.startswith("/"):
        path = tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))
    else:
        path = tuple(text.split("."))
    if path[0] not in ("headers", "data", *_ENVELOPE) or (path[0] in _ENVELOPE and len(path) > 1):
        raise BadFrame(f"{text[:80]!r} names nothing of a message: a path is one of {_ROOTS}")
    if len(path) > limit:
        raise BadFrame(f"{text[:80]!r} has {len(path)} steps; the limit (max_filter_depth) is {limit}")
    return path


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _shown(value: object) -> str:
    return repr(value)[:60]


def _tree(paths: list[Path], root: str) -> dict[str, Any] | None:
    """What is selected below a root, as nested objects; None: nothing. `paths` are sorted: shorter ones come first."""
    tree: dict[str, Any] | None = None
    for path in paths:
        if path[0] != root:
            continue
        if len(path) == 1:
            return _WHOLE
        if tree is None:
            tree = {}
        node = tree
        for step in path[1:-1]:
            node = node.setdefault(step, {})
            if node is _WHOLE:
                break
        else:
            node[path[-1]] = _WHOLE
    return tree


# Reading ------------------------------------------------------------------------------------------------------------


def _decoded(text: Raw) -> list[Any]:
    """The value of a JSON text, in a list; an empty one if it is not there, or can't be read."""
    raw = bytes(text)
    if not raw:
        return []
    try:
        return [codec.decode_value(raw)]
    except BadFrame:
        return []


def _walk(found: list[Any], path: Path) -> Iterator[Any]:
    for step in path:
        found = [
            each[step]
            for value in found
            for each in (value if type(value) is list else (value,))
            if type(each) is dict and step in each
        ]
    for value in found:
        yield value
        if type(value) is list:
            yield from value


def _cut(text: Raw, tree: dict[str, Any]) -> Raw:
    """What a tree selects of a JSON text."""
    if tree is _WHOLE:
        return text
    raw = bytes(text)
    if raw.startswith(b"{"):
        members = codec.members_of(raw)
        if members is None:
            return NO_DATA
        parts = []
        for name, below in tree.items():
            if name in members:
                part = bytes(_cut(members[name], below))
                if part:
                    parts.append(b"%b:%b" % (codec.encode_value(name), part))
        return Raw(b"{%b}" % b",".join(parts))
    if raw.startswith(b"["):
        elements = codec.elements_of(raw) or []
        kept = [bytes(_cut(each, tree)) for each in elements if bytes(each).startswith(b"{")]
        return Raw(b"[%b]" % b",".join(kept))
    return NO_DATA
