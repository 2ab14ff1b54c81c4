"""Causal order: Lamport timestamps and vector clocks, as pure functions.

A topic is in one total order already, and `lc` (Lamport 1978) extends "happened before" to a number that can be
compared across topics one way: if a happened before b then lc(a) < lc(b). The reverse does not hold. Whoever must know
whether two messages of different topics are *concurrent* asks for vector clocks: they travel in `headers` under
`HEADER` and cost a number for each agent that took part.
"""

from collections.abc import Mapping
from enum import Enum

from .names import is_topic

HEADER = "vc"
"""The message header that carries a vector clock: an object of agent -> count."""

HOPS = "hops"
"""The message header that counts how many messages caused this one, each the next: an integer. It goes where `parent`
can't, from one topic to another."""

CAUSE = "cause"
"""The message header that names what caused this one, where `parent` can't because it is of another topic:
`{"topic": TOPIC, "id": ID}`."""

HOPS_MAX = 1_000_000
"""What is above this, below 0, or no integer says nothing."""

BROADCASTS = "broadcasts"
"""The message header that counts the mails to ALL among those that led to this message: an integer. The broker writes
it into each mail to ALL."""

COST = "cost"
"""The message header that says what a message has cost its sender, in a unit of its own: a number, 0 or more."""

COST_MAX = 1e15
"""What is above this says nothing."""

VectorClock = dict[str, int]


class Order(Enum):
    """How two vector clocks stand to each other."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


def hops_of(header: object) -> int:
    """The number in a `hops` header; 0 when there is none, or it is not one."""
    if type(header) is int and 0 <= header <= HOPS_MAX:
        return header
    return 0


def cost_of(header: object) -> float:
    """The number in a `cost` header; 0 when there is none, or it is not one: negative, infinite, above `COST_MAX`."""
    if isinstance(header, int | float) and not isinstance(header, bool) and 0 <= header <= COST_MAX:
        return float(header)
    return 0.0


def next_lamport(own: int, seen: int) -> int:
    """The timestamp of the next event of someone at `own` who has seen `seen`."""
    return (own if own > seen else seen) + 1


def tick(clock: Mapping[str, int], agent: str) -> VectorClock:
    """The clock after an event of `agent`'s own."""
    return {**clock, agent: clock.get(agent, 0) + 1}


def merge(one: Mapping[str, int], other: Mapping[str, int]) -> VectorClock:
    """The clock of someone who knows all that both know: the larger count of each agent."""
    return {agent: max(one.get(agent, 0), other.get(agent, 0)) for agent in one.keys() | other.keys()}


def compare(one: Mapping[str, int], other: Mapping[str, int]) -> Order:
    """Whether `one` happened before `other`, after it, or neither (concurrent). An absent agent counts as 0."""
    agents = one.keys() | other.keys()
    behind = any(one.get(agent, 0) < other.get(agent, 0) for agent in agents)
    ahead = any(one.get(agent, 0) > other.get(agent, 0) for agent in agents)
    if behind and ahead:
        return Order.CONCURRENT
    if behind:
        return Order.BEFORE
    return Order.AFTER if ahead else Order.EQUAL


def cause_of(header: object) -> tuple[str, str] | None:
    """Topic and id in a `cause` header; None where it is not there, or is none."""
    if not isinstance(header, dict):
        return None
    topic, id = header.get("topic"), header.get("id")
    if not isinstance(topic, str) or not isinstance(id, str) or not is_topic(topic):
        return None
    return topic, id
