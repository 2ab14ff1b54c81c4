"""The way back: in which segments a topic has records, from the newest on, as far as anyone has asked."""

from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol


class Link(Protocol):
    """A topic's place in one segment."""

    @property
    def first(self) -> int:
        """Its first seq there (or the one that would be, where it has none)."""

    @property
    def count(self) -> int:
        """How many seqs it has there."""

    @property
    def previous(self) -> int:
        """The segment before that has the topic; 0 for none."""


Find = Callable[[int], Link | None]
"""The topic's place in a segment; None when the segment is gone."""


class Chain:
    """Parallel lists, oldest first: each segment with records of the topic, and the first seq there.

    It is followed only as far back as needed, and kept: two numbers for each segment in which the topic has been read.
    """

    __slots__ = ("firsts", "newest", "numbers", "older")

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.numbers: list[int] = []
        self.newest = 0
        """The segment from which the lists were followed back."""
        self.older = 0
        """Where to go on; 0 when the beginning was reached."""

    def reach(self, newest: int, seq: int, find: Find) -> None:
        """Follow the chain from `newest` back until it covers `seq`, or ends."""
        if newest != self.newest:
            self._extend(newest, seq, find)
        while self.older and (not self.firsts or self.firsts[0] > seq):
            number = self.older
            link = find(number)
            if link is None:
                return  # dropped, or lost; `older` still says which
            self.older = link.previous
            if link.count:
                self.firsts.insert(0, link.first)
                self.numbers.insert(0, number)

    def position(self, seq: int) -> int:
        """The index of the last entry that begins at or before `seq`; -1 when all begin later."""
        return bisect_right(self.firsts, seq) - 1

    def drop_before(self, number: int) -> None:
        """Segments below this number are gone."""
        gone = 0
        while gone < len(self.numbers) and self.numbers[gone] < number:
            gone += 1
        if gone:
            self.older = self.numbers[gone - 1]
            del self.numbers[:gone], self.firsts[:gone]

    def _extend(self, newest: int, seq: int, find: Find) -> None:
        """The topic has gone on to newer segments: put them behind what is known."""
        firsts: list[int] = []
        numbers: list[int] = []
        number = newest
        while number and number > self.newest and not (firsts and firsts[-1] <= seq):
            link = find(number)
            if link is None:
                break
            if link.count:
                firsts.append(link.first)
                numbers.append(number)
            number = link.previous
        firsts.reverse()
        numbers.reverse()
        if number == self.newest and number:  # met what was known before
            self.firsts += firsts
            self.numbers += numbers
        else:
            self.firsts, self.numbers, self.older = firsts, numbers, number
        self.newest = newest
