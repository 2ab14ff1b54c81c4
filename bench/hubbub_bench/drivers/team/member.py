"""What both sorts of members have: places, what they publish, and a way to come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hubbub_bench.peers import Address

from .outgoing import Outgoing
from .place import Place
from .tally import Tally


@dataclass(frozen=True)
class Ways:
    """How the members of a run work: what does not differ between them."""

    address: Address
    durable: bool
    consumer: Literal["none", "own", "shared"]
    max_unacked: int
    handler: float
    """Seconds that handling a message takes."""


@dataclass
class Member:
    """One agent of a team. Subclasses connect it."""

    ways: Ways
    tally: Tally
    name: str
    places: list[Place] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    slow: bool = False

    async def join(self) -> None:
        """Connect and subscribe, or come back and go on where it was.

        Raises:
            DriverError: if the broker does not want it.
        """
        raise NotImplementedError

    async def leave(self) -> None:
        """Go, with no regard for what is under way."""
        raise NotImplementedError

    async def close(self) -> None:
        """Go for good."""
        raise NotImplementedError

    def publish(self, outgoing: Outgoing, sequence: int) -> None:
        """Send a message of its own."""
        raise NotImplementedError

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Return when everything that the broker had sent by now is here."""
        raise NotImplementedError

    def consumer_name(self) -> str | None:
        """The consumer that it reads with, if it does so with one."""
        ways = self.ways.consumer
        return None if ways == "none" else "team" if ways == "shared" else self.name

    def open(self, there: bool) -> None:
        """It can publish from now on, or can't."""
        for one in self.outgoing:
            one.open = there

    def abandon(self) -> None:
        """What has no answer now waits until this member is back: that says nothing of the broker's latency."""
        for one in self.outgoing:
            self.tally.abandoned.update(one.base + sequence for sequence in one.waiting)

    def go_on(self) -> None:
        """Publish what there is room for."""
        for one in self.outgoing:
            one.fill()
