"""`If-Match` and `If-None-Match`, as every route reads them that has an `ETag`: a version in quotes, or a hash.

Weak tags (`W/"7"`) count like strong ones: who stands between and compresses an answer makes them of ours, and a
version means the same then.
"""

import re
from typing import Any, NamedTuple, Self

from .errors import BadFrame

NOT_MODIFIED, PRECONDITION_FAILED = 304, 412

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_is_list = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*").fullmatch
_tags = re.compile(r'"[^"]*"').findall
_is_version = re.compile(r'"(\d{1,16})"').fullmatch
_ANYTHING = frozenset("*")

IF_MATCH = 'Only if it has this version, such as `"7"`, or one of several.'
IF_NONE_MATCH = "Reading: 304 if it has this version. Changing: `*`, only if nothing is there."
PRECONDITION: dict[int | str, dict[str, Any]] = {
    PRECONDITION_FAILED: {"description": "It has another version than the request says; `ETag` tells which."}
}
READ_ON_CONDITION: dict[int | str, dict[str, Any]] = {
    NOT_MODIFIED: {"description": "It is what `If-None-Match` says."},
    **PRECONDITION,
}
"""What the description of an API says of them."""

SHOWN_CHARS = 40
"""Characters of a wrong tag that an error repeats."""


def tag_of(version: int | str) -> str:
    """The entity tag that stands for a version, or a hash."""
    return f'"{version}"'


class Conditions(NamedTuple):
    """On what a request is to be carried out. Tags are kept in their quotes, `*` (anything that is there) without."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    @classmethod
    def of(cls, if_match: str | None, if_none_match: str | None) -> Self:
        """Read the two headers.

        Raises:
            BadFrame: one of them is neither `*` nor tags in quotes.
        """
        return cls(_read("If-Match", if_match), _read("If-None-Match", if_none_match))

    def instead(self, tag: str) -> int | None:
        """The status that answers a request for what has that tag; None: what it asks for."""
        if self.match is not None and not _holds(self.match, tag):
            return PRECONDITION_FAILED
        if self.none_match is not None and _holds(self.none_match, tag):
            return NOT_MODIFIED
        return None

    @property
    def anything(self) -> bool:
        """Whether all that is asked for is that something is there."""
        return self.match == _ANYTHING

    @property
    def asks_for_current(self) -> bool:
        """Whether it takes the version that is there to know which one a change expects."""
        return self.match is not None and (len(self.match) > 1 or "*" in self.match)

    def expected(self, current: int | None = None) -> int | None:
        """The version that a change expects, 0 where nothing may be there; None: whatever is there.

        Raises:
            BadFrame: that can't be said of a change, or is none of our tags.
        """
        if self.match is None:
            if self.none_match is None:
                return None
            if self.none_match != _ANYTHING:
                raise BadFrame("If-None-Match of a change is `*`: only if nothing is there")
            return 0
        if self.none_match is not None:
            raise BadFrame("If-Match and If-None-Match of a change contradict each other: send one of them")
        if self.anything:
            return current
        versions = [_version(tag) for tag in self.match]
        return current if current in versions else min(versions)


def _read(name: str, value: str | None) -> frozenset[str] | None:
    if value is None:
        return None
    text = value.strip()
    if text == "*":
        return _ANYTHING
    if _is_list(text) is None:
        wanted = '`*`, or entity tags such as "7": in quotes, with commas between them'
        raise BadFrame(f"{name} is {text[:SHOWN_CHARS]!r}; wanted: {wanted}")
    return frozenset(_tags(text))


def _holds(tags: frozenset[str], tag: str) -> bool:
    return tag in tags or "*" in tags


def _version(tag: str) -> int:
    found = _is_version(tag)
    if found is None:
        raise BadFrame(f'{tag[:SHOWN_CHARS]} is no entity tag of ours: a version in quotes is, such as "7"')
    return int(found.group(1))
