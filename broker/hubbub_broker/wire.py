"""Lines to WebSocket frames: what the broker writes to sockets, encoded once for all who get it.

A leaf: it knows RFC 6455's frame header and the protocol's binary layout, and nothing of topics or connections.
"""

from collections.abc import Iterable

from hubbub_protocol.codec import join_binary

FRAME_TARGET = 128 * 1024
"""Bytes of lines after which a text frame is closed and the next begun. Below every client's frame limit, and large
enough that a frame's cost (about 5 µs at the reader) is shared by hundreds of messages."""

Special = dict[int, tuple[int, float]]
"""For the lines of a run that are not plain text for ever: index -> (header size if binary or 0, expiry or 0.0)."""


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if 126 <= size < 65536:  # as nearly all are
        return b"\x81\x7e%c%c%b" % (size >> 8, size & 255, payload)
    return _header(0x81, size) + payload


def binary_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked binary frame."""
    return _header(0x82, len(payload)) + payload


def frames(lines: list[bytes], special: Special | None = None) -> bytes:
    """The frames that carry `lines` in order: text lines joined, each binary one in a frame of its own."""
    if special is None:
        payload = b"\n".join(lines)
        if len(payload) <= FRAME_TARGET or len(lines) == 1:
            return text_frame(payload)
    return b"".join(_split(lines, special or {}))


def _split(lines: list[bytes], special: Special) -> Iterable[bytes]:
    pending: list[bytes] = []
    size = 0
    for index, line in enumerate(lines):
        header_size = special[index][0] if index in special else 0
        if pending and (header_size or size + len(line) > FRAME_TARGET):
            yield text_frame(b"\n".join(pending))
            pending, size = [], 0
        if header_size:
            yield binary_frame(join_binary(line[:header_size], line[header_size:]))
        else:
            pending.append(line)
            size += len(line) + 1
    if pending:
        yield text_frame(b"\n".join(pending))


def _header(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")
