"""A shared state's requests, and their answers: the only file of this package that knows frames."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from hubbub.asks import Asks
from hubbub.composer import encoded
from hubbub.errors import InvalidName, StateConflictError, TooLarge
from hubbub.policy import rejection_of
from hubbub_protocol import names
from hubbub_protocol.codec import decode_value, encode
from hubbub_protocol.errors import BadName, ErrorCode
from hubbub_protocol.frames import NO_DATA, Change, Err, Ok, Published, Renew, State, With

from .entry import Publication, StateEntry

RID_BYTES = 64
"""More than a request's number adds to its frame."""

Expected = int | Mapping[str, int] | None

Ttl = float | Literal["keep"] | None
"""Seconds after which a key goes by itself; `keep`: it goes when it would have gone; None: it stays."""


class Page(NamedTuple):
    """Some entries of a state, and how far its changes are in them."""

    entries: list[StateEntry]
    head: int
    epoch: str
    more: str | None


class Changed(NamedTuple):
    """A change that was made."""

    version: int
    published: list[Published]


class StateClient:
    """Asks a broker about one state."""

    def __init__(self, asks: Asks, name: str, topic: str) -> None:
        """`name` is the conversation or the group, `topic` the one that tells of its changes."""
        self._asks = asks
        self.name = name
        self.topic = topic

    async def get(self, key: str, timeout: float) -> StateEntry | None:
        """One key; None when it is not there."""
        key = checked_key(key)
        page = await self._read(State(topic=self.name, keys=[key]), timeout)
        return page.entries[0] if page.entries else None

    async def page(self, pattern: str, after: str | None, timeout: float, limit: int | None = None) -> Page:
        """Keys that match, in their order, from behind `after` on: as many as one answer holds, or `limit`."""
        request = State(topic=self.name, match=checked_pattern(pattern), after=after, limit=limit)
        return await self._read(request, timeout)

    async def _read(self, request: State, timeout: float) -> Page:
        ok = await self._ask(request, timeout)
        entries = [StateEntry(entry.key, decode_value(entry.value), entry.version) for entry in ok.entries or ()]
        return Page(entries, ok.head or 0, ok.epoch or "", ok.more)

    async def change(
        self,
        id: str,
        values: Mapping[str, Any],
        delete: Iterable[str],
        expected: Expected,
        ttl: Mapping[str, Ttl],
        publish: list[With],
        lc: int,
        timeout: float,
    ) -> Changed:
        """Change it in one step.

        Raises:
            StateConflictError: it is not as expected; nothing was changed.
            TooLarge: no frame holds it. It was not sent: that would end the connection, and the next one too.
        """
        change = Change(
            topic=self.name,
            id=id,
            set={checked_key(key): encoded(value) for key, value in values.items()},
            delete=[checked_key(key) for key in delete],
            expect=dict(expected) if isinstance(expected, Mapping) else expected,
            ttl={key: time for key, time in ttl.items() if isinstance(time, float | int)},
            keep=[key for key, time in ttl.items() if time == "keep"],
            publish=publish,
            lc=lc,
        )
        size, limit = len(encode(change)) + RID_BYTES, self._asks.frame_bytes_max
        if size > limit:
            raise TooLarge(f"a change of {size} bytes: the broker takes frames of {limit} at most; {TooLarge.HINT}")
        ok = await self._ask(change, timeout)
        return Changed(ok.seq or 0, ok.published or [])

    async def versions(self, keys: Sequence[str], timeout: float) -> dict[str, int]:
        """The versions of some keys at one moment, 0 where nothing is."""
        found: dict[str, int] = {}
        left, head = list(keys), None
        while left:
            page = await self._read(State(topic=self.name, keys=left), timeout)
            if head is not None and page.head != head:
                found, left, head = {}, list(keys), None  # it changed between two answers: once more
                continue
            head = page.head
            found.update((entry.key, entry.version) for entry in page.entries)
            left = [] if page.more is None else left[left.index(page.more) + 1 :]
        return {key: found.get(key, 0) for key in keys}

    async def renew(self, key: str, version: int, timeout: float) -> None:
        """Let a key that goes by itself live its whole time again.

        Raises:
            StateConflictError: it is gone, or another's.
        """
        await self._ask(Renew(topic=self.name, keys={key: version}), timeout)

    async def _ask(self, request: State | Change | Renew, timeout: float) -> Ok:
        # The rid is the link's to give: the same request is asked again under another.
        answer = await self._asks.ask(lambda rid: _with_rid(request, rid), timeout)
        if isinstance(answer, Err):
            if answer.code == ErrorCode.CONFLICT and answer.current is not None:
                raise StateConflictError(answer.expected or 0, answer.current, answer.key)
            raise rejection_of(answer)
        return answer


def _with_rid(request: State | Change | Renew, rid: str | int) -> State | Change | Renew:
    return replace(request, rid=rid)


def to_with(publication: Publication, headers: dict[str, Any] | None, topic: str, id: str) -> With:
    """A message of a change as the protocol has it, with its headers and its topic's whole name."""
    return With(
        topic=topic,
        id=publication.id or id,
        data=encoded(publication.data),
        type=publication.type,
        headers=NO_DATA if not headers else encoded(headers),
        parent=publication.parent,
        reply_to=publication.reply_to,
        ttl=publication.ttl,
        track=publication.track,
    )


def checked_key(key: str) -> str:
    """The key.

    Raises:
        InvalidName: it is none.
    """
    try:
        return names.check_key(key)
    except BadName as error:
        raise InvalidName(str(error)) from None


def checked_pattern(pattern: str) -> str:
    """The pattern of keys.

    Raises:
        InvalidName: it is none.
    """
    try:
        return names.check_key_pattern(pattern)
    except BadName as error:
        raise InvalidName(str(error)) from None
