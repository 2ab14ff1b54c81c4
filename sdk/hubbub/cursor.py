"""Where a subscription stands: pure bookkeeping of what was handed over, and of what to ask for next.

A `TopicCursor` is a seq with its epoch, since a seq alone can't tell "the history goes on" from "the history was lost
and began again". A `PatternCursor` is a seq for each topic that was seen, and a time for those that were not: T0 is the
broker's time when the subscription began, and every topic's messages from T0 on belong to it.
"""

from dataclasses import dataclass, field
from typing import Protocol

from hubbub_protocol.frames import From, Gap, Msg, Ok

Start = str | From
"""`from` as the protocol has it."""

CLOCK_MARGIN_SECONDS = 1.0
"""Subtracted from T0. A message that was sequenced just before the subscription may still be on its way to the disk
then, and its time lies before T0 although it is delivered after. Never costs a message twice: seqs tell."""

PRUNE_TOPICS_MIN = 1000
"""A pattern's cursor is pruned of idle topics when it holds more than this many."""

PRUNE_IDLE_SECONDS = 300.0
"""What counts as idle. The broker may deliver topics out of each other's time order, but never minutes apart to a
subscription that has been live all that time."""


class Cursor(Protocol):
    """What a feed asks of its place."""

    wanted: Start
    """Where the subscription begins, as long as the broker has not taken it."""
    heard: float | None
    """When (the loop's time) it took its first local message, if that was before the broker had ever taken it."""

    def asked(self, broker_time: float, now: float, /) -> None:
        """The broker is asked for it at this time of its own, and of the loop.

        What has begun with a local message goes on from there: what the broker got since belongs to it.
        """

    def skip(self, topic: str, seq: int, /) -> None:
        """What `topic` has up to `seq` was before its time. Only as long as the broker has never taken it."""

    def start(self) -> Start:
        """What to ask the broker for, to go on without a hole."""

    def opened(self, ok: Ok, asked_at: float, /) -> None:
        """The broker took the subscription, which was asked for at the broker's time `asked_at`."""

    def admit(self, message: Msg) -> int:
        """Advance past a message. -1: it was handed over before. 0: it is next. N: so many before it never came."""

    def gap(self, gap: Gap) -> None:
        """Advance past what the broker says will not come."""

    def passed(self, topic: str, seq: int, /) -> None:
        """Advance to what the broker says it has come to in `topic`, for a subscription that wants only a part."""

    def live(self, now: float, /) -> None:
        """The replay has reached the head, at the broker's time `now`."""

    def copy(self) -> "Cursor":
        """An independent copy."""

    def same_place(self, other: "Cursor", /) -> bool:
        """Whether both have handed over the same, certainly."""

    def reached(self, topic: str, seq: int, /) -> bool:
        """Whether everything of `topic` up to `seq` was certainly handed over, or is before the start."""

    @property
    def begun(self) -> bool:
        """Whether the broker has ever taken the subscription."""


@dataclass(slots=True)
class TopicCursor:
    """A place in one topic."""

    wanted: Start = "new"
    seq: int = -1
    """The last seq handed over or passed; -1 while unknown."""
    epoch: str | None = None
    fresh: bool = False
    """Whether the history has just begun again: `seq` is of the new one already when the broker says `reset`."""
    heard: float | None = None
    began: float | None = None
    """`heard`, by the broker's clock."""
    floor: int = 0
    """What was before its time: `began` is never ahead of the broker's clock, and may lie behind it."""

    @property
    def begun(self) -> bool:
        return self.seq >= 0

    def asked(self, broker_time: float, now: float) -> None:
        if self.heard is not None:
            self.began = max(0.0, broker_time - (now - self.heard))

    def skip(self, _topic: str, seq: int) -> None:
        self.floor = max(self.floor, seq)

    def start(self) -> Start:
        if self.seq < 0:
            return self.wanted if self.began is None else From(since=self.began)
        return From(seq=self.seq + 1, epoch=self.epoch)

    def opened(self, ok: Ok, _asked_at: float) -> None:
        if ok.next is None:
            return
        # The history began again if the epoch says so, or if the broker would send what this cursor has passed.
        self.fresh = self.seq >= 0 and (ok.epoch != self.epoch or ok.next <= self.seq)
        if self.seq < 0 or self.fresh:
            self.seq = max(0, ok.next - 1)
            if self.floor <= (ok.head or 0):  # else the history began again, and has nothing of before
                self.seq = max(self.seq, self.floor)
            self.floor = 0
        self.epoch = ok.epoch

    def admit(self, message: Msg) -> int:
        seq = message.seq
        if seq is None:
            return 0
        missing = seq - self.seq - 1
        if missing < 0:
            return -1
        if self.seq < 0:
            missing = 0
        self.seq = seq
        self.fresh = False
        return missing

    def gap(self, gap: Gap) -> None:
        if gap.reason == "reset":
            if not self.fresh:
                self.seq = gap.last
        elif not gap.dropped:
            self.seq = max(self.seq, gap.last)

    def passed(self, _topic: str, seq: int) -> None:
        self.seq = max(self.seq, seq)

    def live(self, _now: float) -> None:
        pass

    def copy(self) -> "TopicCursor":
        return TopicCursor(self.wanted, self.seq, self.epoch, self.fresh, self.heard, self.began, self.floor)

    def same_place(self, other: Cursor) -> bool:
        return isinstance(other, TopicCursor) and self.begun and (self.seq, self.epoch) == (other.seq, other.epoch)

    def reached(self, _topic: str, seq: int) -> bool:
        if self.seq < 0:
            return self.wanted == "new" and (self.heard is None or seq <= self.floor)
        return self.seq >= seq


