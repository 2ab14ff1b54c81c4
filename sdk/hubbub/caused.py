"""Who caused what: which messages an agent published while a handler of its own was at work on another.

Bounded: by the number of messages in all, and by time. When it is full, the cause that has caused nothing for longest
loses the first of what it had, and it is counted how many it has lost.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

Cause = tuple[str, str, str]
"""Topic, sender and id of what was at work."""

Child = tuple[str, str]
"""Topic and id of what was published."""


class Known(NamedTuple):
    """What is known of what a message has caused."""

    children: list[Child]
    lost: int
    """How many more there were."""


class _Entry:
    __slots__ = ("at", "children", "lost")

    def __init__(self, lost: int) -> None:
        self.at = 0.0
        """When the last child came."""
        self.children: deque[Child] = deque()
        self.lost = lost


class Caused:
    """By cause. Pure: times are handed in."""

    def __init__(self, most: int, seconds: float, on_lost: Callable[[Cause], None] | None = None) -> None:
        """`most` messages are remembered, for `seconds` after their cause had its last. `on_lost(cause)` is called for
        each that is forgotten before.
        """
        self._most = most
        self._seconds = seconds
        self._on_lost = on_lost
        self._causes: OrderedDict[Cause, _Entry] = OrderedDict()
        self._lost: OrderedDict[Cause, int] = OrderedDict()
        """Of causes all of whose children are forgotten: how many those were."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Cause]:
        yield from self._causes
        yield from self._lost

    def note(self, cause: Cause, child: Child, now: float) -> None:
        """`cause` has caused `child`."""
        self._age(now)
        known = self._causes.get(cause)
        if known is None:
            known = self._causes[cause] = _Entry(self._lost.pop(cause, 0))
        else:
            self._causes.move_to_end(cause)
        known.at = now
        known.children.append(child)
        self._count += 1
        if self._count > self._most:
            self._lose()

    def of(self, cause: Cause) -> Known:
        """What it has caused."""
        known = self._causes.get(cause)
        return Known([], self._lost.get(cause, 0)) if known is None else Known(list(known.children), known.lost)

    def _age(self, now: float) -> None:
        while self._causes:
            cause, known = next(iter(self._causes.items()))
            if now - known.at < self._seconds:
                return
            del self._causes[cause]
            self._count -= len(known.children)

    def _lose(self) -> None:
        cause, known = next(iter(self._causes.items()))
        known.children.popleft()
        known.lost += 1
        self._count -= 1
        if not known.children:
            del self._causes[cause]
            self._lost[cause] = known.lost
            if len(self._lost) > self._most:
                self._lost.popitem(last=False)
        if self._on_lost is not None:
            self._on_lost(cause)
