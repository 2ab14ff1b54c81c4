"""A delivery: a message that one member holds until it settles it, or its time runs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .member import Member
    from .place import Place

Key = str | None
"""What `ordered` goes by: the value of a header, as text; None for a message without."""


class Tracked:
    """Of a message whose publisher wants receipts: who that is, and its id."""

    __slots__ = ("id", "publisher")

    def __init__(self, id: str, publisher: str) -> None:
        self.id = id
        self.publisher = publisher


class Lease:
    """One message with one member. Fenced by (consumer, seq, attempt): there is one of these for a message at most."""

    __slots__ = (
        "attempt",
        "deadline",
        "expires",
        "extended",
        "key",
        "member",
        "number",
        "place",
        "sent",
        "seq",
        "tracked",
        "ts",
    )

    def __init__(
        self,
        place: Place,
        seq: int,
        attempt: int,
        member: Member,
        key: Key,
        ts: float,
        sent: float,
        deadline: float,
        tracked: Tracked | None,
        expires: float,
        number: int | None,
    ) -> None:
        self.place = place
        self.seq = seq
        self.attempt = attempt
        self.member = member
        self.key = key
        self.ts = ts
        """When the message was sequenced, in seconds since the Unix epoch."""
        self.sent = sent
        """When it was delivered, likewise."""
        self.deadline = deadline
        """When it ends, in loop time."""
        self.extended = False
        """Whether its member has said that it is still at work."""
        self.tracked = tracked
        self.number = number
        """Larger than that of any lease before it, whatever crashed meanwhile."""
        self.expires = expires
        """When its message's time to live is over, in seconds since the Unix epoch; 0: never."""


class Wait:
    """A message between two deliveries."""

    __slots__ = ("due", "key", "last")

    def __init__(self, due: float, key: Key, last: Lease | None) -> None:
        self.due = due
        """When it is to be delivered again, in loop time."""
        self.key = key
        self.last = last
        """Its last delivery: another member gets it now, if there is one. None: there is none known."""
