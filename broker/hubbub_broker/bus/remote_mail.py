"""Mail at another worker than the home one: what needs the register, or every inbox, is done at home."""

from __future__ import annotations

from typing import Any

import msgspec

from hubbub_broker.access import Identity
from hubbub_broker.peers import Peers
from hubbub_broker.refusal import Elsewhere
from hubbub_broker.shard import Publisher, Sink
from hubbub_protocol.codec import encode
from hubbub_protocol.frames import Pub

from .agents import AgentRecord
from .mail import Sent
from .register import RegisterCopy


class RemoteMail:
    """In place of `Mail`."""

    def __init__(self, agents: RegisterCopy, peers: Peers) -> None:
        self._agents = agents
        self._peers = peers
        self._home = peers.topology.home

    def recipient(self, name: str, *, create: bool) -> AgentRecord:  # noqa: ARG002 - the signature is Mail's
        """Whose inbox a mail goes to: somebody who is known here.

        Raises:
            Elsewhere: only home can say whether there is such an agent.
        """
        record = self._agents.get(name)
        if record is None:
            raise self._at_home()
        return record

    async def send(self, *_: Any, **__: Any) -> Sent:
        """Nothing that is done here: a mail over HTTP.

        Raises:
            Elsewhere: always.
        """
        raise self._at_home()

    async def send_to_all(self, sender: str, pub: Pub) -> Sent:
        """As `Mail.send_to_all`, done at home.

        Raises:
            Refusal: as there; or home is away. Some may have it then: with the same id each gets it once.
        """
        return Sent(*await self._peers.ask(self._home, "mail_to_all", sender, encode(pub), patient=True))

    def publish_by_home(
        self, identity: Identity, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink
    ) -> None:
        """Have a mail to somebody who is not known here taken, or refused, at home."""
        way = self._peers.way_to(self._home)
        way.send("mail", publisher, pub, payload, sink, msgspec.to_builtins(identity))

    def resume(self) -> None:
        """There is nothing under way."""

    def age(self, now: float) -> None:
        """There is nothing to forget."""

    async def close(self) -> None:
        """There is nothing under way."""

    def _at_home(self) -> Elsewhere:
        return Elsewhere(self._home, f"mail of this kind is sent at worker {self._home}")
