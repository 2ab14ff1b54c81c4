"""Deliveries that are this agent's to settle, and the clock that keeps them its own.

    held --- settle ---> settling --- answered ---> over
     |  ^                   |
     |  +-- adopted         +--- came again ---> (an ack or a term is repeated for the new attempt; else over)
     |
     +--- lost ---> lost --- its handler ended ---> over

The broker gives a message for `ack_wait` seconds, and again so long each time that it is told that the work goes on.
The keeper tells it at about a third of that time. What the broker has not confirmed for `ack_wait`, by this machine's
steady clock, may be another's by now: it is lost. So a handler never goes on for longer than its lease lasts, however
long the broker is away.
"""

import threading
import weakref
from asyncio import Future, TimerHandle
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .delivery import Delivery

EXTEND_FRACTION = 3
"""A lease is extended when this part of `ack_wait` has passed: two extends may get lost before it is."""

TOGETHER_FRACTION = 12
"""What would be due within this part of `ack_wait` is extended along with what is due: they leave in one frame."""


class LeaseState(StrEnum):
    """Where a lease stands, for this agent."""

    HELD = "held"
    """It is waiting for its handler, or with it."""
    SETTLING = "settling"
    """The broker was told what became of it, or will be, and has not confirmed that."""
    LOST = "lost"
    """It is not this agent's any more, and its handler has not ended yet."""
    OVER = "over"


class Verdict(StrEnum):
    """What becomes of a message."""

    ACK = "ack"
    NACK = "nack"
    RETURN = "return"
    TERM = "term"

    @property
    def outlives_connection(self) -> bool:
        """Whether it is worth saying after a lost connection, by which the broker has taken the message back."""
        return self in (Verdict.ACK, Verdict.TERM)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict with its reasons."""

    verdict: Verdict
    delay: float | None = None
    reason: str | None = None


class Lease:
    """One delivery of one message. Fenced by its attempt."""

    __slots__ = (
        "asked_at",
        "attempt",
        "confirmed_at",
        "current",
        "delivery",
        "lost",
        "ruling",
        "seq",
        "state",
        "topic",
        "waiters",
    )

    def __init__(self, topic: str, seq: int, attempt: int, now: float) -> None:
        self.topic = topic
        self.seq = seq
        self.attempt = attempt
        self.state = LeaseState.HELD
        self.confirmed_at = now
        """When it was certainly this agent's, in loop time."""
        self.asked_at = now
        """When the broker was last told that the work goes on."""
        self.current = True
        """Whether it was given on the connection that is up. Else only its redelivery makes it this agent's again."""
        self.delivery: weakref.ref[Delivery] | None = None
        """The message, as long as anyone holds it: what nobody can settle any more is not kept."""
        self.lost = threading.Event()
        """Set when nobody wants what its handler does any more."""
        self.ruling: Ruling | None = None
        self.waiters: list[Future[None]] = []
        """Who waits for the broker's confirmation."""

    def __repr__(self) -> str:
        return f"<Lease {self.topic}#{self.seq} attempt {self.attempt} {self.state}>"

    def adopt(self, attempt: int, now: float) -> None:
        """The message was delivered here once more: what runs here goes on under the newer attempt."""
        self.attempt = attempt
        self.confirmed_at = self.asked_at = now
        self.current = True


class LeaseKeeper:
    """Extends the leases of one consumer, and says which are lost."""

    def __init__(
        self,
        ack_wait: float,
        *,
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], TimerHandle],
        extend: Callable[[Lease], None],
        lost: Callable[[Lease, str], None],
        abandoned: Callable[[Lease], None],
    ) -> None:
        """`extend` asks the broker; `lost` and `abandoned` (nobody holds the message) take a lease away."""
        self.ack_wait = ack_wait
        self._clock = clock
        self._call_at = call_at
        self._extend = extend
        self._lost = lost
        self._abandoned = abandoned
        self._leases: dict[Lease, None] = {}
        self._timer: TimerHandle | None = None

    def watch(self, lease: Lease) -> None:
        """Keep a lease until it is let go."""
        self._leases[lease] = None
        due = self._due(lease)
        if self._timer is None or self._timer.when() > due:
            self.stop()
            self._timer = self._call_at(due, self._look)

    def let_go(self, lease: Lease) -> None:
        """It needs no keeping any more."""
        self._leases.pop(lease, None)
        if not self._leases:
            self.stop()

    def stop(self) -> None:
        """Look at nothing until something is watched again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, lease: Lease) -> float:
        """When to look at it next."""
        end = lease.confirmed_at + self.ack_wait
        return min(end, lease.asked_at + self.ack_wait / EXTEND_FRACTION) if lease.current else end

    def _look(self) -> None:
        self._timer = None
        now = self._clock()
        soon = now + self.ack_wait / TOGETHER_FRACTION
        for lease in tuple(self._leases):
            if lease.delivery is not None and lease.delivery() is None:
                self._leases.pop(lease, None)
                self._abandoned(lease)
            elif lease.confirmed_at + self.ack_wait <= now:
                self._leases.pop(lease, None)
                self._lost(lease, f"the broker has not confirmed it for {self.ack_wait:g} s")
            elif lease.current and lease.asked_at + self.ack_wait / EXTEND_FRACTION <= soon:
                lease.asked_at = now
                self._extend(lease)
        if self._leases and self._timer is None:
            # Never at once again: a lease whose end is here is gone from the list, another one's next time lies ahead.
            self._timer = self._call_at(min(map(self._due, self._leases)), self._look)
