"""Lines to frames: checked by reading them back with another implementation."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from hubbub_broker.wire import FRAME_TARGET, frames
from hubbub_protocol.codec import join_binary


def read(blob: bytes) -> list[Frame]:
    reader = Protocol(CLIENT, state=OPEN, max_size=None)
    reader.receive_data(blob)
    assert reader.parser_exc is None
    return [event for event in reader.events_received() if isinstance(event, Frame)]


@given(st.lists(st.binary(min_size=1, max_size=300).filter(lambda line: b"\n" not in line), min_size=1, max_size=50))
def test_text_lines_share_a_frame(lines: list[bytes]) -> None:
    (frame,) = read(frames(lines))
    assert frame.opcode is Opcode.TEXT
    assert bytes(frame.data).split(b"\n") == lines


@given(st.lists(st.tuples(st.binary(min_size=2, max_size=40), st.booleans()), min_size=1, max_size=20))
def test_binary_lines_stand_alone_in_their_place(items: list[tuple[bytes, bool]]) -> None:
    lines = [line.replace(b"\n", b".") for line, _ in items]
    special = {index: (1, 0.0) for index, (_, binary) in enumerate(items) if binary}
    seen: list[bytes] = []
    for frame in read(frames(lines, special)):
        if frame.opcode is Opcode.TEXT:
            seen.extend(bytes(frame.data).split(b"\n"))
        else:
            seen.append(bytes(frame.data))
    expected = [join_binary(line[:1], line[1:]) if i in special else line for i, line in enumerate(lines)]
    assert seen == expected


def test_no_frame_is_much_larger_than_the_target() -> None:
    lines = [b"x" * 1000] * 1000
    read_back = read(frames(lines))
    assert all(len(frame.data) <= FRAME_TARGET for frame in read_back)
    assert b"\n".join(bytes(frame.data) for frame in read_back).split(b"\n") == lines


def test_a_line_larger_than_the_target_goes_alone() -> None:
    huge = b"y" * (2 * FRAME_TARGET)
    assert [bytes(frame.data) for frame in read(frames([b"a", huge, b"b"]))] == [b"a", huge, b"b"]
