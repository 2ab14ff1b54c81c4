"""A topic as its shard's log sees it: where it stands, and the private way to its records."""

from typing import NamedTuple

from .chain import Chain
from .index import TopicIndex
from .names import topic_key, topic_salt
from .record import LINE_START, Message


class TopicLog:
    """The state of a topic at the end of the log, appended records included.

    The shard reads `head`, `lc`, `last_ts` and `writers`; only the log changes them.
    """

    __slots__ = (
        "chain",
        "first",
        "head",
        "index",
        "key",
        "last_ts",
        "lc",
        "line_start",
        "name",
        "name_size",
        "salt",
        "segment",
        "total",
        "writers",
    )

    def __init__(self, name: str) -> None:
        encoded = name.encode()
        self.name = name
        self.head = 0
        """Its newest seq; 0 when it has none."""
        self.lc = 0
        self.last_ts = 0.0
        self.writers: dict[bytes, int] = {}
        """Each writer's newest count."""
        # The log's own:
        self.first = 1
        """The first seq that retention has left."""
        self.total = 0
        """Bytes of all its records up to the segment before the one that `index` is of."""
        self.segment = 0
        """The newest segment in which it occurs."""
        self.index: TopicIndex | None = None
        """Its index in that segment, while it is in memory."""
        self.chain = Chain()
        self.key = topic_key(encoded)
        self.salt = topic_salt(encoded)
        self.name_size = len(encoded)
        self.line_start = LINE_START + encoded + b'"'


class StoredMessage(NamedTuple):
    """One message as it is stored."""

    line: bytes
    header_size: int
    ts: float
    lc: int
    expires: float

    @classmethod
    def of(cls, message: Message) -> "StoredMessage":
        """A message's record as callers see it."""
        return cls(message.line, message.header_size, message.ts, message.lc, message.expires)
