"""What travels: a received message, and the receipt of a published one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

from msgspec import Struct
from msgspec.structs import replace

from hubbub_protocol import blobs, causal, codec
from hubbub_protocol.blobs import BlobRef
from hubbub_protocol.errors import BadFrame
from hubbub_protocol.filters import Filter, View
from hubbub_protocol.frames import Msg
from hubbub_protocol.headers import IN_REPLY_TO, REPLY_DURABLY

from .blob import FETCH_BYTES_MAX, Blob
from .errors import BlobGone, MessageDecodeError, NoVectorClock


class Receipt(Struct, frozen=True, kw_only=True, gc=False):
    """What became of a publish."""

    id: str
    topic: str
    """Where it is: of a mail, the inbox."""
    seq: int | None = None
    """The message's place in its topic; None for an ephemeral one."""
    lc: int | None = None
    """Its Lamport timestamp."""
    dup: bool = False
    """Whether the broker had it already: the seq is the first one's."""
    dropped: bool = False
    """Whether it was ephemeral and could not be sent (the broker was away, or the buffer full)."""


class PublishOptions(TypedDict, total=False):
    """What may be said of a message beside its topic and its data."""

    id: str | None
    """The message's own id, to publish the same message twice without storing it twice. Default: a new one."""
    parent: str | None
    """Id of the message of the same topic that it answers."""
    type: str | None
    """What kind of message it is, in the application's terms."""
    headers: dict[str, Any] | None
    """A JSON object beside the data."""
    ttl: float | None
    """Seconds after which it is of no use to anyone."""
    reply_to: str | None
    """Topic for answers."""
    ephemeral: bool
    """Pass it to whoever listens now, and store nothing. It is sent at most once, and dropped (see `Receipt.dropped`)
    while the broker is away."""
    track: bool
    """Ask the broker to tell what becomes of it: see `Agent.publish_tracked` and `Agent.on_outcome`."""
    attachments: Sequence[BlobRef] | None
    """Large bodies that it refers to, as `Topic.attach` gave them."""
    mandatory: bool
    """Refuse it (`NotFound`) if nobody would hear it now."""


