"""WebSocket bytes in: the plain case read by hand, everything else by `websockets`' Sans-I/O core.

Nearly every frame that a client sends is a whole, masked, unfragmented text frame. Reading those here costs a third of
what the general parser costs. The handshake, control frames, fragments, huge frames, and every violation of RFC 6455 go
to `ServerProtocol`, which is made for a connection only while it is needed: an idle connection holds none.

Frames are taken one at a time, so that the general parser is always at a frame's border when this one goes on.
"""

from collections.abc import Callable

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hubbub_protocol.errors import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - platforms without the C extension
    from websockets.utils import apply_mask

_TEXT = 0x81
_PONG = 0x8A
_BY_HAND_MAX = 65_535
"""Payload bytes up to which an incomplete frame is kept and joined here. Larger ones are left to the general parser,
whose buffer grows without copying."""

REASON_BYTES_MAX = 123
"""Of the reason in a closing frame (RFC 6455, section 5.5.1)."""

OnText = Callable[[bytes, int], None]
"""Is given lines, and how many frames they came in."""


class Violation(ServerProtocol):
    """`ServerProtocol` whose close codes are this protocol's: whoever breaks the framing is told not to come back."""

    def fail(self, code: int, reason: str = "") -> None:
        """Fail the connection (RFC 6455, section 7.1.7)."""
        if code in (1002, 1007):
            code = CloseCode.NOT_THIS_PROTOCOL
        elif code == CloseCode.FRAME_TOO_BIG:
            reason = f"{reason} (max_frame): split it, or use a blob"[:REASON_BYTES_MAX]
        super().fail(code, reason)


