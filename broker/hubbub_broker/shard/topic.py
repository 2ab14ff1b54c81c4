"""A topic while it is in memory: its tail, its caught-up readers, and what waits for the next commit."""

from collections.abc import Iterator
from typing import Protocol

from hubbub_broker.guard import Memory
from hubbub_broker.log import ShardLog, TopicLog
from hubbub_broker.metrics import Histogram
from hubbub_broker.policy import TopicPolicy
from hubbub_broker.schema import OfGroup, is_exempt
from hubbub_broker.wire import Special
from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Pub
from hubbub_protocol.names import MAIL, inbox_owner, is_reserved

from .cursor import Cursor
from .filtered import Group
from .hold import HoldBack

_RECENT = 512


class Run:
    """Consecutive messages of one topic on their way to its readers.

    `durable` of them have a seq; the first of those has seq `first`. `last_durable` of the topic is then
    `first + durable - 1`.
    """

    __slots__ = ("durable", "first", "lines", "since", "special")

    def __init__(self, first: int, durable: int, lines: list[bytes], special: Special | None, since: float) -> None:
        self.since = since
        """When the first of them was taken, by the shard's clock."""
        self.first = first
        self.durable = durable
        self.lines = lines
        self.special = special


class Follower(Protocol):
    """Who hears of every run of a topic beside its readers, without a connection of its own."""

    def follow(self, run: Run) -> None:
        """A run has been delivered to the topic's live readers."""

    def served_besides(self, sink: object) -> bool:
        """Whether anybody on another connection than `sink` would get what is published now."""

    @property
    def idle(self) -> bool:
        """Whether the topic may be let go from memory."""

    def gone(self) -> None:
        """The topic has been let go from memory."""


