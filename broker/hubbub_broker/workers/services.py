"""What a worker does for the others: publishes for them, knows who is connected where, tells publishers of receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from hubbub_broker.access import Identity, Operation
from hubbub_broker.log import LogError
from hubbub_broker.peers import Peers, Reply
from hubbub_broker.refusal import Elsewhere, Refusal, unreadable
from hubbub_broker.session import fields_of
from hubbub_broker.shard import Cursor, Publisher
from hubbub_protocol.codec import decode_client
from hubbub_protocol.errors import ErrorCode, ProtocolError
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import MAIL_GROUP, group_of

if TYPE_CHECKING:
    from hubbub_broker.broker import Broker

PAGE = 1000
"""Names in one message, when a worker is told who is connected here."""

INBOX_PREFIX = f"{MAIL_GROUP}/@"


class Passed:
    """A `Sink` for one publish of another worker: the answer goes back over the link."""

    __slots__ = ("_reply", "cursors", "writable")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.writable = False
        self.cursors: dict[str, Cursor] = {}

    def write(self, blob: bytes) -> None:  # noqa: ARG002 - the signature is Sink's
        raise AssertionError("this sink subscribes to nothing")

    def answer(self, lines: list[bytes]) -> None:
        """The answer."""
        self._reply(lines[0])

    def settle(self, count: int, lines: list[bytes]) -> None:  # noqa: ARG002 - the signature is Sink's
        """The answer."""
        self._reply(lines[0])

    def stop_reading(self) -> None:
        """A link carries many publishers: one is not to stop the others. `link_calls` bounds them all."""

    def resume_reading(self) -> None:
        """Nothing was stopped."""


class Services:
    """One worker's part for the others, and what it knows of them."""

    def __init__(self, broker: Broker, peers: Peers) -> None:
        self._broker = broker
        self._peers = peers
        self._online: dict[int, set[str]] = {number: set() for number in peers.topology.others}
        """Who is connected at each of the others."""
        self._said: set[str] = set()
        """At home: of whom it was told that they are there."""
        peers.handlers |= {
            "publish": self._publish,
            "publish_for": self._publish_for,
            "announce": self._announce,
            "tell": self._tell,
            "online": self._come,
            "offline": self._go,
        }
        peers.serve("disconnect", self._disconnect)
        if peers.topology.is_home:
            peers.handlers["mail"] = self._mail
            peers.serve("mail_to_all", self._mail_to_all)
        peers.on_joined.append(self._joined)
        peers.on_lost.append(self._lost)

    # Who is here ----------------------------------------------------------------------------------------------------

    def is_online(self, agent: str) -> bool:
        """Whether an agent has a connection, at whichever worker."""
        return bool(self._broker.sessions.of(agent)) or any(agent in names for names in self._online.values())

    def tell(self, agent: str, line: bytes) -> bool:
        """Send a line to an agent, wherever it is connected: here if it is, else at one other worker."""
        if self._broker.sessions.tell(agent, line):
            return True
        for worker, names in self._online.items():
            if agent in names and self._peers.tell(worker, "tell", agent, line):
                return True
        return False

    def _say(self, agents: Iterable[str]) -> None:
        """At home: tell whoever keeps a picture which of these came, and which left, seen over all workers."""
        told = self._broker.bus.told
        if told is None:
            return
        for agent in agents:
            if not self.is_online(agent):
                if agent in self._said:
                    self._said.discard(agent)
                    told.left(agent)
            elif agent not in self._said:
                record = self._broker.bus.agents.get(agent)
                if record is not None:
                    self._said.add(agent)
                    told.came(record)

    def came(self, agent: str) -> None:
        """An agent has said hello here."""
        self._say([agent])
        self._peers.tell_all("online", self._peers.topology.own, [agent])

    def left(self, agent: str) -> None:
        """Its last connection here is gone."""
        self._say([agent])
        self._peers.tell_all("offline", self._peers.topology.own, agent)

    def _joined(self, worker: int) -> None:
        names = [agent for agent, _ in self._broker.sessions.agents()]
        for begin in range(0, len(names), PAGE):
            self._peers.tell(worker, "online", self._peers.topology.own, names[begin : begin + PAGE])

    def _lost(self, worker: int) -> None:
        gone, self._online[worker] = self._online[worker], set()
        self._say(gone)

    def _come(self, arguments: list[Any], _reply: Reply) -> None:
        worker, names = arguments
        self._online[worker].update(names)
        self._say(names)
        for agent in names:
            self._broker.tell_receipts(agent)

    def _go(self, arguments: list[Any], _reply: Reply) -> None:
        worker, agent = arguments
        self._online[worker].discard(agent)
        self._say([agent])

    async def disconnect(self, agent: str) -> int:
        """End the connections that an agent has to the other workers. How many.

        Raises:
            Refusal: one of them does not answer: whether it did is not known.
        """
        there = [worker for worker in self._peers.topology.others if self._peers.is_here(worker)]
        return sum(await asyncio.gather(*(self._peers.ask(worker, "disconnect", agent) for worker in there)))

    async def _disconnect(self, agent: str) -> int:
        return self._broker.sessions.disconnect(agent)

    def _tell(self, arguments: list[Any], _reply: Reply) -> None:
        agent, line = arguments
        self._broker.sessions.tell(agent, line)

    # Publishing -----------------------------------------------------------------------------------------------------

    def _publish(self, arguments: list[Any], reply: Reply) -> None:
        """Publish what another worker has admitted: a mail, a will."""
        name, key, pub, payload = _pub_of(arguments)
        self._to_shard(name, key, pub, payload, reply, promised=arguments[4])

    def _publish_for(self, arguments: list[Any], reply: Reply) -> None:
        """Publish what a client has asked another worker for, within the limits that are kept here."""
        name, key, pub, payload = _pub_of(arguments)
        sessions = self._broker.sessions
        sessions.admit(name, pub, payload)
        sessions.check_open(pub.topic)
        self._to_shard(name, key, pub, payload, reply)

    def _to_shard(
        self, name: str, key: bytes, pub: Pub, payload: bytes | None, reply: Reply, *, promised: bool = False
    ) -> None:
        if self._broker.sessions.draining:
            raise Refusal(ErrorCode.SHUTTING_DOWN, "the broker is stopping", self._broker.settings.reconnect_spread)
        sink = Passed(reply)
        try:
            way = self._broker.way_to(group_of(pub.topic))
            publisher = Publisher(name, None, way.topic(pub.topic))
            publisher.key = key
            publisher.promised = promised
            if pub.mandatory:
                readers = self._broker.shard_of(group_of(pub.topic)).readers
                if not readers.heard_besides(publisher.topic, sink):
                    raise Refusal(ErrorCode.NOT_FOUND, f"nobody is subscribed to {pub.topic} (mandatory)")
            way.publish(publisher, pub, payload, sink)
        except LogError as error:
            raise unreadable(error) from None

    def _mail(self, arguments: list[Any], reply: Reply) -> None:
        """Publish a mail to somebody whom the sender's worker does not know: as the register here says, or not."""
        name, key, pub, payload = _pub_of(arguments)
        identity = msgspec.convert(arguments[5], Identity)
        bus = self._broker.bus
        to = pub.topic[len(INBOX_PREFIX) :]
        try:
            why = self._broker.access.why_not(identity, Operation.SEND, bus.inbox_of(to))
            if why is not None:
                raise Refusal(ErrorCode.FORBIDDEN, why)
            record = bus.mail.recipient(to, create=fields_of(pub.headers).get("create") is True)
        except (ProtocolError, Elsewhere) as error:
            raise Refusal(ErrorCode.BAD_REQUEST, str(error)) from None
        self._to_shard(name, key, msgspec.structs.replace(pub, topic=record.inbox), payload, reply)

    async def _mail_to_all(self, sender: str, line: bytes) -> list[Any]:
        pub = decode_client(line)
        assert isinstance(pub, Pub)
        return list(await self._broker.bus.mail.send_to_all(sender, pub))

    def _announce(self, arguments: list[Any], _reply: Reply) -> None:
        topic, type, data = arguments
        self._broker.announce(topic, type, data)


def _pub_of(arguments: list[Any]) -> tuple[str, bytes, Pub, bytes | None]:
    name, key, line, payload = arguments[:4]
    pub = decode_client(line)
    assert isinstance(pub, Pub)
    return name, key, pub, payload
