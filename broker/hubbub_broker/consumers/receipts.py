"""Receipts: what became of messages whose publishers asked (`track`).

The newest state of each (message, consumer) is kept for `receipt_window` seconds, `receipts_kept` of them at most. How
a message ended (done, dead, expired) is kept in the log too. What a publisher missed while it was away it is told when
it is back. What was written into its socket may have been lost with that: the newest endings are told again to whoever
comes back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from time import time
from typing import TYPE_CHECKING

import msgspec

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import ShardLog
from hubbub_protocol.codec import encode
from hubbub_protocol.frames import Msg, Receipt

if TYPE_CHECKING:
    from .lease import Tracked

FINAL = frozenset({"done", "dead", "expired"})

Tell = Callable[[str, bytes], bool]
"""Sends a line to whoever is connected under an agent's name. False if nobody is."""

Key = tuple[str, str, str, str]
"""Publisher, id, topic, consumer."""


class Standing(msgspec.Struct):
    """The newest state of one message with one consumer."""

    seq: int
    state: str
    by: str | None
    reason: str | None
    ts: float
    told: bool = False


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Standing] = msgspec.json.Decoder(Standing)


class Receipts:
    """The receipts of a shard's topics."""

    def __init__(
        self, log: ShardLog, tell: Tell, *, kept: int, window: float, retold: int, want: Callable[[], None]
    ) -> None:
        self._log = log
        self._tell = tell
        self._kept = kept
        self._window = window
        self._retold = retold
        self._want = want
        self._standings: OrderedDict[Key, Standing] = OrderedDict()
        self._untold: dict[str, dict[Key, None]] = {}
        self._ended: dict[str, dict[Key, None]] = {}
        """Of each publisher, what was told of how its messages ended: the newest, oldest first."""
        self._dirty: dict[Key, None] = {}
        self._stored: set[Key] = set()
        self._writing: list[Key] = []
        for raw, body in sorted(log.states(StateKind.RECEIPT), key=lambda item: _decoder.decode(item[1]).ts):
            key = _key_of(raw.decode())
            publisher = key[0]
            standing = self._standings[key] = _decoder.decode(body)
            self._stored.add(key)
            if standing.told:
                self._keep_ended(key)
            else:
                self._untold.setdefault(publisher, {})[key] = None

    # What happens ---------------------------------------------------------------------------------------------------

    def note(self, tracked: Tracked, topic: str, seq: int, consumer: str, state: str, by: str) -> None:
        """Something became of a tracked message with a member."""
        self._set((tracked.publisher, tracked.id, topic, consumer), Standing(seq, state, by, None, time()))

    def close(self, original: Msg, topic: str, seq: int, consumer: str, state: str, reason: str) -> None:
        """A tracked message was given up."""
        self._set((original.sender, original.id, topic, consumer), Standing(seq, state, None, reason, time()))

    def _set(self, key: Key, standing: Standing) -> None:
        self._standings[key] = standing
        self._standings.move_to_end(key)
        standing.told = self._tell(key[0], encode(_receipt(key, standing)))
        if not standing.told:
            self._untold.setdefault(key[0], {})[key] = None
        elif key[0] in self._untold:
            self._told(key)
        if standing.state in FINAL:
            if standing.told:
                self._keep_ended(key)
            self._dirty[key] = None
            self._want()
        while len(self._standings) > self._kept:
            self._drop(next(iter(self._standings)))

    def _keep_ended(self, key: Key) -> None:
        """How a message ended was written to a socket of its publisher, which may not have got it."""
        ended = self._ended.setdefault(key[0], {})
        ended.pop(key, None)
        ended[key] = None
        if len(ended) > self._retold:
            del ended[next(iter(ended))]

    def greeted(self, agent: str) -> None:
        """An agent is here: it is told what it missed, and may have missed."""
        for key in self._ended.get(agent, ()):
            if (standing := self._standings.get(key)) is not None and standing.state in FINAL:
                self._tell(agent, encode(_receipt(key, standing)))
        for key in list(self._untold.get(agent, ())):
            standing = self._standings.get(key)
            if standing is None or self._tell(agent, encode(_receipt(key, standing))):
                self._told(key)
                if standing is not None:
                    standing.told = True
                    if standing.state in FINAL:
                        self._keep_ended(key)
                    if key in self._stored:
                        self._dirty[key] = None
                        self._want()

    def _told(self, key: Key) -> None:
        waiting = self._untold.get(key[0])
        if waiting is not None:
            waiting.pop(key, None)
            if not waiting:
                del self._untold[key[0]]

    def _drop(self, key: Key) -> None:
        del self._standings[key]
        self._told(key)
        ended = self._ended.get(key[0])
        if ended is not None:
            ended.pop(key, None)
            if not ended:
                del self._ended[key[0]]
        if key in self._stored:
            self._dirty[key] = None
            self._want()

    def age(self, now: float) -> None:
        """Drop what is older than the window. Called now and then."""
        while self._standings:
            key, standing = next(iter(self._standings.items()))
            if standing.ts + self._window > now:
                return
            self._drop(key)

    # In the log -----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty)

    def write(self, most: int = 1000) -> None:
        """Append what has changed."""
        for key in list(self._dirty)[:most]:
            standing = self._standings.get(key)
            body = b"" if standing is None else _encoder.encode(standing)
            self._log.append_state(StateKind.RECEIPT, "\0".join(key).encode(), body)
            del self._dirty[key]
            self._writing.append(key)
            if standing is None:
                self._stored.discard(key)
            else:
                self._stored.add(key)

    def written(self, *, durable: bool) -> None:
        """What was appended is on stable storage, or was taken back."""
        if not durable:
            self._dirty.update(dict.fromkeys(self._writing))
        self._writing.clear()

    # Asking ---------------------------------------------------------------------------------------------------------

    def of(self, id: str) -> Iterator[tuple[str, Receipt]]:
        """The receipts of the messages with this id, each with its publisher."""
        for key, standing in self._standings.items():
            if key[1] == id:
                yield key[0], _receipt(key, standing)


def _key_of(text: str) -> Key:
    """A key as it stands in the log. Only the id, which is its publisher's own, may have a NUL in it."""
    publisher, rest = text.split("\0", 1)
    id, topic, consumer = rest.rsplit("\0", 2)
    return publisher, id, topic, consumer


def _receipt(key: Key, standing: Standing) -> Receipt:
    _, id, topic, consumer = key
    return Receipt(
        id=id,
        topic=topic,
        state=standing.state,
        seq=standing.seq,
        consumer=consumer,
        by=standing.by,
        reason=standing.reason,
        ts=standing.ts,
    )
