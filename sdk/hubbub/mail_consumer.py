"""An agent's own inbox as a consumer, which hears local mail too.

Where the inbox is, the broker says when it welcomes the agent. While the broker is unreachable, mail from agents of
this process is handed over at once (`hear`); its copy comes from the broker later. Each is worked on once:

    the local one, when the copy comes      the copy
    --------------------------------------  --------------------------------------------------------------------------
    is at work                              becomes its lease: it goes on, and is settled by how it ends
    was acked, or termed                    is settled so at once, and handed to nobody
    was nacked, or nobody holds it          is handed over, as if nothing had been heard

A sender's order stays. So local mail is taken only if all that its sender sent here before was given to this agent, or
to another member of the inbox; else the broker brings it, in its turn.

What nobody here can know is whether another process reads the same inbox: while the broker is away it may be that its
reader gets a mail from the broker that was heard here. Nor does what was heard outlive this process: if it ends before
the copy came, its next life gets the copy.
"""

import weakref
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as with_fields

from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Live, Msg
from hubbub_protocol.names import READ_MARK

from .consumer import Consumer
from .delivery import Delivery
from .errors import Conflict, LeaseLost, NotFound
from .lease import Lease, LeaseState, Ruling, Verdict
from .link import Link
from .local import LocalMessage
from .mail import Mail
from .recent import Recent

HEARD_MAX = 1_000
"""Local mails whose copies are still to come. Beyond that, what comes waits for the broker."""

FORGET_SECONDS = 3600.0
"""How long a copy is waited for at least, when there are that many."""

GIVEN_MAX = 8_192
"""Mails from the broker that are remembered, so that a sender's next one is known to be in order."""

Key = tuple[str, str]
"""A mail's sender and id."""


class MailConsumer(Consumer):
    """Membership in an inbox."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._heard: dict[Key, Lease] = {}
        """What was heard and has no copy yet. Its leases have no seq."""
        self._given = Recent(GIVEN_MAX, float("inf"))
        self._reached = 0
        """Up to here, all was given to somebody."""

    # The connection ---------------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        inbox = link.welcome.inbox
        if inbox is None:
            self.end(NotFound("this broker has no inboxes", ErrorCode.NOT_FOUND))
            return
        if inbox != self.spec.topic:
            self.spec = replace(self.spec, topic=inbox)
            self.matches = inbox.__eq__
            self._reached = 0
        super().link_up(link)

    def came_alive(self, live: Live) -> None:
        self._reached = max(self._reached, live.seq)
        super().came_alive(live)

    def deliver(self, frame: Msg, payload: bytes | None) -> None:
        if frame.seq is None:
            super().deliver(frame, payload)
            return
        key = (frame.sender, frame.id)
        self._given.add(key)
        self._reached = max(self._reached, frame.seq)
        lease = self._heard.pop(key, None)
        if lease is None or not self._resolve(lease, frame, frame.seq):
            super().deliver(frame, payload)

    def _resolve(self, lease: Lease, frame: Msg, seq: int) -> bool:
        """Let the copy settle, or be, what was heard. False if it is to be handed over."""
        ruling = lease.ruling
        if ruling is not None and ruling.verdict.outlives_connection:
            copy = Lease(frame.topic, seq, frame.attempt or 1, self._loop.time())
            self._hold(copy)
            self._settle(copy, ruling)
            return True
        if lease.state is not LeaseState.HELD or lease.delivery is None or lease.delivery() is None:
            return False
        lease.topic, lease.seq = frame.topic, seq
        lease.adopt(frame.attempt or 1, self._loop.time())
        self._hold(lease)
        self._keeper.watch(lease)
        return True

    def _hold(self, lease: Lease) -> None:
        self._held[lease.topic, lease.seq] = lease
        self._empty.clear()

    def _delivery(self, frame: Msg, payload: bytes | None, lease: Lease | None) -> Delivery:
        return Mail(frame, self._publisher, payload, lease, self)

    # Local mail -------------------------------------------------------------------------------------------------

    def hear(self, heard: LocalMessage) -> bool:
        """Take a mail that an agent of this process sent, if that keeps its sender's order. True if it was taken."""
        frame = heard.frame
        key = (frame.sender, frame.id)
        if not self._accepting or frame.ephemeral or not self._has_room():
            return False
        if self._is_known_mail(key) or not self._is_next(heard):
            return False
        lease = Lease(self.spec.topic, 0, 1, self._loop.time())
        mail = self._delivery(with_fields(frame, topic=self.spec.topic, consumer=READ_MARK), heard.payload, lease)
        mail.local = True
        lease.delivery = weakref.ref(mail)
        self._heard[key] = lease
        self._taker.take(mail)
        return True

    def _has_room(self) -> bool:
        if len(self._heard) >= HEARD_MAX:
            # Some were refused by the broker, or taken by another reader of this inbox: no copy comes.
            old = self._loop.time() - FORGET_SECONDS
            for key, lease in list(self._heard.items()):
                if lease.state is not LeaseState.HELD and lease.confirmed_at < old:
                    del self._heard[key]
        return len(self._heard) < HEARD_MAX

    def _is_next(self, heard: LocalMessage) -> bool:
        sender = heard.frame.sender
        if heard.waiting_before:
            return all(self._is_known_mail((sender, id)) for id in heard.waiting_before)
        if heard.confirmed_before is None:
            return True
        id, seq = heard.confirmed_before
        return self._is_known_mail((sender, id)) or (seq is not None and seq <= self._reached)

    def _is_known_mail(self, key: Key) -> bool:
        return key in self._heard or key in self._given

    # Settling ---------------------------------------------------------------------------------------------------

    def rule(self, delivery: Delivery, ruling: Ruling) -> bool:
        lease = delivery.lease
        if lease is None or lease.seq:
            return super().rule(delivery, ruling)
        if lease.state is not LeaseState.HELD:
            return False
        self._note(lease, ruling)
        return True

    async def settle(self, delivery: Delivery, ruling: Ruling) -> None:
        """Settle a message. One that was heard, and whose copy has not come, is not waited for."""
        lease = delivery.lease
        if lease is None or lease.seq:
            await super().settle(delivery, ruling)
        elif lease.ruling is None:
            self._check(lease)
            self._note(lease, ruling)
        elif lease.ruling.verdict is not ruling.verdict:
            raise Conflict(f"{delivery!r} was settled already: {lease.ruling.verdict}", ErrorCode.CONFLICT)

    async def extend(self, delivery: Delivery) -> None:
        if delivery.lease is not None and not delivery.lease.seq:
            if delivery.lease.state is not LeaseState.HELD:
                raise LeaseLost(f"{delivery!r} was settled already")
            return  # nobody else knows of it
        await super().extend(delivery)

    @staticmethod
    def _note(lease: Lease, ruling: Ruling) -> None:
        lease.ruling = ruling
        lease.state = LeaseState.OVER

    def _give_up(self, error: BaseException) -> None:
        super()._give_up(error)
        for lease in self._heard.values():
            if lease.state is LeaseState.HELD:
                lease.lost.set()
                self._note(lease, Ruling(Verdict.RETURN))
