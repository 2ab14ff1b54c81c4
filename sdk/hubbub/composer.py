"""Makes outbox entries of what an application publishes: ids, Lamport timestamps, vector clocks, encoding."""

import math
import time
from asyncio import AbstractEventLoop
from collections.abc import Sequence
from itertools import count
from typing import Any

from msgspec import Raw

from hubbub_protocol import causal, codec
from hubbub_protocol.blobs import ATTACHMENTS, ATTACHMENTS_MAX, BlobRef
from hubbub_protocol.frames import NO_DATA, Pub

from .chain import caused
from .errors import Unencodable
from .message import Message, clock_of
from .outbox import Entry


class Composer:
    """One agent's pen.

    It keeps the agent's Lamport clock, which is the largest timestamp that the agent has seen, and its vector clock
    when it was asked to.
    """

    def __init__(self, agent: str, session: str, loop: AbstractEventLoop, *, vector_clocks: bool) -> None:
        self.lamport = 0
        self._agent = agent
        self._session = session
        self._loop = loop
        self._count = count(1)
        self._clock: causal.VectorClock | None = {} if vector_clocks else None

    def saw(self, lc: int) -> None:
        """Learn a Lamport timestamp."""
        self.lamport = max(self.lamport, lc)

    @property
    def reads_clocks(self) -> bool:
        """Whether `read` wants to see every message that is handed over."""
        return self._clock is not None

    def read(self, message: Message) -> None:
        """Learn from the vector clock of a message that the application takes. A malformed one teaches nothing."""
        if self._clock is None:
            return
        try:
            theirs = clock_of(message.headers.get(causal.HEADER))
        except ValueError:
            return
        if theirs is not None:
            self._clock = causal.merge(self._clock, theirs)

    def new_id(self) -> str:
        """An id that no other message of this agent has."""
        return f"{self._session}.{next(self._count)}"

    def compose(
        self,
        topic: str,
        data: Any,
        *,
        id: str | None = None,
        parent: str | None = None,
        type: str | None = None,
        headers: dict[str, Any] | None = None,
        ttl: float | None = None,
        reply_to: str | None = None,
        ephemeral: bool = False,
        track: bool = False,
        mandatory: bool = False,
        attachments: Sequence[BlobRef] | None = None,
    ) -> Entry:
        """An entry for the outbox. `bytes` data become a binary payload, anything else JSON.

        Raises:
            Unencodable: if JSON can't hold the data or the headers.
            ValueError: if `ttl` is not positive.
        """
        if ttl is not None and not 0 < ttl < math.inf:
            raise ValueError(f"ttl is {ttl}: seconds, more than 0")
        headers = caused(headers, topic)
        if attachments:
            if len(attachments) > ATTACHMENTS_MAX:
                raise ValueError(f"{len(attachments)} attachments; a message may have {ATTACHMENTS_MAX}")
            headers = {**(headers or {}), ATTACHMENTS: list(attachments)}
        if self._clock is not None:
            self._clock = causal.tick(self._clock, self._agent)
            headers = {**(headers or {}), causal.HEADER: self._clock}
        payload = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else None
        if id is None:
            id = self.new_id()
        line = codec.encode(
            Pub(
                topic=topic,
                id=id,
                data=NO_DATA if payload is not None else encoded(data),
                parent=parent,
                type=type,
                lc=self.lamport,
                headers=NO_DATA if not headers else encoded(headers),
                ephemeral=ephemeral,
                reply_to=reply_to,
                track=track,
                mandatory=mandatory,
            )
        )
        future: Any = self._loop.create_future()
        return Entry(
            topic,
            id,
            line,
            future,
            payload=payload,
            ephemeral=ephemeral,
            expires_at=None if ttl is None else self._loop.time() + ttl,
            expires_wall=None if ttl is None else time.time() + ttl,
        )


def encoded(value: Any) -> Raw:
    """A value as JSON text on one line.

    Raises:
        Unencodable: if JSON can't hold it.
    """
    try:
        text = codec.encode_value(value)
        if b"null" in text:  # None, or a number that JSON has not: looked for only where there may be one
            codec.check_finite(value)
        if b"\n" in text:  # only text that was JSON already (`msgspec.Raw`) can hold one
            text = codec.encode_value(codec.decode_value(text))
        return Raw(text)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unencodable(f"JSON can't hold this {type(value).__name__}: {error}") from error
