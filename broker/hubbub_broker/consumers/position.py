"""A consumer's position in one topic, as it stands in the log.

What is settled is one record, written again with every change. What has failed stands beside it, in pages: an ack
writes none of those again, however much is waiting.
"""

import msgspec

from .failures import Failure
from .settled import Settled

_VERSION = 2
"""1 had every failure in the position itself: it is still read."""


class Position(msgspec.Struct, array_like=True, frozen=True):
    """The newest of these for a (consumer, topic) is where it goes on after a restart."""

    version: int
    floor: int
    ranges: list[tuple[int, int]]
    failures: dict[int, Failure]
    """Of version 1."""
    made: float = 0.0
    """`created` of the terms that it belongs to: one from before a reset, or of a consumer that is gone, is void."""
    pages: list[int] = []
    """Where failures are."""

    def settled(self) -> Settled:
        """The set of what is settled."""
        return Settled(self.floor, self.ranges)


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some of the failures of a position."""

    version: int
    made: float
    """As of the position."""
    failures: dict[int, Failure]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Position] = msgspec.msgpack.Decoder(Position)
_pages: msgspec.msgpack.Decoder[Page] = msgspec.msgpack.Decoder(Page)


def encode_position(settled: Settled, pages: list[int], made: float) -> bytes:
    """A position for the log."""
    return _encoder.encode(Position(_VERSION, settled.floor, settled.ranges, {}, made, pages))


def decode_position(body: bytes) -> Position:
    """A position from the log.

    Raises:
        msgspec.DecodeError: it was written by a newer program, or is damaged.
    """
    return _decoder.decode(body)


def encode_page(failures: dict[int, Failure], made: float) -> bytes:
    """A page of failures for the log."""
    return _encoder.encode(Page(_VERSION, made, failures))


def decode_page(body: bytes) -> Page:
    """A page of failures from the log.

    Raises:
        msgspec.DecodeError: as `decode_position`.
    """
    return _pages.decode(body)
