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
