"""Budgets: what a conversation may use, in messages, bytes and cost, from its beginning until an operator resets it.

The sums are keyed states of the shard's log, under the topic's name. They are written lazily, once in `budget_interval`
at most and many to a batch; what was used after the newest write is forgotten by a crash, never by a stop.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from math import isfinite

from hubbub_broker.kinds import StateKind
from hubbub_broker.policy import TopicPolicy
from hubbub_protocol.errors import ErrorCode

from .denial import Denial, Rule

_body = struct.Struct("<BQQd")
_FORMAT = 1


class Sums:
    """What a conversation has used."""

    __slots__ = ("bytes", "cost", "messages")

    def __init__(self, messages: int = 0, bytes: int = 0, cost: float = 0.0) -> None:
        self.messages = messages
        self.bytes = bytes
        self.cost = cost

    @classmethod
    def decode(cls, body: bytes | None) -> "Sums":
        """Read what `encode` made. What can't be read counts as nothing used: it is no reason to stop a topic."""
        if body is None or len(body) != _body.size or body[0] != _FORMAT:
            return cls()
        _, messages, size, cost = _body.unpack(body)
        return cls(messages, size, cost if isfinite(cost) else 0.0)

    def encode(self) -> bytes:
        """The state's body; empty, which deletes it, when nothing was used."""
        if not (self.messages or self.bytes or self.cost):
            return b""
        return _body.pack(_FORMAT, self.messages, self.bytes, self.cost)

    def add(self, size: int, cost: float) -> None:
        """One more message was taken."""
        self.messages += 1
        self.bytes += size
        self.cost += cost

    def why_not(self, topic: str, policy: TopicPolicy, size: int, cost: float) -> Denial | None:
        """Which budget does not have room for one more message of that size and cost."""
        if policy.budget_messages and self.messages >= policy.budget_messages:
            return _spent(Rule.BUDGET_MESSAGES, topic, f"{policy.budget_messages} messages", f"{self.messages}")
        if policy.budget_bytes and self.bytes + size > policy.budget_bytes:
            return _spent(Rule.BUDGET_BYTES, topic, f"{policy.budget_bytes} bytes", f"{self.bytes}")
        if policy.budget_cost and self.cost + cost > policy.budget_cost:
            return _spent(Rule.BUDGET_COST, topic, f"a cost of {policy.budget_cost:g}", f"{self.cost:g}")
        return None


def _spent(rule: Rule, topic: str, budget: str, used: str) -> Denial:
    message = (
        f"{topic} has a budget of {budget} ({rule}) and {used} of it are used: "
        "end the conversation, or have an operator raise or reset its budget"
    )
    return Denial(rule, ErrorCode.BUDGET, message, None)


class Ledger:
    """The sums of the conversations of one shard that have a budget.

    Args:
        read: the newest state of a key, from the log.
        kept: how many conversations' sums stay in memory, besides those that are not written yet.
    """

    def __init__(self, read: Callable[[bytes], bytes | None], kept: int) -> None:
        self._read = read
        self._kept = kept
        self._sums: OrderedDict[str, Sums] = OrderedDict()
        self._unwritten: dict[str, None] = {}

    def of(self, topic: str) -> Sums:
        """What a conversation has used. Costs a look into the log when it is not in memory."""
        sums = self._sums.get(topic)
        if sums is None:
            sums = self._sums[topic] = Sums.decode(self._read(topic.encode()))
            self._let_go()
        else:
            self._sums.move_to_end(topic)
        return sums

    def used(self, topic: str, sums: Sums, size: int, cost: float) -> None:
        """A message was taken."""
        sums.add(size, cost)
        self._unwritten[topic] = None

    def reset(self, topic: str) -> Sums:
        """Begin again at nothing; what had been used until now."""
        before = self.of(topic)
        self._sums[topic] = Sums()
        self._unwritten[topic] = None
        return before

    def write(self, append: Callable[[int, bytes, bytes], None]) -> int:
        """Append what has changed since the last time; how many states that were."""
        count = len(self._unwritten)
        for topic in self._unwritten:
            append(StateKind.BUDGET, topic.encode(), self._sums[topic].encode())
        self._unwritten.clear()
        return count

    def write_again(self) -> None:
        """A batch was lost: whatever it held of these is to be written once more."""
        self._unwritten.update(dict.fromkeys(self._sums))

    def _let_go(self) -> None:
        """Let the sums go that were not asked for longest, unless they are not written yet.

        Looks at two for each that came, so what could not go at first goes soon after, and nobody waits for it.
        """
        for _ in range(2):
            if len(self._sums) <= self._kept:
                return
            topic = next(iter(self._sums))
            if topic in self._unwritten:
                self._sums.move_to_end(topic)
            else:
                del self._sums[topic]
