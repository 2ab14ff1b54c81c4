"""The first message under an id, when a second one comes."""

from typing import NamedTuple

from hubbub_broker.log import ShardLog
from hubbub_protocol.codec import decode_broker
from hubbub_protocol.frames import NO_DATA, Msg

from .publisher import Publisher


class First(NamedTuple):
    """What is known of the first one."""

    lc: int | None
    """None where retention took it."""
    data: bytes
    """Empty where it was bytes, and where retention took it."""


def find_first(log: ShardLog, publisher: Publisher, id: str, seq: int, now: float) -> First | None:
    """The message of this publisher and id that the dedup window says is `seq`; None if it is not the same after all.

    The window is a map of 64-bit hashes; the record itself has the last word.
    """
    topic = publisher.topic
    window = topic.policy.dedup_window
    if not window:
        return None
    stored = log.read_one(topic.log, seq)
    if stored is None:  # retention took it, but it is still remembered
        return First(None, bytes(NO_DATA))
    first = decode_broker(stored.line[: stored.header_size] if stored.header_size else stored.line)
    if not isinstance(first, Msg) or first.id != id or first.sender != publisher.name:
        return None
    if stored.ts + window < now:
        return None
    return First(first.lc, bytes(first.data))
