"""The filter of a subscription: checked, and in nobody's way on its connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hubbub_broker.config import Settings
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter, FilterLimits, filter_of
from hubbub_protocol.frames import Sub
from hubbub_protocol.names import readers_overlap

if TYPE_CHECKING:
    from .session import Session


def parse_filter(sub: Sub, settings: Settings) -> Filter | None:
    """What a `sub` asks for; None: everything.

    Raises:
        BadFrame: saying what is wrong with it, or which limit it exceeds.
    """
    limits = FilterLimits(settings.max_filter_bytes, settings.max_filter_depth, settings.max_filter_tests)
    return filter_of(sub.where, sub.select, limits)


def check_apart(session: Session, name: str, filter: Filter | None) -> None:
    """Make sure that no other subscription of the connection wants something else of the same topic.

    A connection is given each message once, whichever of its subscriptions it is for, so they have to agree on it.

    Raises:
        Refusal: `conflict`.
    """
    if filter is not None:
        session.filtering = True
    if not session.filtering:
        return
    for other, its in _filters(session):
        if its != filter and readers_overlap(name, other):
            raise Refusal(
                ErrorCode.CONFLICT,
                f"this connection reads {other} with another filter, and {name} overlaps it: use another connection",
            )


def _filters(session: Session) -> Iterator[tuple[str, Filter | None]]:
    for topic in session.subscribed:
        yield topic, session.cursors[topic].filter
    for pattern, parts in session.patterns.items():
        yield pattern, parts[0][1].filter
