"""What the supervisor and a worker say to each other, over a pair of sockets that the worker inherits.

    size      4 bytes, big-endian: of what follows
    message   supervisor to worker: a pickled `Order`; its sockets travel beside it, as file descriptors
              worker to supervisor: a JSON object, `Report`

The end of this pair is the end of one of the two: a worker whose supervisor is gone drains and ends.
"""

from __future__ import annotations

import pickle
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from hubbub_broker.config import Settings
from hubbub_broker.topology import Topology

READ_BYTES = 64 << 10
DESCRIPTORS_MAX = 16
"""More than any one message brings."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin. Comes once, first; beside it: the public socket, the own one, the lock."""

    settings: Settings
    topology: Topology
    restarts: int
    """How often this worker was started again."""
    own_credential: str
    """What the broker's own control plane shows, at whichever worker."""


@dataclass(frozen=True, slots=True)
class Join:
    """There is a link to another worker; beside it: this one's end."""

    worker: int
    pair: int
    """Its number: no other link had it."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop in order."""


Order = Start | Join | Drain


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker says."""

    what: Literal["born", "open", "serving", "lost"]
    """It is there, as `process`; it has opened its data, and can be joined to others; it serves; or it has lost the
    link `pair` to `worker`."""
    worker: int = -1
    pair: int = -1
    process: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


def send_order(control: socket.socket, order: Order, sockets: Sequence[int] = ()) -> None:
    """Tell a worker. The descriptors stay the sender's own too.

    Raises:
        OSError: it is gone, or takes nothing.
    """
    message = pickle.dumps(order)
    framed = len(message).to_bytes(4, "big") + message
    sent = socket.send_fds(control, [framed], list(sockets)) if sockets else control.send(framed)
    if sent < len(framed):
        control.sendall(framed[sent:])


def send_report(control: socket.socket, report: Report) -> None:
    """Tell the supervisor.

    Raises:
        OSError: it is gone.
    """
    message = _encode(report)
    control.sendall(len(message).to_bytes(4, "big") + message)


class Orders:
    """A worker's end: orders, each with its sockets, as they come."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def read(self) -> list[tuple[Order, list[int]]] | None:
        """What has come, waiting for it if the socket does. None: the supervisor is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, READ_BYTES, DESCRIPTORS_MAX)
        except BlockingIOError:
            return []
        except ConnectionError:
            return None
        if not data:
            return None
        self._buffer += data
        self._descriptors.extend(descriptors)
        return [self._with_sockets(message) for message in _messages(self._buffer)]

    def _with_sockets(self, message: bytes) -> tuple[Order, list[int]]:
        order: Order = pickle.loads(message)  # noqa: S301 - from the process that started this one
        count = {Start: 3, Join: 1, Drain: 0}[type(order)]
        return order, [self._descriptors.popleft() for _ in range(count)]


class Reports:
    """The supervisor's end of one worker."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, data: bytes) -> list[Report]:
        """What a worker said."""
        self._buffer += data
        return [_decode(message) for message in _messages(self._buffer)]


def _messages(buffer: bytearray) -> Iterator[bytes]:
    """The whole messages of a buffer; they are taken out of it."""
    while len(buffer) >= 4 and len(buffer) - 4 >= (size := int.from_bytes(buffer[:4], "big")):
        message = bytes(buffer[4 : 4 + size])
        del buffer[: 4 + size]
        yield message
