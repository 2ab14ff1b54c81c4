"""One connection's way into one topic: all that is the same for each message it publishes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from .topic import Topic


class Publisher:
    """Who publishes to which topic, with what depends on both worked out once."""

    __slots__ = ("dedup_seed", "key", "name", "promised", "topic", "wire_head", "wire_sender")

    def __init__(self, name: str, session: str | None, topic: Topic) -> None:
        self.name = name
        self.topic = topic
        self.promised = False
        """Whether its messages were looked at before, and promised: no schema, limit or rule stops them any more."""
        self.key = f"{name}\0{session}".encode() if session else name.encode()
        """Whose count `n` is: this life of the agent if its client names one, else whoever has the name."""
        self.wire_head = b'{"op":"msg","topic":"%b",' % topic.wire_name
        self.wire_sender = b'"from":"%b"' % name.encode()
        self.dedup_seed = xxh3_64_intdigest(b"%b\0%b" % (topic.wire_name, name.encode()))
        """Makes the hash of an id one of (publisher, topic, id)."""
