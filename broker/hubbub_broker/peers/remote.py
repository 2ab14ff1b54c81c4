"""A shard of another worker, as far as publishing to it goes: mail, wills, and what the broker itself says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Publisher, Shard, Sink, answers
from hubbub_protocol.codec import encode
from hubbub_protocol.frames import Pub

if TYPE_CHECKING:
    from hubbub_broker.shard import Topic

    from .peers import Peers


class RemoteTopic:
    """What a `Publisher` needs of a topic that is not here."""

    __slots__ = ("gone", "name", "wire_name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.wire_name = name.encode()
        self.gone = False


class RemoteShard:
    """The way to what another worker owns. What is published through it keeps its order."""

    def __init__(self, worker: int, peers: Peers) -> None:
        self.worker = worker
        self._peers = peers

    def topic(self, name: str) -> Topic:
        """What stands for a topic there."""
        return cast("Topic", RemoteTopic(name))  # of which a `Publisher` reads only what a RemoteTopic has

    def publish(self, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink) -> None:
        """Publish there. `sink` gets the owner's answer, or that it is away."""
        self.send("publish", publisher, pub, payload, sink)

    def send(self, what: str, publisher: Publisher, pub: Pub, payload: bytes | None, sink: Sink, *more: Any) -> None:
        """Have a message published there by the handler `what`, which gets `more` too."""

        def done(answer: Any) -> None:
            if isinstance(answer, Refusal):
                answer = answers.refusal(pub, answer.code, answer.message, retry_after=answer.retry_after)
            sink.settle(1, [answer])

        arguments = [publisher.name, publisher.key, encode(pub), payload, publisher.promised, *more]
        self._peers.call(self.worker, what, arguments, done)

    def announce(self, topic: str, type: str, data: dict[str, Any]) -> None:
        """Have a durable message of the broker's own published there. It is lost while that worker is away."""
        self._peers.tell(self.worker, "announce", topic, type, data)


Way = Shard | RemoteShard
"""How to publish to a topic, wherever it is."""
