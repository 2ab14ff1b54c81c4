"""Which of many patterns a topic may match, found by its first segments and not by asking each. A leaf.

g/**          kept at  g            a topic visits the nodes that its own first segments lead to, each segment
g/*/log       kept at  g  *  log    by its name and by `*`, and what is kept at those is asked for
**            kept at  the top
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from hubbub_protocol.names import matcher

V = TypeVar("V")

LEVELS = 3
"""Segments that are looked at: group, conversation and one more tell nearly all patterns apart, and no client can make
its patterns cost more than so many nodes each."""


class _Node(Generic[V]):
    __slots__ = ("below", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Node[V]] = {}
        self.here: dict[V, int] = {}
        """What is kept here, with its number in the order of coming."""


class PatternIndex(Generic[V]):
    """Values, each under a pattern."""

    def __init__(self) -> None:
        self._top: _Node[V] = _Node()
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, pattern: str, value: V) -> None:
        """Keep a value under a pattern; nothing happens if it is there already."""
        node = self._top
        for segment in _steps(pattern):
            found = node.below.get(segment)
            if found is None:
                found = node.below[segment] = _Node()
            node = found
        if value in node.here:
            return
        self._count += 1
        self._size += 1
        node.here[value] = self._count

    def discard(self, pattern: str, value: V) -> None:
        """Take a value out that was kept under this pattern, if it is there."""
        path = [self._top]
        steps = list(_steps(pattern))
        for segment in steps:
            found = path[-1].below.get(segment)
            if found is None:
                return
            path.append(found)
        if path[-1].here.pop(value, None) is None:
            return
        self._size -= 1
        for segment in reversed(steps):
            node = path.pop()
            if node.here or node.below:
                return
            del path[-1].below[segment]

    def candidates(self, topic: str) -> Iterable[V]:
        """Everything whose pattern may match `topic`, and some that do not: to be asked one by one. In their order."""
        if not self._size:
            return ()
        nodes = [self._top]
        found = dict(self._top.here)
        for segment in topic.split("/", LEVELS)[:LEVELS]:
            nodes = [below for node in nodes for step in (segment, "*") if (below := node.below.get(step)) is not None]
            if not nodes:
                break
            for node in nodes:
                found.update(node.here)
        return sorted(found, key=found.__getitem__)


class PatternSet:
    """Patterns, each once."""

    def __init__(self) -> None:
        self._index: PatternIndex[str] = PatternIndex()
        self._matchers: dict[str, Callable[[str], bool]] = {}

    def add(self, pattern: str) -> None:
        """Put a pattern in."""
        self._index.add(pattern, pattern)
        self._matchers.setdefault(pattern, matcher(pattern))

    def discard(self, pattern: str) -> None:
        """Take a pattern out, if it is there."""
        self._index.discard(pattern, pattern)
        self._matchers.pop(pattern, None)

    def matching(self, topic: str) -> Iterator[str]:
        """The patterns that match a topic, in the order in which they came."""
        return (pattern for pattern in self._index.candidates(topic) if self._matchers[pattern](topic))


def _steps(pattern: str) -> Iterator[str]:
    for segment in pattern.split("/", LEVELS)[:LEVELS]:
        if segment == "**":
            return
        yield segment
