"""The numbers of leases: each is larger than any that its shard gave out before, whatever crashed meanwhile.

    term << 32 | count      the term goes up with each life of the broker, and is on stable storage before it is used

So what is fenced by the number is safe from a worker that comes back late: what it writes carries a smaller one.
"""

from __future__ import annotations

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import ShardLog

_KEY = b"term"
_COUNT_BITS = 32
"""2,000,000 terms are left of what every JSON reader keeps exact (53 bits)."""


class Numbering:
    """Numbers the leases of one shard. Costs a record in each life of the broker in which somebody consumes."""

    __slots__ = ("_log", "_next", "_term", "_wanted", "_writing", "ready")

    def __init__(self, log: ShardLog) -> None:
        self._log = log
        body = log.state(StateKind.LEASES, _KEY)
        self._term = 1 if body is None else int(body) + 1
        self._next = self._term << _COUNT_BITS
        self._wanted = self._writing = False
        self.ready = False
        """Whether the term is on stable storage."""

    @property
    def pending(self) -> bool:
        """Whether the term is to be written."""
        return self._wanted

    def want(self) -> bool:
        """Numbers will be needed. Whether that is something to be written."""
        if self.ready or self._wanted or self._writing:
            return False
        self._wanted = True
        return True

    def next(self) -> int | None:
        """A new number; None while the term can't be stored: a lease without one is better than none."""
        if not self.ready:
            return None
        self._next += 1
        return self._next

    def write(self) -> bool:
        """Append the term if it is wanted. Whether it was."""
        if self._wanted:
            self._log.append_state(StateKind.LEASES, _KEY, b"%d" % self._term)
            self._wanted, self._writing = False, True
        return self._writing

    def written(self, *, durable: bool) -> bool:
        """What was appended is on stable storage, or was taken back. Whether the term was among it."""
        was, self._writing = self._writing, False
        if was:
            self.ready, self._wanted = durable, not durable
        return was