class Publisher(Protocol):
    """Who can publish an answer to a message."""

    async def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish and wait for the receipt."""
        ...

    def blob(self, ref: BlobRef) -> Blob:
        """A large body."""
        ...

    async def ancestors(self, message: "Message", depth: int) -> "list[Message]":
        """What led to a message."""
        ...


class _Unread:
    """Stands for data that was not decoded yet."""


_UNREAD = _Unread()


class MessageView:
    """What can be read of a received message.

    `data` and `headers` are decoded when they are first read, so that a message whose data can't be decoded hurts
    only whoever reads it.
    """

    __slots__ = ("_data", "_frame", "_headers", "local")

    def __init__(self, frame: Msg, payload: bytes | None = None, local: bool = False) -> None:
        self._frame = frame
        self._data: Any = _UNREAD if payload is None else payload
        self._headers: dict[str, Any] | None = None
        self.local = local
        """Whether it came straight from an agent of this process, because the broker is unreachable. It has no seq
        yet, and a `lc` and `ts` of the sender's own."""

    def __repr__(self) -> str:
        return f"<Message {self.topic}#{self.seq} {self.id} from {self.sender}>"

    @property
    def topic(self) -> str:
        """The conversation."""
        return self._frame.topic

    @property
    def seq(self) -> int | None:
        """Its place in the conversation: 1, 2, 3 …; None for an ephemeral one, and for one that is still local."""
        return self._frame.seq

    @property
    def id(self) -> str:
        """The publisher's own id for it."""
        return self._frame.id

    @property
    def sender(self) -> str:
        """The name of the agent that published it."""
        return self._frame.sender

    @property
    def ts(self) -> float:
        """When the broker sequenced it, in seconds since the Unix epoch."""
        return self._frame.ts

    @property
    def lc(self) -> int:
        """Its Lamport timestamp."""
        return self._frame.lc

    @property
    def parent(self) -> str | None:
        """The id of the message of this conversation that it answers."""
        return self._frame.parent

    @property
    def type(self) -> str | None:
        """What kind of message it is, in the application's terms."""
        return self._frame.type

    @property
    def reply_to(self) -> str | None:
        """The topic to which an answer should go."""
        return self._frame.reply_to

    @property
    def ephemeral(self) -> bool:
        """Whether it was passed on without being stored."""
        return self._frame.ephemeral

    @property
    def orphan(self) -> bool:
        """Whether the message that it answers never came."""
        return self._frame.orphan

    @property
    def attempt(self) -> int:
        """1 at its first delivery to a consumer, then 2, 3 and so on."""
        return self._frame.attempt or 1

    @property
    def fence(self) -> int:
        """The number of this delivery to a consumer, larger than that of any before it; 0 if it has none.

        Whoever stores results under it, and refuses a smaller one than it has seen, is safe from a worker that lost its
        lease and does not know yet.
        """
        return self._frame.lease or 0

    @property
    def data(self) -> Any:
        """What was published: any JSON value, or bytes.

        Raises:
            MessageDecodeError: if it can't be read.
        """
        if self._data is _UNREAD:
            raw = bytes(self._frame.data)
            self._data = self._decode(raw, "data") if raw else None
        return self._data

    @property
    def raw(self) -> bytes:
        """The data as it travelled: JSON text, or the payload."""
        return self._data if isinstance(self._data, bytes) else bytes(self._frame.data)

    @property
    def headers(self) -> dict[str, Any]:
        """The headers.

        Raises:
            MessageDecodeError: if they can't be read.
        """
        if self._headers is None:
            raw = bytes(self._frame.headers)
            decoded = self._decode(raw, "headers") if raw else {}
            if decoded is not None and not isinstance(decoded, dict):
                raise MessageDecodeError(f"the headers of {self!r} are no object")
            self._headers = decoded or {}
        return self._headers

    @property
    def raw_headers(self) -> bytes:
        """The headers as they travelled: JSON text, empty if there are none."""
        return bytes(self._frame.headers)

    @property
    def attachments(self) -> list[BlobRef]:
        """The large bodies that it refers to: see `Message.blob`."""
        try:
            return blobs.refs_of(self.headers.get(blobs.ATTACHMENTS))
        except MessageDecodeError:
            return []

    @property
    def in_reply_to(self) -> str | None:
        """The id of the message that it answers: its `parent`, or what the header says."""
        if self._frame.parent is not None:
            return self._frame.parent
        named = self.headers.get(IN_REPLY_TO)
        return named if isinstance(named, str) else None

    @property
    def hops(self) -> int:
        """How many messages led to this one, each to the next, as far as its sender knew."""
        try:
            return causal.hops_of(self.headers.get(causal.HOPS))
        except MessageDecodeError:
            return 0

    @property
    def broadcasts(self) -> int:
        """How many mails to ALL are among those messages, this one included."""
        try:
            return causal.hops_of(self.headers.get(causal.BROADCASTS))
        except MessageDecodeError:
            return 0

    @property
    def chain(self) -> dict[str, Any]:
        """The headers by which a message that this one has caused says how deep it stands."""
        found = {causal.HOPS: self.hops + 1}
        if self.broadcasts:
            found[causal.BROADCASTS] = self.broadcasts
        return found

    # Causality ---------------------------------------------------------------------------------------------------

    @property
    def vector_clock(self) -> causal.VectorClock | None:
        """What its sender had seen when it was published; None if the sender does not say."""
        return clock_of(self.headers.get(causal.HEADER))

    def happened_before(self, other: "MessageView") -> bool:
        """Whether its sender's knowledge flowed into `other`.

        Raises:
            NoVectorClock: if one of the two carries none (publish with `vector_clocks=True`).
        """
        return self._compare(other) is causal.Order.BEFORE

    def concurrent_with(self, other: "MessageView") -> bool:
        """Whether neither happened before the other.

        Raises:
            NoVectorClock: if one of the two carries none.
        """
        return self._compare(other) is causal.Order.CONCURRENT

    def _compare(self, other: "MessageView") -> causal.Order:
        mine, theirs = self.vector_clock, other.vector_clock
        if mine is None or theirs is None:
            silent = self if mine is None else other
            raise NoVectorClock(f"{silent!r} carries no vector clock: its sender is made without vector_clocks=True")
        return causal.compare(mine, theirs)

    def _decode(self, raw: bytes, what: str) -> Any:
        try:
            return codec.decode_value(raw)
        except BadFrame as error:
            raise MessageDecodeError(f"the {what} of {self!r} can't be read: {error}") from error