class Topic:
    """One topic's state in its shard. Only the shard changes it.

    Between the log's head and `delivered` lie the messages that are appended and not yet on stable storage: nobody has
    been sent those, and `pending` holds their lines, with the ephemeral ones in between, until they are.
    """

    __slots__ = (
        "_previous_signals",
        "_signals",
        "cursors",
        "delivered",
        "durable_pending",
        "durable_seconds",
        "followers",
        "generation",
        "gone",
        "groups",
        "guarded",
        "hold",
        "in_flight",
        "lc",
        "live",
        "log",
        "memory",
        "name",
        "pattern_epoch",
        "pending",
        "policy",
        "queued",
        "schemas",
        "signals",
        "since",
        "special",
        "store",
        "takes_mail",
        "underway",
        "used",
        "watched",
        "wire_name",
    )

    def __init__(
        self, name: str, store: ShardLog, policy: TopicPolicy, schemas: OfGroup | None, durable_seconds: Histogram
    ) -> None:
        self.name = name
        self.durable_seconds = durable_seconds
        """Its group's: how long messages take until they are on stable storage."""
        self.since = 0.0
        """When the first of what is pending was taken."""
        self.wire_name = name.encode()
        self.store = store
        self.takes_mail = inbox_owner(name) is not None
        """Whether it is an inbox."""
        self.memory: Memory | None = None
        """The guard's, once there was something to remember."""
        self.follow(policy, schemas)
        self.generation = 0
        """The state of the shard's rules that it goes by."""
        self.log: TopicLog = store.topic(name)
        self.lc = self.log.lc
        self.delivered = self.log.head
        """Seq up to which every message is durable and has gone to the readers that were caught up."""
        self.live: dict[Cursor, None] = {}
        """Readers that want everything and have all up to `delivered`, in the order in which they joined."""
        self.groups: dict[Filter, Group] | None = None
        """Readers that want only some of it, by what they want; None as long as there were none."""
        self.cursors = 0
        """Readers, those that are behind included."""
        self.followers: tuple[Follower, ...] = ()
        self.pending: list[bytes] = []
        self.special: Special | None = None
        self.durable_pending = 0
        self.queued = False
        """Whether the topic is among those that the next batch takes from."""
        self.underway = False
        """Whether a run of this topic, be it only of signals, is in the batch that is being synced now."""
        self.in_flight = 0
        """Durable messages of that run."""
        self.hold: HoldBack | None = None
        self.pattern_epoch = -1
        """The state of the shard's patterns that `live` reflects."""
        self.gone = False
        """Let go from memory: whoever still holds this object must ask the shard again."""
        self.signals = 0
        """Ephemeral messages that have gone out."""
        self.used = 0.0
        self._signals: dict[str, str] = {}
        self._previous_signals: dict[str, str] = {}

    def follow(self, policy: TopicPolicy, schemas: OfGroup | None) -> None:
        """Go by these from the next message on."""
        self.policy = policy
        self.schemas = None if policy.schemas == "off" or is_exempt(self.name) else schemas
        """Its group's, by type; None where there are none to look at."""
        self.guarded = policy.watches_all and not is_reserved(self.name)
        """Whether the guard looks at every message, and not only at those that say what caused them."""
        self.watched = self.guarded or self.takes_mail or self.schemas is not None
        """Whether every message is looked at, by the guard or for its schema."""
        if self.memory is not None:
            self.memory.follow(policy)

    def asks_guard(self, pub: Pub) -> bool:
        """Whether the guard looks at a message: it says its cause, is mail, or there is a rule for all."""
        return pub.parent is not None or bool(pub.headers) or self.guarded or (self.takes_mail and pub.type == MAIL)

    def take(self) -> Run:
        """Everything that is pending, as a run; nothing is pending after that."""
        run = Run(self.delivered + self.in_flight + 1, self.durable_pending, self.pending, self.special, self.since)
        self.pending = []
        self.special = None
        self.durable_pending = 0
        return run

    def mark(self, header_size: int, expires: float) -> None:
        """Note that the newest pending line is binary, or expires."""
        if self.special is None:
            self.special = {}
        self.special[len(self.pending) - 1] = (header_size, expires)

    def remember_signal(self, id: str, sender: str) -> bool:
        """Remember an ephemeral message, which the log does not. False if it is here a second time.

        The last 512 to 1,024 of a topic are remembered: they are best effort, and so is their dedup.
        """
        if self._signals.get(id) == sender or self._previous_signals.get(id) == sender:
            return False
        if len(self._signals) >= _RECENT:
            self._previous_signals = self._signals
            self._signals = {}
        self._signals[id] = sender
        return True

    def forget_signal(self, id: str) -> None:
        """Forget the ephemeral message that was remembered last: it was not taken after all."""
        self._signals.pop(id, None)

    def has_signal(self, id: str) -> bool:
        """Whether an ephemeral message with this id was here not long ago."""
        return id in self._signals or id in self._previous_signals

    @property
    def idle(self) -> bool:
        """Whether nothing but history would be lost by letting the topic go from memory.

        A reader that is behind has its place here. One that is live by way of a pattern needs none: the pattern joins
        again, at the head, when the topic is next heard of.
        """
        if self.pending or self.underway or self.hold is not None:
            return False
        if not all(follower.idle for follower in self.followers):
            return False
        live = 0
        for cursor in self.all_live():
            if cursor.pattern is None or not cursor.pattern.live:
                return False
            live += 1
        return live == self.cursors

    # Readers --------------------------------------------------------------------------------------------------------

    def enter(self, cursor: Cursor) -> None:
        """One more reader, that is not live yet."""
        self.cursors += 1
        if cursor.filter is not None:
            if self.groups is None:
                self.groups = {}
            group = self.groups.get(cursor.filter)
            if group is None:
                group = self.groups[cursor.filter] = Group(cursor.filter)
            group.cursors += 1

    def leave(self, cursor: Cursor) -> None:
        """One less, that is not live any more."""
        self.cursors -= 1
        if cursor.filter is not None and self.groups is not None:
            group = self.groups[cursor.filter]
            group.cursors -= 1
            if not group.cursors:
                del self.groups[cursor.filter]

    def peers(self, cursor: Cursor) -> dict[Cursor, None]:
        """The live readers that want what this one wants: itself among them, if it is live."""
        if cursor.filter is None or self.groups is None:
            return self.live
        return self.groups[cursor.filter].live

    def all_live(self) -> Iterator[Cursor]:
        """Every live reader."""
        yield from self.live
        for group in (self.groups or {}).values():
            yield from group.live
