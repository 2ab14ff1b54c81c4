"""Topic policies: what holds for which topics, decided by pattern. Pure.

rules, in order          first match wins; what matches none gets the last one, whose pattern is `**`
------------------       ------------------------------------------------------------------------------
metrics/**               durable = false
research/*               max_age = 30 days
**                       the defaults
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hubbub_protocol.limits import FRAME_BYTES_MAX
from hubbub_protocol.names import check_pattern, matcher

ANY_TOPIC = "**"


@dataclass(frozen=True, slots=True)
class TopicPolicy:
    """What holds for the topics that match `pattern`. Every value is in force as it stands."""

    pattern: str = ANY_TOPIC
    durable: bool = True
    """Whether messages are stored unless they ask to be ephemeral. If not, every message of the topic is ephemeral."""
    max_age: float = 604_800.0
    """Seconds that messages are kept at least; 0 is for ever."""
    max_bytes: int = 0
    """Bytes of a topic's history that are kept at least; 0 is no limit."""
    max_count: int = 0
    """Messages of a topic that are kept at least; 0 is no limit."""
    dedup_window: float = 86_400.0
    """Seconds in which a second publish of the same id is a duplicate."""
    max_message: int = FRAME_BYTES_MAX
    """Bytes of one message as it stands on the wire."""
    max_ttl: float = 0.0
    """Longest time-to-live that a publish may ask for, in seconds; 0 is the protocol's own limit."""

    # The guard: 0 turns a rule off
    max_depth: int = 64
    """Answers to answers: the longest chain of messages of which each was caused by the one before it."""
    pingpong_messages: int = 50
    """Messages of one chain that two agents may exchange in `pingpong_window` before they are slowed."""
    pingpong_window: float = 60.0
    """Seconds; after as long a silence all is forgotten."""
    pingpong_stop: int = 50
    """How many more are let by, each later than the one before, until the chain is stopped."""
    pingpong_gap: float = 0.0
    """Seconds within which a message without `parent` counts as the answer to another agent's message before it."""
    echo_messages: int = 32
    """How often the same content may come round in `echo_window`, each time further down a chain."""
    echo_window: float = 60.0
    """Seconds, for `repeat_messages` too."""
    echo_stop: int = 32
    """How many more are let by, slowed, for `repeat_messages` too."""
    repeat_messages: int = 0
    """How often the same content may be published in `echo_window`, whoever does and why."""
    sender_rate: float = 0.0
    """Messages a second that one sender may publish to one topic in the long run."""
    sender_burst: int = 10
    """Messages that it may publish there at once."""
    budget_messages: int = 0
    """Messages that a conversation may hold in all."""
    budget_bytes: int = 0
    """Bytes of data that it may hold in all."""
    budget_cost: float = 0.0
    """The sum of the header `cost` that its messages may reach."""

    @property
    def has_budget(self) -> bool:
        """Whether the use of each conversation is counted."""
        return bool(self.budget_messages or self.budget_bytes or self.budget_cost)

    @property
    def watches_all(self) -> bool:
        """Whether a rule is about every message, and not only about those far down a chain."""
        every = self.has_budget or self.repeat_messages or self.sender_rate or self.pingpong_gap
        return bool(every or 0 < self.max_depth < 4)


class Policies:
    """The rules in force, in order. Immutable.

    Args:
        rules: the first that matches wins. A topic that none matches gets `TopicPolicy()`.

    Raises:
        BadName: if a rule's pattern is neither a topic nor a pattern.
    """

    __slots__ = ("_default", "_tests", "rules")

    def __init__(self, rules: Iterable[TopicPolicy] = ()) -> None:
        self.rules = tuple(rules)
        self._tests = tuple((matcher(check_pattern(rule.pattern)), rule) for rule in self.rules)
        self._default = TopicPolicy()

    def of(self, topic: str) -> TopicPolicy:
        """The policy of `topic`. Costs a match for each rule before the one that wins: ask once, and keep it."""
        for matches, rule in self._tests:
            if matches(topic):
                return rule
        return self._default