@dataclass(slots=True)
class PatternCursor:
    """A place in every topic that matches a pattern."""

    wanted: Start = "new"
    since: float | None = None
    """T0: messages from then on belong to the subscription, of topics that are not in `seqs`."""
    seqs: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    live_since: float | None = None
    """The broker's time from which on the subscription has been live; None while it replays or is off the wire."""
    heard: float | None = None
    began: float | None = None
    """`heard`, by the broker's clock."""

    @property
    def begun(self) -> bool:
        return self.since is not None

    def asked(self, broker_time: float, now: float) -> None:
        if self.heard is not None:
            self.began = max(0.0, broker_time - (now - self.heard))

    def skip(self, topic: str, seq: int) -> None:
        self.seqs[topic] = max(self.seqs.get(topic, 0), seq)

    def start(self) -> Start:
        self.live_since = None
        if self.since is None:
            return self.wanted if self.began is None else From(since=self.began, after=self.seqs or None)
        return From(since=self.since, after=self.seqs or None)

    def opened(self, _ok: Ok, asked_at: float) -> None:
        if self.since is None:
            self.since = max(0.0, self._begin(asked_at - CLOCK_MARGIN_SECONDS))

    def admit(self, message: Msg) -> int:
        seq = message.seq
        if seq is None:
            return 0
        topic = message.topic
        last = self.seqs.get(topic)
        if last is not None and seq <= last:
            return -1
        self.seqs[topic] = seq
        self.times[topic] = message.ts
        return 0 if last is None else seq - last - 1

    def gap(self, gap: Gap) -> None:
        last = self.seqs.get(gap.topic, 0)
        if gap.reason == "reset" and gap.last <= last:
            self.seqs.pop(gap.topic, None)
        elif not gap.dropped:
            self.seqs[gap.topic] = max(last, gap.last)

    def passed(self, topic: str, seq: int) -> None:
        self.seqs[topic] = max(self.seqs.get(topic, 0), seq)

    def live(self, now: float) -> None:
        if self.live_since is None:
            self.live_since = now

    def copy(self) -> "PatternCursor":
        return PatternCursor(
            self.wanted, self.since, dict(self.seqs), dict(self.times), heard=self.heard, began=self.began
        )

    def same_place(self, _other: Cursor) -> bool:
        return False  # what was not seen of either can't be compared

    def reached(self, topic: str, seq: int) -> bool:
        # Of a topic that was never seen, one can't tell whether that was before the start or is still to come.
        last = self.seqs.get(topic)
        return last is not None and last >= seq

    def prune(self, now: float) -> None:
        """Forget idle topics, moving T0 forward instead, when that is safe and worth while. `now`: broker's time."""
        if len(self.seqs) <= PRUNE_TOPICS_MIN or self.live_since is None:
            return
        horizon = now - PRUNE_IDLE_SECONDS
        if self.since is None or self.live_since > horizon or self.since >= horizon:
            return
        idle = [topic for topic in self.seqs if self.times.get(topic, 0.0) < horizon]
        for topic in idle:
            del self.seqs[topic]
            self.times.pop(topic, None)
        self.since = horizon

    def _begin(self, asked_at: float) -> float:
        """T0 of a subscription that the broker took just now."""
        if self.began is not None:
            return self.began
        if self.wanted == "new":
            return asked_at
        if isinstance(self.wanted, From) and self.wanted.since is not None:
            return self.wanted.since
        if isinstance(self.wanted, From) and self.wanted.last is not None:
            # Right once the replay is through. When that is interrupted, the topics that it had not come to begin here:
            # "the last N of each topic, except these" can't be asked for, and a hole would be worse.
            return asked_at
        return 0.0


def is_live_start(wanted: Start) -> bool:
    """Whether a subscription wants nothing of the past."""
    return wanted == "new"
