"""Frames as a client writes them, by hand: a load driver pays for each byte it touches.

The masking key's four bytes are the same, so masking is one `translate`, wherever a byte stands. What the receiver has
to do is no less for that; only against a hostile client's tricks on proxies does a key have to be random.
"""

from base64 import b64encode
from collections.abc import Sequence

_KEY = 0x5A
_MASK = bytes(byte ^ _KEY for byte in range(256))
_KEY_BYTES = bytes((_KEY,)) * 4

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
"""First bytes of unfragmented frames."""


def text_frame(lines: Sequence[bytes]) -> bytes:
    """One masked text frame that holds the lines."""
    return masked(TEXT, b"\n".join(lines))


def masked(first: int, payload: bytes) -> bytes:
    """One masked frame (RFC 6455, section 5.2)."""
    return _header(first, len(payload), 0x80) + _KEY_BYTES + payload.translate(_MASK)


def received_text_frame(text: bytes) -> bytes:
    """One text frame as a server sends it."""
    return _header(TEXT, len(text), 0) + text


def _header(first: int, size: int, mask: int) -> bytes:
    if size < 126:
        return bytes((first, mask | size))
    if size < 65536:
        return bytes((first, mask | 126)) + size.to_bytes(2, "big")
    return bytes((first, mask | 127)) + size.to_bytes(8, "big")


def upgrade_request(host: str, port: int, path: str, seed: int, token: str = "") -> bytes:
    """The handshake's request. `seed` makes its key; `token` vouches for whoever connects."""
    key = b64encode(seed.to_bytes(16, "big")).decode()
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{bearer}\r\n"
    ).encode()


class FrameSplitter:
    """Received bytes to unmasked, unfragmented frames: (first byte, payload)."""

    __slots__ = ("_need", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._need = 0

    @property
    def between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._rest

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that these bytes complete."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        frames = []
        at, end = 0, len(data)
        while end - at >= 2:
            size = data[at + 1]
            body = at + 2
            if size == 126:
                size = int.from_bytes(data[body : body + 2], "big")
                body += 2
            elif size == 127:
                size = int.from_bytes(data[body : body + 8], "big")
                body += 8
            if body > end or body + size > end:
                self._need = 0 if body > end else body + size - at
                break
            frames.append((data[at], data[body : body + size]))
            at = body + size
        if at < end:
            self._rest += data[at:]
            if end - at < 2:
                self._need = 0
        return frames
