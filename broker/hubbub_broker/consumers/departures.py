"""Who was a member not long ago: an agent that is missing has a name, too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .terms import Terms

REMEMBERED_SECONDS = 3600.0
"""How long an agent that left a consumer is looked for."""


class Departure(NamedTuple):
    """An agent that was a member of a consumer."""

    agent: str
    topic: str
    consumer: str


class Departures:
    """The newest of them, `most` at most, for an hour."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left: OrderedDict[Departure, float] = OrderedDict()

    def note(self, agent: str, terms: Terms, now: float) -> None:
        """A member has left, or was lost."""
        departure = Departure(agent, terms.topic, terms.name)
        self._left[departure] = now
        self._left.move_to_end(departure)
        if len(self._left) > self._most:
            self._left.popitem(last=False)

    def since(self, now: float) -> Iterator[tuple[Departure, float]]:
        """Who left within the hour before `now`, and when."""
        while self._left and next(iter(self._left.values())) < now - REMEMBERED_SECONDS:
            self._left.popitem(last=False)
        yield from self._left.items()