class FrameReader:
    """One connection's inbound side after the handshake.

    Calls `on_text` and `on_binary` with whole messages. Text frames that stand behind one another in what was read come
    as one, their lines joined, with how many they were: lines mean the same in whichever frame they come. What has to
    be sent in return (pongs, the closing handshake) goes to `write`; an empty one is the end of the stream.
    """

    __slots__ = ("_fragments", "_general", "_max", "_on_binary", "_on_text", "_owed", "_rest", "_write", "closing")

    def __init__(
        self,
        max_frame: int,
        on_text: OnText,
        on_binary: Callable[[bytes], None],
        write: Callable[[bytes], None],
    ) -> None:
        self._max = max_frame
        self._on_text = on_text
        self._on_binary = on_binary
        self._write = write
        self._rest = b""
        self._owed = 0
        """Bytes of the frame under way that the general parser has still to be fed."""
        self._fragments: list[Frame] = []
        self._general: ServerProtocol | None = None
        self.closing = False
        """The closing handshake has begun, by either side: nothing that comes is a message any more."""

    def deliver_to(self, on_text: OnText, on_binary: Callable[[bytes], None]) -> None:
        """Give messages to somebody else from now on."""
        self._on_text = on_text
        self._on_binary = on_binary

    def feed(self, data: bytes) -> None:
        """Take what came from the socket."""
        if self.closing:
            self._feed_general(data)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        while at < end:
            if self._owed:
                at = self._pass_on(data, at)
                continue
            at = self._read_plain(data, at, end)
            if at == end:
                return
            header = _header_size(data, at, end)
            size = _payload_size(data, at) if header else 0
            if not header or (size <= _BY_HAND_MAX and self._is_by_hand(data, at, size)):
                break  # what is there is kept until the rest has come
            self._owed = header + size
        self._rest = data[at:]

    def _read_plain(self, data: bytes, at: int, end: int) -> int:
        """Take the frames from `at` on that are whole and plain, or pongs. Where another one begins, or `end`."""
        while at < end:
            texts: list[bytes] = []
            reached = self._collect(data, at, end, texts)
            if len(texts) == 1:
                self._on_text(texts[0], 1)
            elif texts:
                self._on_text(b"\n".join(texts), len(texts))
            if self.closing:
                return end
            if reached == at:
                break
            at = reached
        return at

    def _collect(self, data: bytes, at: int, end: int, texts: list[bytes]) -> int:
        """Put the plain frames from `at` on into `texts`. Where the first other one begins.

        The path of every publish: what a call would do for each frame is written out.
        """
        while end - at >= 6:
            first, second = data[at], data[at + 1]
            if first == _TEXT and second > 127 and not self._fragments:
                size = second & 127
                body = at + 6
                if size > 125:
                    if size == 127 or end - at < 8:
                        return at
                    size = data[at + 2] << 8 | data[at + 3]
                    body = at + 8
                last = body + size
                if last > end or size > self._max:
                    return at
                if not size:  # a line that is none has its own answer; among others it would be passed over
                    if not texts:
                        texts.append(b"")
                        at = last
                    return at
                at = last
                texts.append(apply_mask(data[body:last], data[body - 4 : body]))
            elif first == _PONG and 128 <= second <= 253 and at + second - 122 <= end:
                at += second - 122  # 6 bytes of header, 128 for the mask bit
            else:
                return at
        return at

    def _is_by_hand(self, data: bytes, at: int, size: int) -> bool:
        """Whether the frame that begins here is one for `_read_plain`, once it is whole."""
        if data[at] == _PONG:
            return 128 <= data[at + 1] <= 253
        return data[at] == _TEXT and data[at + 1] > 127 and size <= self._max and not self._fragments

    def _pass_on(self, data: bytes, at: int) -> int:
        """Feed the general parser what it is owed, or everything if that ends the connection. Where to go on."""
        part = data[at : at + self._owed]
        self._owed -= len(part)
        at += len(part)
        self._feed_general(part)
        if self.closing:
            self._feed_general(data[at:])
            return len(data)
        return at

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if not self.closing:
            self.closing = True
            general = self._make_general()
            general.send_close(code, reason)
            self._send(general)

    @property
    def close_code(self) -> int:
        """The code that the connection was closed with; 1006 if it was not closed in order."""
        sent = self._general.close_sent if self._general is not None else None
        received = self._general.close_rcvd if self._general is not None else None
        close: Close | None = received or sent
        return 1006 if close is None else int(close.code)

    @property
    def close_reason(self) -> str:
        """Why the broker closed it, if it did: what the client gave as a reason is the client's."""
        general = self._general
        if general is None or general.close_sent is None or general.close_rcvd_then_sent:
            return ""
        return general.close_sent.reason

    def _make_general(self) -> ServerProtocol:
        if self._general is None:
            self._general = Violation(state=OPEN, max_size=self._max)
        return self._general

    def _feed_general(self, data: bytes) -> None:
        general = self._make_general()
        general.receive_data(data)
        for event in general.events_received():
            assert isinstance(event, Frame)
            self._take(event)
        if general.state is not OPEN:
            self.closing = True
        self._send(general)
        if not (self._owed or self._fragments or self.closing):
            general.parser.close()  # it and the protocol refer to one another: the last frame would wait for the gc
            self._general = None

    def _take(self, frame: Frame) -> None:
        """A frame from the general parser: data frames are put together, control frames it has answered itself."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(frame)
            if frame.fin:
                frames, self._fragments = self._fragments, []
                message = frames[0].data if len(frames) == 1 else b"".join(part.data for part in frames)
                if frames[0].opcode is Opcode.TEXT:
                    self._on_text(bytes(message), 1)
                else:
                    self._on_binary(bytes(message))

    def _send(self, general: ServerProtocol) -> None:
        for data in general.data_to_send():
            self._write(data)


def _header_size(data: bytes, at: int, end: int) -> int:
    """Bytes of the frame header that begins at `at`, or 0 if it is not all there yet."""
    if end - at < 2:
        return 0
    second = data[at + 1]
    size = 2 if second & 127 < 126 else 4 if second & 127 == 126 else 10
    if second > 127:
        size += 4
    return size if end - at >= size else 0


def _payload_size(data: bytes, at: int) -> int:
    """The payload's length, from a header that is all there."""
    size = data[at + 1] & 127
    if size < 126:
        return size
    return int.from_bytes(data[at + 2 : at + (4 if size == 126 else 10)], "big")
