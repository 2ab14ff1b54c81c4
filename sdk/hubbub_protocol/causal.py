"""Causal order: Lamport timestamps and vector clocks, as pure functions.

A topic is in one total order already, and `lc` (Lamport 1978) extends "happened before" to a number that can be
compared across topics one way: if a happened before b then lc(a) < lc(b). The reverse does not hold. Whoever must know
whether two messages of different topics are *concurrent* asks for vector clocks: they travel in `headers` under
`HEADER` and cost a number for each agent that took part.
"""

from collections.abc import Mapping
from enum import Enum

HEADER = "vc"
"""The message header that carries a vector clock: an object of agent -> count."""

VectorClock = dict[str, int]


class Order(Enum):
    """How two vector clocks stand to each other."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


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
