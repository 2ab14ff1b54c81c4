"""What was agreed with a consumer when it was made: where it starts, how it is shared, when it gives a message up."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from hubbub_broker.refusal import Refusal
from hubbub_broker.shard import Start, Topic
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.filters import Filter, FilterLimits
from hubbub_protocol.names import is_hidden, is_pattern, matcher, overlap

_UNLIMITED = FilterLimits(bytes=1 << 30, depth=1 << 20, tests=1 << 30)
"""What was taken under a larger limit than today's goes on."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A consumer's own settings. Kept in its shard's log."""

    topic: str
    """A topic, or a pattern within one group."""
    name: str
    created: float
    """When it was made, or last reset, by its shard's clock: what was sequenced earlier is not `new` to it. No two of a
    shard have the same, so that it tells which positions are its own."""
    start: Literal["new", "all", "seq", "last", "since"] = "new"
    number: float = 0.0
    """The number that goes with `seq`, `last` or `since`."""
    max_deliver: int = 5
    """Deliveries after which a message that fails is given up; 0 is never."""
    backoff: tuple[float, ...] = (1.0, 5.0, 30.0, 120.0, 600.0)
    """Seconds until a message that failed comes again: after the first failure, the second, …; the last goes on."""
    exclusive: bool = False
    ordered: str | None = None
    paused: bool = False
    where: dict[str, Any] | None = None
    """Which messages are its business; the others count as settled."""
    select: list[str] | None = None
    """What of them its members are given."""

    @property
    def key(self) -> bytes:
        """Its key in the log."""
        return consumer_key(self.name, self.topic)

    def filter(self) -> Filter | None:
        """What of its topics is its business; None: everything. It was checked when it was agreed on."""
        if not self.where and self.select is None:
            return None
        return Filter(self.where, self.select, _UNLIMITED)

    def covers(self, topic: str) -> bool:
        """Whether it reads this topic."""
        if not is_pattern(self.topic):
            return topic == self.topic
        return not is_hidden(topic) and matcher(self.topic)(topic)

    def collides(self, other: "Terms") -> bool:
        """Whether two consumers of one name would both read some topic."""
        if self.name != other.name or self.topic == other.topic or not overlap(self.topic, other.topic):
            return False
        return not any(is_hidden(topic) for topic in (self.topic, other.topic) if not is_pattern(topic))

    def floor_of(self, topic: Topic) -> int:
        """The seq up to which a topic where it has no position yet is none of its business."""
        log, store = topic.log, topic.store
        first = store.first_seq(log)
        if self.start == "all":
            return first - 1
        if self.start == "since":
            return store.seq_at(log, self.number) - 1
        before = store.seq_at(log, self.created) - 1
        if self.start == "last":
            return max(before - int(self.number), first - 1)
        if self.start == "seq":
            return min(int(self.number) - 1, before)
        return before


def is_internal(name: str) -> bool:
    """Whether a consumer of this name is the broker's own: nobody joins it, or settles for it."""
    return name.startswith("_")


def consumer_key(name: str, topic: str) -> bytes:
    """The key in the log of what concerns a consumer of that name at a topic or pattern."""
    return f"{name}\0{topic}".encode()


def page_key(name: str, topic: str, number: int) -> bytes:
    """The key in the log of a page of what failed there."""
    return b"%b\0%d" % (consumer_key(name, topic), number)


def number_of_page(key: bytes) -> int:
    """The page that such a key is of."""
    return int(key.rpartition(b"\0")[2])


def consumer_of_key(key: bytes) -> tuple[str, str]:
    """Topic or pattern, and name, of such a key."""
    name, _, topic = key.decode().partition("\0")
    return topic, name


def start_fields(start: Start) -> tuple[Literal["new", "all", "seq", "last", "since"], float]:
    """A checked `from` as it is kept."""
    if start.all:
        return "all", 0.0
    if start.seq is not None:
        return "seq", float(start.seq)
    if start.last is not None:
        return "last", float(start.last)
    if start.since is not None:
        return "since", start.since
    return "new", 0.0


def filter_terms(filter: Filter | None) -> dict[str, Any]:
    """A checked filter as it is kept."""
    if filter is None:
        return {"where": None, "select": None}
    return {"where": filter.where, "select": filter.select}


def check_filters(terms: Terms, others: Iterable[Filter | None], limit: int) -> None:
    """Make sure that the consumers of a topic, or all those of patterns, have not too many different filters.

    Raises:
        Refusal: they have.
    """
    wanted = terms.filter()
    there = {each for each in others if each is not None}
    if wanted is not None and wanted not in there and len(there) >= limit:
        what = "patterns" if is_pattern(terms.topic) else terms.topic
        message = f"consumers of {what} have {limit} different filters, the limit (max_filters): use one of them"
        raise Refusal(ErrorCode.OVERLOADED, message, 1.0, limit="max_filters")


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Terms] = msgspec.json.Decoder(Terms)


def encode_terms(terms: Terms) -> bytes:
    """Terms as they stand in the log."""
    return _encoder.encode(terms)


def decode_terms(body: bytes) -> Terms:
    """Terms from the log.

    Raises:
        msgspec.DecodeError: it was written by a newer program, or is damaged.
    """
    return _decoder.decode(body)
