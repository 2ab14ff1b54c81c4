"""Topic policies: what holds for which topics, decided by pattern. Pure.

rules, in order          first match wins; what matches none gets the last one, whose pattern is `**`
------------------       ------------------------------------------------------------------------------
metrics/**               durable = false
research/*               max_age = 30 days
**                       the defaults

Over them lie the policies that are set at run time. The first of those that matches says what it says, field by field;
the rule that the topic would have without it says the rest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hubbub_protocol.limits import FRAME_BYTES_MAX
from hubbub_protocol.names import check_pattern, group_of, is_pattern, matcher

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
    schemas: str = "refuse"
    """What becomes of a message that does not fit the schema of its type: `refuse`, `count`, or `off`."""
    budget_messages: int = 0
    """Messages that a conversation may hold in all."""
    budget_bytes: int = 0
    """Bytes of data and headers that it may hold in all."""
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


@dataclass(frozen=True, slots=True)
class Override:
    """A policy that was set at run time. What it leaves out is as the rules say that the broker was started with."""

    name: str
    pattern: str
    priority: int
    version: int
    """Of the key that it is kept under: it grows with each change."""
    changes: Mapping[str, Any]
    """Fields of `TopicPolicy`, and what they are to be."""


class Verdict(NamedTuple):
    """What holds for a topic, and why."""

    policy: TopicPolicy
    override: Override | None
    """The run-time policy that matched, if any."""
    rule: TopicPolicy
    """What the rules say that the broker was started with: the policy without the override."""


_Test = tuple[Callable[[str], bool], int]
"""Whether something is for a topic, and its index."""


class Policies:
    """The rules in force, in order. Immutable: a change makes new ones.

    Args:
        rules: the first that matches wins. A topic that none matches gets `TopicPolicy()`.
        overrides: run-time policies, in any order. Of those that match a topic the first by priority (highest first),
            then by name, lies over the rule.

    Raises:
        BadName: if a pattern is neither a topic nor a pattern.
    """

    __slots__ = ("_default", "_made", "_over", "_tests", "overrides", "rules")

    def __init__(self, rules: Iterable[TopicPolicy] = (), overrides: Iterable[Override] = ()) -> None:
        self.rules = tuple(rules)
        self.overrides = tuple(sorted(overrides, key=lambda each: (-each.priority, each.name)))
        self._tests = _ByGroup([rule.pattern for rule in self.rules])
        self._over = _ByGroup([override.pattern for override in self.overrides])
        self._default = TopicPolicy()
        self._made: dict[tuple[int, int], TopicPolicy] = {}
        """By override and rule: topics with the same two share one object."""

    def of(self, topic: str) -> TopicPolicy:
        """The policy of `topic`. Costs a match for each rule before the one that wins: ask once, and keep it."""
        above = self._over.first(topic)
        below = self._tests.first(topic)
        if above < 0:
            return self._default if below < 0 else self.rules[below]
        made = self._made.get((above, below))
        if made is None:
            base = self._default if below < 0 else self.rules[below]
            override = self.overrides[above]
            made = self._made[above, below] = replace(base, pattern=override.pattern, **override.changes)
        return made

    def take_everywhere(self, size: int, ttl: float | None) -> bool:
        """Whether a message of so many bytes, and of that time-to-live, is within the limits of every topic there is:
        a look at each rule, and at no topic.
        """
        limits = [(rule.max_message, rule.max_ttl) for rule in (self._default, *self.rules)]
        limits += [(each.changes.get("max_message", size), each.changes.get("max_ttl", 0.0)) for each in self.overrides]
        return all(size <= bytes and (ttl is None or not 0 < longest < ttl) for bytes, longest in limits)

    def explain(self, topic: str) -> Verdict:
        """The policy of `topic`, and what made it."""
        above, below = self._over.first(topic), self._tests.first(topic)
        return Verdict(
            self.of(topic),
            None if above < 0 else self.overrides[above],
            self._default if below < 0 else self.rules[below],
        )

    def with_overrides(self, overrides: Iterable[Override]) -> "Policies":
        """The same rules with other run-time policies over them."""
        return Policies(self.rules, overrides)


class _ByGroup:
    """Finds the first of some patterns that matches a topic, looking only at those that its group could match."""

    __slots__ = ("_any", "_by_group")

    def __init__(self, patterns: Sequence[str]) -> None:
        parts = [(group_of(pattern), matcher(check_pattern(pattern))) for pattern in patterns]
        tests: list[tuple[str, _Test]] = [(group, (matches, at)) for at, (group, matches) in enumerate(parts)]
        named = {group for group, _ in tests if not is_pattern(group)}
        self._any = [test for group, test in tests if is_pattern(group)]
        self._by_group = {name: [test for group, test in tests if group == name or is_pattern(group)] for name in named}

    def first(self, topic: str) -> int:
        """The index of the first that matches, or -1."""
        for matches, at in self._by_group.get(group_of(topic), self._any):
            if matches(topic):
                return at
        return -1
