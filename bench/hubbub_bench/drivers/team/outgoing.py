"""What one member publishes to one conversation."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns

from hubbub_bench.drivers.checker import Checker
from hubbub_bench.drivers.mark import SEQUENCES, pattern

from .tally import Tally

Publish = Callable[["Outgoing", int], None]
"""Sends the message of that number."""


class Outgoing:
    """Numbers messages, and remembers which have no answer yet. With a window, it keeps that many under way."""

    __slots__ = (
        "_patterns",
        "_publish",
        "_tally",
        "answered",
        "base",
        "id",
        "open",
        "place",
        "published",
        "timed",
        "waiting",
        "window",
    )

    def __init__(
        self, tally: Tally, id: int, place: int, publish: Publish, *, payloads: tuple[int, ...], window: int
    ) -> None:
        self._tally = tally
        self._publish = publish
        self._patterns = [pattern(size) for size in payloads]
        self.id = id
        self.place = place
        """Which of its member's places it belongs to."""
        self.base = id * SEQUENCES
        self.window = window
        self.published = 0
        self.timed = True
        """Whether its answers tell something of the broker: not if its member reads slowly."""
        self.answered = Checker()
        self.waiting: dict[int, int] = {}
        """When the messages without an answer were due, by number, in order."""
        self.open = True
        """Whether its member is there to publish."""

    def data(self, sequence: int) -> bytes:
        """The message of that number, as the text of a JSON string without its quotes."""
        kinds = self._patterns
        return kinds[sequence % len(kinds)] % (self.base + sequence, self.waiting[sequence])

    def send(self, due: int) -> None:
        """Publish one more. `due` is when it should have been sent: the start of its latency, in ns."""
        self.published = sequence = self.published + 1
        self._tally.published += 1
        self.waiting[sequence] = due
        self._publish(self, sequence)

    def fill(self) -> None:
        """Publish as much as the window has room for."""
        while self.window and self.open and self._tally.sending and len(self.waiting) < self.window:
            self.send(monotonic_ns())

    def answer(self, sequence: int) -> None:
        """The message of that number was taken."""
        tally, checker = self._tally, self.answered
        tally.acked += 1
        if checker.next == sequence:
            checker.next = sequence + 1
        else:
            checker.take(sequence, 1)
        due = self.waiting.pop(sequence, None)
        timed = self.timed and self.base + sequence not in tally.abandoned
        if due is not None and timed and tally.record_from <= due < tally.record_to:
            tally.ack_latencies.append(monotonic_ns() - due)
        if self.window:
            self.fill()
