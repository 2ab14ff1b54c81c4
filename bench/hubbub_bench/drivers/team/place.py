"""A member's place in a conversation: how far it has read, and whether what it got is right."""

from __future__ import annotations

from time import monotonic_ns

from hubbub_bench.drivers.checker import Checker
from hubbub_bench.drivers.mark import SEQUENCES

from .tally import Tally

Checkers = dict[int, Checker]
"""By flow: one for each publisher of the conversation."""


class Place:
    """Takes deliveries. Members who share the work of a conversation share its checkers."""

    __slots__ = ("checkers", "count", "excused", "in_order", "live_since", "seq", "slow", "tally", "told", "topic")

    def __init__(self, tally: Tally, topic: str, checkers: Checkers, *, in_order: bool) -> None:
        self.tally = tally
        self.topic = topic
        self.checkers = checkers
        self.in_order = in_order
        """Whether order is promised."""
        self.seq = 0
        """The last one that came, to go on from."""
        self.count = 0
        self.told = 0
        """Ephemeral messages that the broker said it dropped here."""
        self.excused = False
        """Whether its member was away, so that ephemeral messages may be missing."""
        self.slow = False
        """Whether its member reads slowly, so that its latencies are its own doing."""
        self.live_since = 0
        """Deliveries count as live if they were due later: what comes from history tells nothing about latency."""

    def arrive(self) -> None:
        """The subscription stands."""
        self.live_since = monotonic_ns()

    def take(self, flow: int, sequence: int, stamp: int, seq: int | None, attempt: int) -> None:
        """A message has come."""
        tally = self.tally
        tally.delivered += 1
        self.count += 1
        if seq is not None and seq > self.seq:
            self.seq = seq
        timed = not self.slow and (not tally.abandoned or flow * SEQUENCES + sequence not in tally.abandoned)
        if timed and tally.record_from <= stamp < tally.record_to and stamp >= self.live_since:
            tally.latencies.append(monotonic_ns() - stamp)
        checker = self.checkers.get(flow)
        if checker is None:
            tally.strays += 1
        elif checker.next == sequence:
            checker.next = sequence + 1
        elif attempt > 1:
            self._take_again(checker, sequence)
        else:
            checker.take(sequence, 1)

    def _take_again(self, checker: Checker, sequence: int) -> None:
        """A consumer's message that was given out before: it may have been handled, and may come after later ones."""
        duplicated, out_of_order = checker.duplicated, checker.out_of_order
        checker.take(sequence, 1)
        self.tally.redelivered += checker.duplicated > duplicated
        checker.duplicated, checker.out_of_order = duplicated, out_of_order
