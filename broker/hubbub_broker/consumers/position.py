"""A consumer's position in one topic, as it stands in the log."""

import msgspec

from .settled import Settled

_VERSION = 1


class Failure(msgspec.Struct, array_like=True):
    """What is known of a message that was delivered and not settled."""

    deliveries: int
    """How often it was delivered."""
    failures: int
    """How often that went wrong."""
    first: float
    """When it first failed, in seconds since the Unix epoch."""
    last: float
    reason: str


class Position(msgspec.Struct, array_like=True, frozen=True):
    """The newest of these for a (consumer, topic) is where it goes on after a restart."""

    version: int
    floor: int
    ranges: list[tuple[int, int]]
    failures: dict[int, Failure]
    made: float = 0.0
    """`created` of the terms that it belongs to: one from before a reset, or of a consumer that is gone, is void."""

    def settled(self) -> Settled:
        """The set of what is settled."""
        return Settled(self.floor, self.ranges)


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Position] = msgspec.msgpack.Decoder(Position)


def encode_position(settled: Settled, failures: dict[int, Failure], made: float) -> bytes:
    """A position for the log."""
    return _encoder.encode(Position(_VERSION, settled.floor, settled.ranges, failures, made))


def decode_position(body: bytes) -> Position:
    """A position from the log.

    Raises:
        msgspec.DecodeError: it was written by a newer program, or is damaged.
    """
    return _decoder.decode(body)