class Message(MessageView):
    """A message as a subscription hands it over, and can be answered."""

    __slots__ = ("_publisher",)

    def __init__(self, frame: Msg, publisher: Publisher, payload: bytes | None = None, local: bool = False) -> None:
        super().__init__(frame, payload, local)
        self._publisher = publisher

    def part(self, filter: Filter | None) -> "Message | None":
        """What of it somebody wants; None: nothing."""
        if filter is None:
            return self
        payload = self._data if isinstance(self._data, bytes) else None
        view = View(self._frame, binary=payload is not None)
        if not filter.matches(view):
            return None
        headers, data, with_payload = filter.cut(view)
        frame = replace(self._frame, headers=headers, data=data)
        return Message(frame, self._publisher, payload if with_payload else None, self.local)

    def contents(self) -> tuple[Msg, bytes | None, bool]:
        """What another view of the same message is made of."""
        return self._frame, self._data if isinstance(self._data, bytes) else None, self.local

    def blob(self, which: int | str = 0) -> Blob:
        """A large body that it refers to: the so-many-th, or the one of that name.

        Raises:
            BlobGone: it refers to none, or to none such.
        """
        refs = self.attachments
        for place, ref in enumerate(refs):
            if which in (place, ref.name):
                return self._publisher.blob(ref)
        raise BlobGone(f"{self!r} refers to {len(refs)} large bodies, and to none that is {which!r}")

    async def fetch(self, which: int | str = 0, *, max_bytes: int = FETCH_BYTES_MAX) -> bytes:
        """Fetch a large body that it refers to: see `Blob.fetch`."""
        return await self.blob(which).fetch(max_bytes)

    async def fetch_to(self, path: str | os.PathLike[str], which: int | str = 0) -> Path:
        """Fetch a large body that it refers to into a file: see `Blob.fetch_to`."""
        return await self.blob(which).fetch_to(path)

    async def ancestors(self, depth: int = 10) -> "list[Message]":
        """What led to it: the message that it answers, what that one answered, and so on, nearest first, at most
        `depth` of them. It ends where one is not there any more, or is in a conversation that this agent may not read.

        Raises:
            RequestTimeout: the broker did not answer in time.
            Rejected, Refused, Closed
        """
        return await self._publisher.ancestors(self, depth)

    async def reply(
        self,
        data: Any,
        *,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        ttl: float | None = None,
        ephemeral: bool | None = None,
    ) -> Receipt:
        """Answer it, and wait for the receipt.

        An answer to a request (a message with `reply_to`) goes to that topic, with the header `in_reply_to`; it is
        ephemeral unless the request asked otherwise. Any other answer goes to the same conversation, with `parent`
        filled in. `lc` is right in both cases. `ephemeral` says otherwise than these defaults.

        Raises:
            Rejected, Refused, BufferFull, Closed: as `Agent.publish`.
        """
        headers = {**self.chain, **(headers or {})}
        to = self._frame.reply_to
        if to is None:
            parent = None if self._frame.ephemeral else self._frame.id
            fields = headers if parent is not None else {**headers, IN_REPLY_TO: self._frame.id}
            return await self._publisher.publish(
                self._frame.topic,
                data,
                parent=parent,
                type=type,
                headers=fields,
                ttl=ttl,
                ephemeral=bool(ephemeral),
            )
        fields = {**headers, IN_REPLY_TO: self._frame.id}
        if to != self._frame.topic and not self._frame.ephemeral:
            fields = {causal.CAUSE: {"topic": self._frame.topic, "id": self._frame.id}, **fields}
        if ephemeral is None:
            ephemeral = self.headers.get(REPLY_DURABLY) is not True
        return await self._publisher.publish(to, data, type=type, headers=fields, ttl=ttl, ephemeral=ephemeral)


def clock_of(header: object) -> causal.VectorClock | None:
    """The vector clock in a header, or None when there is none or it is not one."""
    if not isinstance(header, dict) or not header:
        return None
    if not all(isinstance(agent, str) and isinstance(n, int) and n >= 0 for agent, n in header.items()):
        return None
    return header
