"""A message as a consumer hands it over: it is to be settled."""

import threading
from typing import Protocol

from hubbub_protocol.frames import Msg

from .errors import check_delay
from .lease import Lease, Ruling, Verdict
from .message import Message, Publisher

REASON_CHARS_MAX = 500
"""Characters of an exception that a dead letter tells."""


class Steward(Protocol):
    """Who settles deliveries."""

    async def settle(self, delivery: "Delivery", ruling: Ruling) -> None:
        """Say what becomes of a message, and wait for the broker's confirmation."""

    async def extend(self, delivery: "Delivery") -> None:
        """Say that the work goes on, and wait for the broker's confirmation."""


class Delivery(Message):
    """A message of a consumer.

    Its lease is kept by itself as long as anyone holds this object and has not settled it: there is no need to call
    `extend`. Settling waits until the broker has it on disk, across disconnects; not waiting for it (by a task of its
    own, say) loses nothing.

    An ephemeral message is not settled: these methods do nothing then.
    """

    __slots__ = ("__weakref__", "_lease", "_steward")

    def __init__(
        self, frame: Msg, publisher: Publisher, payload: bytes | None, lease: Lease | None, steward: Steward
    ) -> None:
        super().__init__(frame, publisher, payload)
        self._lease = lease
        self._steward = steward

    @property
    def consumer(self) -> str:
        """The consumer that it belongs to."""
        assert self._frame.consumer is not None, "no other message is made a delivery"
        return self._frame.consumer

    @property
    def made(self) -> float:
        """When that consumer was made, or last reset, by the broker's clock: which life of it this belongs to."""
        return self._frame.made

    @property
    def lease(self) -> Lease | None:
        """Whose it is and for how long; None for an ephemeral message."""
        return self._lease

    @property
    def attempt(self) -> int:
        """1 at its first delivery, then 2, 3 and so on."""
        return self._lease.attempt if self._lease is not None else 1

    @property
    def lost(self) -> threading.Event:
        """Set when nobody wants the work on it any more: it may be another's by now, or its asker called it off.

        A coroutine that works on it is cancelled then; a function in a thread can't be, and should look here.
        """
        return self._lease.lost if self._lease is not None else threading.Event()

    async def ack(self) -> None:
        """It is done: it never comes again.

        Raises:
            LeaseLost: it was given to another meanwhile (or its broker may have, during a long disconnect).
            Conflict: it was settled in another way before.
            Rejected, Closed, Refused
        """
        await self._steward.settle(self, Ruling(Verdict.ACK))

    async def nack(self, delay: float | None = None, reason: str | None = None) -> None:
        """It failed: let it come again after `delay` seconds (default: the consumer's backoff). Raises as `ack`.

        Raises:
            ValueError: `delay` is not 0 to 30 days.
        """
        check_delay(delay)
        await self._steward.settle(self, Ruling(Verdict.NACK, delay, reason))

    async def term(self, reason: str | None = None) -> None:
        """It will never succeed: to the dead letters with it. Raises as `ack`."""
        await self._steward.settle(self, Ruling(Verdict.TERM, None, reason))

    async def extend(self) -> None:
        """Have the broker confirm now that it is still this agent's, for another `ack_wait`. Raises as `ack`."""
        await self._steward.extend(self)

    def __repr__(self) -> str:
        return f"<Delivery {self.topic}#{self.seq} {self.id} from {self.sender}, attempt {self.attempt}>"


def reason_of(error: BaseException) -> str:
    """An exception as the reason of a nack."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= REASON_CHARS_MAX else text[: REASON_CHARS_MAX - 1] + "…"
