"""What a change takes of whoever asks for it: the same at every door."""

from collections.abc import Callable

from msgspec import Raw

from hubbub_broker.access import Operation
from hubbub_protocol.frames import Change, Pub
from hubbub_protocol.names import check_topic, state_of

from .request import to_pub
from .telling import TYPE, tell

Require = Callable[[Operation, str], None]
"""Insists that the caller may do that: raises if not."""

Admit = Callable[[Pub], None]
"""Counts a publish against the caller's limits: raises if it is one too many."""


def permit_change(change: Change, require: Require, admit: Admit) -> None:
    """Insist that the caller may make the change and publish what goes with it. Each counts as a publish for the rates.

    Raises:
        Refusal: what it may not, or the limit.
        BadName: a name is none.
    """
    topic = state_of(change.topic)
    require(Operation.CHANGE_STATE, topic)
    for part in change.publish:
        require(Operation.PUBLISH, check_topic(part.topic))
    admit(Pub(topic=topic, id=change.id, type=TYPE, lc=change.lc, data=Raw(tell(change))))
    for part in change.publish:
        admit(to_pub(part, change.lc))
