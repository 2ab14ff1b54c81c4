"""The fast path and the general parser read the same bytes: whatever comes, in whatever pieces, both see the same."""

import gc
import weakref
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN

from hubbub_broker.session.frame_reader import FrameReader, Violation

MAX_FRAME = 70_000


@dataclass
class Seen:
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    closing: bool = False

    def text(self, payload: bytes, frames: int = 1) -> None:
        """Those that came together are told apart again; what they hold has no newlines then."""
        parts = payload.split(b"\n") if frames > 1 else [payload]
        assert len(parts) == frames
        self.messages += [("text", part) for part in parts]

    def binary(self, payload: bytes) -> None:
        self.messages.append(("binary", payload))

    @property
    def wire(self) -> bytes:
        return b"".join(self.sent)


def by_hand(pieces: list[bytes]) -> Seen:
    seen = Seen()
    reader = FrameReader(MAX_FRAME, seen.text, seen.binary, seen.sent.append)
    for piece in pieces:
        reader.feed(piece)
    seen.closing = reader.closing
    return seen


def by_the_core(pieces: list[bytes]) -> Seen:
    """`ServerProtocol` alone, with the obvious joining of fragments."""
    seen = Seen()
    core = Violation(state=OPEN, max_size=MAX_FRAME)
    fragments: list[Frame] = []
    for piece in pieces:
        core.receive_data(piece)
        for event in core.events_received():
            assert isinstance(event, Frame)
            if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            fragments.append(event)
            if event.fin:
                whole = b"".join(part.data for part in fragments)
                (seen.text if fragments[0].opcode is Opcode.TEXT else seen.binary)(whole)
                fragments = []
        seen.sent.extend(core.data_to_send())
    seen.closing = core.state is not OPEN
    return seen


def encoded(frame: Frame) -> bytes:
    return frame.serialize(mask=True)


payloads = st.one_of(
    st.binary(max_size=200).map(lambda payload: payload.replace(b"\n", b" ")),
    st.integers(0, 3).map(lambda step: b"x" * (125 + step)),
    st.sampled_from([b"y" * 65_535, b"y" * 65_536, b"z" * MAX_FRAME]),
)
data_frames = st.builds(
    Frame, st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, Opcode.CONT]), payloads, st.booleans()
)
control_frames = st.builds(
    Frame,
    st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
    st.sampled_from([b"", b"ping", b"\x03\xe8", b"\x03\xe8bye", b"p" * 125]),
)
wild = st.one_of(
    st.one_of(data_frames, control_frames).map(encoded),
    st.one_of(data_frames, control_frames).map(lambda frame: frame.serialize(mask=False)),
    st.binary(max_size=12),
)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(wild, max_size=8), st.lists(st.integers(0, 2**20), max_size=6))
def test_both_parsers_agree(parts: list[bytes], places: list[int]) -> None:
    # The padding completes a header that was cut off: the core judges one by its first two bytes, we by all of it.
    pieces = cut(b"".join(parts) + bytes(14), places)
    mine, reference = by_hand(pieces), by_the_core(pieces)
    assert mine.messages == reference.messages
    assert mine.closing == reference.closing
    # A pong without a ping is nobody's business, and neither parser answers one.
    assert mine.wire == reference.wire


def text(payload: bytes, fin: bool = True) -> bytes:
    return encoded(Frame(Opcode.TEXT, payload, fin))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, MAX_FRAME])
def test_every_length_byte_by_byte(size: int) -> None:
    stream = text(b"a" * size) + text(b"next")
    step = 1 if size < 1000 else 997
    seen = by_hand([stream[at : at + step] for at in range(0, len(stream), step)])
    assert seen.messages == [("text", b"a" * size), ("text", b"next")]


def test_a_frame_over_the_limit_closes_with_1009() -> None:
    seen = by_hand([text(b"a" * (MAX_FRAME + 1))])
    assert seen.messages == []
    assert seen.closing
    assert seen.wire[2:4] == int(CloseCode.MESSAGE_TOO_BIG).to_bytes(2, "big")


def test_an_unmasked_frame_is_not_this_protocol() -> None:
    seen = by_hand([Frame(Opcode.TEXT, b"x").serialize(mask=False)])
    assert seen.messages == []
    assert seen.wire[2:4] == (4501).to_bytes(2, "big")


def test_what_follows_a_close_is_not_read() -> None:
    seen = by_hand([encoded(Frame(Opcode.CLOSE, b"\x03\xe8")) + text(b"late")])
    assert seen.messages == []
    assert seen.closing


def test_an_idle_connection_holds_no_general_parser() -> None:
    seen = Seen()
    reader = FrameReader(MAX_FRAME, seen.text, seen.binary, seen.sent.append)
    reader.feed(encoded(Frame(Opcode.PING, b"are you there")) + encoded(Frame(Opcode.BINARY, b"1")) + text(b"2"))
    assert seen.messages == [("binary", b"1"), ("text", b"2")]
    assert reader._general is None


def test_what_was_read_is_let_go_of_at_once() -> None:
    """The general parser and its protocol refer to one another, and would keep the last frame for the collector."""
    frame = encoded(Frame(Opcode.BINARY, b"x" * 1000))
    reader = FrameReader(MAX_FRAME, lambda _, __: None, lambda _: None, lambda _: None)
    gc.disable()
    try:
        reader.feed(frame[:500])
        held = weakref.ref(reader._general)
        assert held() is not None
        reader.feed(frame[500:])
        assert held() is None
    finally:
        gc.enable()


def test_frames_that_were_read_together_come_together() -> None:
    seen: list[tuple[bytes, int]] = []

    def take(payload: bytes, frames: int) -> None:
        seen.append((payload, frames))

    reader = FrameReader(MAX_FRAME, take, lambda _: None, lambda _: None)
    whole = text(b"a") + text(b"b\nc") + encoded(Frame(Opcode.PONG, b"")) + text(b"d") + text(b"") + text(b"e")
    late = text(b"f")
    reader.feed(whole + late[:5])
    assert seen == [(b"a\nb\nc\nd", 3), (b"", 1), (b"e", 1)], "an empty one stands by itself"
    reader.feed(late[5:] + text(b"g"))
    assert seen[3:] == [(b"f\ng", 2)]
