"""What a reader with a filter gets of a run, or of a chunk of history.

Each message is decoded once, however many filters look at it, and each filter is asked once, however many readers have
it: they share the blob that comes of it. What comes is cut out of the line that everybody else gets.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, NamedTuple

from hubbub_broker.metrics import Metrics
from hubbub_broker.wire import Special, text_frame
from hubbub_protocol.codec import decode_broker, encode
from hubbub_protocol.filters import Filter, View
from hubbub_protocol.frames import Gap, Msg, Skip

if TYPE_CHECKING:
    from .cursor import Cursor

SKIP_MESSAGES = 256
"""Messages that a reader may be passed over before it is told how far it is: what it asks for again when it comes
back."""

SKIP_SECONDS = 1.0
"""How often the readers of one filter are told that, at most, while they are live."""

_DATA = b',"data":'
_HEADERS = b',"headers":'
_BEFORE_TOPIC = len(b'{"op":"msg","topic":"')


class Group:
    """The readers of one topic that have the same filter."""

    __slots__ = ("cursors", "filter", "live", "passed", "told")

    def __init__(self, filter: Filter) -> None:
        self.filter = filter
        self.cursors = 0
        """How many there are, those that are behind included."""
        self.live: dict[Cursor, None] = {}
        self.passed = 0
        """Durable messages that went by since the live ones were last sent anything."""
        self.told = 0.0
        """When they were last told how far they are."""

    def skip(self, topic: str, seq: int, now: float) -> bytes | None:
        """What to tell the live ones of what went by, if it is time to."""
        if self.passed < SKIP_MESSAGES or now < self.told + SKIP_SECONDS:
            return None
        self.told = now
        self.passed = 0
        return skip_frame(topic, seq)


class Sifted(NamedTuple):
    """What a filter lets through."""

    lines: list[bytes]
    special: Special | None
    passed: int
    """Durable messages that went by behind the last line; all of them if there is none."""


class Sieve:
    """The messages of a run, for any number of filters. `lines[0]` has seq `first`; ephemeral ones take none."""

    def __init__(
        self, topic: str, first: int, lines: list[bytes], special: Special | None, now: float | None = None
    ) -> None:
        self._topic = topic
        self._first = first
        self._lines = lines
        self._special = special or {}
        self._now = time() if now is None else now
        self._seq_at = _BEFORE_TOPIC + len(topic) + 2
        self._views: list[View | None] = [None] * len(lines)

    def through(self, filter: Filter, metrics: Metrics) -> Sifted:
        """What comes through a filter. Where the time of a message is over that would, a `gap` stands in its place."""
        kept: list[bytes] = []
        kept_special: Special = {}
        special, views = self._special, self._views
        seq = self._first - 1
        passed = dropped = 0
        for index, line in enumerate(self._lines):
            header_size, expires = special.get(index, (0, 0.0)) if special else (0, 0.0)
            durable = line.startswith(b'"seq":', self._seq_at)
            seq += durable
            view = views[index]
            if view is None:
                view = views[index] = view_of(line, header_size)
            if not filter.matches(view):
                passed += durable
                dropped += 1
                continue
            if expires and expires <= self._now:
                metrics.expired_dropped += 1
                if durable:
                    metrics.count_gap("expired")
                    kept.append(encode(Gap(topic=self._topic, first=seq, last=seq, reason="expired")))
                    passed = 0
                continue
            if filter.cuts:
                line, header_size = cut_line(filter, view, line, header_size)
            if header_size:
                kept_special[len(kept)] = (header_size, 0.0)
            kept.append(line)
            passed = 0
        metrics.filtered_out += dropped
        return Sifted(kept, kept_special or None, passed)


def skip_frame(topic: str, seq: int) -> bytes:
    """The frame that tells a reader that it has all that it wants up to `seq`."""
    return text_frame(encode(Skip(topic=topic, seq=seq)))


def view_of(line: bytes, header_size: int) -> View:
    """An encoded message, as filters see it."""
    frame = decode_broker(line[:header_size] if header_size else line)
    assert isinstance(frame, Msg), "a stored line is a message"
    return View(frame, binary=header_size > 0)


def cut_line(filter: Filter, view: View, line: bytes, header_size: int) -> tuple[bytes, int]:
    """An encoded message with what its reader selects, and the size of its header if it is binary still.

    What stays is the text that was published. A payload of bytes that is not selected leaves a line without data.
    """
    headers, data, with_payload = filter.cut(view)
    frame = view.frame
    if header_size:
        text, payload = line[: header_size - 1], line[header_size:]
    else:
        text, payload = line[: -(len(bytes(frame.data)) + len(_DATA) + 1)], b""
    if frame.headers:
        # The first place where this stands is the message's own: no string has it, since a quote in one is escaped.
        text = text.replace(_HEADERS + bytes(frame.headers), _HEADERS + bytes(headers) if headers else b"", 1)
    if not header_size:
        return b"%b%b%b}" % (text, _DATA if data else b"", bytes(data)), 0
    if with_payload:
        return b"%b}%b" % (text, payload), len(text) + 1
    return text + b"}", 0


def part_of(filter: Filter | None, line: bytes, header_size: int) -> tuple[bytes, int] | None:
    """What somebody wants of one message, with the size of its header if it is binary; None: nothing."""
    if filter is None:
        return line, header_size
    view = view_of(line, header_size)
    if not filter.matches(view):
        return None
    return cut_line(filter, view, line, header_size) if filter.cuts else (line, header_size)
