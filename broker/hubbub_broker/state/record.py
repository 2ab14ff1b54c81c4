"""What the log keeps of a state, as keyed records beside the messages that tell of its changes.

STATE          topic NUL key    u64 version, the value as JSON
STATE_TOTALS   topic            u64 keys, u64 bytes of keys and values
STATE_TTL      topic NUL key    f64 seconds: the key goes by itself unless it is renewed
"""

from struct import Struct
from typing import NamedTuple

_VERSION = Struct("<Q")
_TOTALS = Struct("<QQ")
_TTL = Struct("<d")


class Held(NamedTuple):
    """What a key holds."""

    version: int
    value: bytes

    def encode(self) -> bytes:
        """As it is kept."""
        return _VERSION.pack(self.version) + self.value

    @classmethod
    def decode(cls, body: bytes) -> "Held":
        """As it was kept."""
        return cls(_VERSION.unpack_from(body)[0], body[_VERSION.size :])


class Totals(NamedTuple):
    """How large a state is."""

    keys: int = 0
    size: int = 0
    """Bytes of keys and values."""

    def encode(self) -> bytes:
        """As it is kept; nothing when there is nothing."""
        return _TOTALS.pack(*self) if self.keys else b""

    @classmethod
    def decode(cls, body: bytes) -> "Totals":
        """As it was kept."""
        return cls(*_TOTALS.unpack(body))


def place(topic: str, key: str) -> bytes:
    """Where a key of a state is kept."""
    return b"%b\0%b" % (topic.encode(), key.encode())


def split(place: bytes) -> tuple[str, str]:
    """The topic and the key that a place is of."""
    topic, _, key = place.partition(b"\0")
    return topic.decode(), key.decode()


def encode_ttl(seconds: float) -> bytes:
    """As it is kept."""
    return _TTL.pack(seconds)


def decode_ttl(body: bytes) -> float:
    """As it was kept."""
    seconds: float = _TTL.unpack(body)[0]
    return seconds
