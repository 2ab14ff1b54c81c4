"""Frames as websockets understands them, and frames however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from hubbub_bench.drivers.frame import PING, FrameSplitter, masked, received_text_frame, text_frame, upgrade_request


def server() -> ServerProtocol:
    protocol = ServerProtocol(max_size=1 << 20)
    protocol.receive_data(upgrade_request("127.0.0.1", 8091, "/v1/ws", seed=5))
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    assert request.path == "/v1/ws"
    response = protocol.accept(request)
    assert response.status_code == 101
    protocol.send_response(response)
    protocol.data_to_send()
    return protocol


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_a_server_reads_what_is_written(size: int) -> None:
    protocol = server()
    payload = bytes(32 + index % 90 for index in range(size))
    protocol.receive_data(text_frame([payload]) + masked(PING, b"still there?"))
    text, ping = protocol.events_received()
    assert isinstance(text, Frame)
    assert isinstance(ping, Frame)
    assert (text.opcode, bytes(text.data)) == (Opcode.TEXT, payload)
    assert (ping.opcode, bytes(ping.data)) == (Opcode.PING, b"still there?")


def test_lines_share_a_frame() -> None:
    protocol = server()
    protocol.receive_data(text_frame([b"one", b"two"]))
    (frame,) = protocol.events_received()
    assert isinstance(frame, Frame)
    assert bytes(frame.data) == b"one\ntwo"


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_a_frame_of_a_server_is_known_by_its_bytes(size: int) -> None:
    protocol = server()
    protocol.send_text(b"x" * size)
    assert b"".join(protocol.data_to_send()) == received_text_frame(b"x" * size)


@given(
    st.lists(st.integers(0, 300) | st.sampled_from([65535, 65536]), min_size=1, max_size=6),
    st.lists(st.integers(1, 70_000) | st.integers(1, 12), max_size=30),
)
def test_frames_come_out_whole_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    payloads = [bytes([65 + index]) * size for index, size in enumerate(sizes)]
    stream = b"".join(received_text_frame(payload) for payload in payloads)
    splitter = FrameSplitter()
    got = []
    at = 0
    for cut in [*cuts, len(stream)]:
        got += splitter.feed(stream[at : at + cut])
        at += cut
    assert got == [(0x81, payload) for payload in payloads]
    assert splitter.between_frames
