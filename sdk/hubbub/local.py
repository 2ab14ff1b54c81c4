"""Local-only mode: agents of one process go on hearing one another while the broker is unreachable.

What an agent publishes while it is degraded is kept in its outbox, and handed at once to the subscriptions of all
agents of this process that use the same broker. When the broker is back it gets the message, and delivers it to
everyone; a subscription that heard it already drops that copy.

The topic's order for each publisher stays. So a subscription takes a local message only if it has, or will never get,
what the same publisher said to that topic before:

    before                          the subscription takes the message if
    ------------------------------  ----------------------------------------------------------------
    nothing                         always
    a message that it has seen      always
    a stored message, seq known     its cursor has passed that seq
    a message not confirmed yet     it wants only what is new, and has neither begun nor heard anything: that one was
                                    before its time (and is dropped when it comes)

and only if it is not replaying history and not behind. Otherwise it gets the message from the broker, in its turn. A
subscription that begins like that, with a local message, asks the broker later for all that came since then.
"""

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from hubbub_protocol import causal, codec
from hubbub_protocol.frames import NO_DATA, Msg, Pub

from .outbox import Entry, Outbox


@dataclass(frozen=True, slots=True)
class LocalMessage:
    """A message on its way to the agents of this process."""

    frame: Msg
    payload: bytes | None
    confirmed_before: tuple[str, int | None] | None
    """Id and seq of the publisher's last confirmed message to the topic."""
    waiting_before: tuple[str, ...]
    """Ids of its unconfirmed ones, oldest first."""


class Member(Protocol):
    """An agent, as far as others of its process are concerned."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it lives in."""

    def hear(self, message: LocalMessage) -> None:
        """Take a local message. Called in its own loop."""


class LocalHub:
    """The agents of this process that use one broker."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._lock = threading.Lock()

    def join(self, member: Member) -> None:
        """Hear the others, and be heard."""
        with self._lock:
            self._members.append(member)

    def leave(self, member: Member) -> None:
        """Hear nothing any more."""
        with self._lock:
            if member in self._members:
                self._members.remove(member)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is left."""
        return not self._members

    def pass_on(self, message: LocalMessage) -> None:
        """Hand a message to every agent, its sender included, each in its own loop."""
        here = asyncio.get_running_loop()
        with self._lock:
            members = tuple(self._members)
        for member in members:
            if member.loop is here:
                member.hear(message)
            elif not member.loop.is_closed():
                member.loop.call_soon_threadsafe(member.hear, message)


_hubs: dict[str, LocalHub] = {}
_hubs_lock = threading.Lock()


def join_hub(url: str, member: Member) -> LocalHub:
    """Join the hub of a broker; it comes into being with its first member."""
    with _hubs_lock:
        hub = _hubs.setdefault(url, LocalHub())
        hub.join(member)
        return hub


def leave_hub(url: str, member: Member) -> None:
    """Leave the hub of a broker; it goes with its last member."""
    with _hubs_lock:
        hub = _hubs.get(url)
        if hub is not None:
            hub.leave(member)
            if hub.is_empty:
                del _hubs[url]


def local_message(entry: Entry, outbox: Outbox, sender: str, lamport: int) -> LocalMessage:
    """What the others hear of an outbox entry."""
    pub = codec.decode_client(entry.body)
    assert isinstance(pub, Pub), "an outbox holds publishes"
    frame = Msg(
        topic=pub.topic,
        id=pub.id,
        sender=sender,
        ts=time.time(),
        lc=causal.next_lamport(pub.lc, lamport),
        data=pub.data if entry.payload is None else NO_DATA,
        parent=pub.parent,
        type=pub.type,
        headers=pub.headers,
        reply_to=pub.reply_to,
        ephemeral=pub.ephemeral,
    )
    confirmed, waiting = outbox.before(entry)
    return LocalMessage(frame, entry.payload, confirmed, waiting)
