"""A shared state, as an agent holds it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

from hubbub.backoff import Backoff
from hubbub.errors import StateConflictError

from .client import Expected, Page, Ttl
from .desk import StateDesk
from .entry import Publication, StateEntry, StateValue
from .lease import Lease
from .transaction import Transaction
from .watch import watch

SECONDS = 30.0
"""How long a request waits for the broker, unless told otherwise: as long as a restart may take."""

ATTEMPTS = 100
"""How often `modify` and `transact` try, unless told otherwise."""

CONTENDED = Backoff(base=0.002, cap=0.5)
"""How long they wait before they try again: full jitter, so that fifty agents who want the same key spread out."""

PAGE = 100
"""Keys in a page, unless told otherwise."""

PAGES_AGAIN = 3
"""How often `entries` begins anew when the state changed between two pages."""

Ttls = Ttl | Mapping[str, Ttl]
T = TypeVar("T")


class SharedState:
    """Versioned keys that all agents of a group see: of a conversation (`topic.state`), or of the group itself.

        plan, version = await state.get("plan")
        await state.put("plan", {"steps": 3}, expected_version=version)
        await state.modify("count", lambda count: (count or 0) + 1)

    A change is on the broker's disk when its call returns, and is made once however often the connection is lost
    meanwhile. Values are JSON. A call that gets no answer within `timeout` seconds raises RequestTimeout: the change
    may have been made then. Every call may also raise Rejected (with what the broker has against it), Closed, Refused
    and InvalidName.
    """

    def __init__(self, desk: StateDesk, name: str) -> None:
        """`name` is the conversation or the group.

        Raises:
            InvalidName: it is none that has a state.
        """
        self._desk = desk
        self._client = desk.client(name)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By key, while a call of `modify` is under way."""

    def __repr__(self) -> str:
        return f"<SharedState {self.name}>"

    @property
    def name(self) -> str:
        """The conversation, or the group, whose state it is."""
        return self._client.name

    @property
    def topic(self) -> str:
        """The topic that tells of its changes."""
        return self._client.topic

    # Reading ----------------------------------------------------------------------------------------------------

    async def get(self, key: str, *, timeout: float = SECONDS) -> StateValue:
        """What a key holds: all that was answered to anyone before this call is in it. `(None, 0)`: it is not there."""
        entry = await self._client.get(key, timeout)
        return StateValue(None, 0) if entry is None else StateValue(entry.value, entry.version)

    async def entries(self, pattern: str = "**", *, timeout: float = SECONDS) -> dict[str, StateValue]:
        """The keys that match a pattern, in their order. It is one moment of the state, unless that is too large for
        one answer and changes all the time.
        """
        entries, _ = await self.snapshot(pattern, timeout=timeout)
        return {entry.key: StateValue(entry.value, entry.version) for entry in entries}

    async def snapshot(self, pattern: str = "**", *, timeout: float = SECONDS) -> tuple[list[StateEntry], Page]:
        """The same, with the first page: its `head` and `epoch` say from where on changes may not be in it."""
        again = 0
        while True:
            first = page = await self._client.page(pattern, None, timeout)
            entries = list(first.entries)
            while page.more is not None:
                page = await self._client.page(pattern, page.more, timeout)
                entries += page.entries
            if page.head == first.head or again == PAGES_AGAIN:
                return entries, first
            again += 1

    async def page(
        self, pattern: str = "**", *, after: str | None = None, limit: int = PAGE, timeout: float = SECONDS
    ) -> Page:
        """Some of the keys that match, in their order, from behind the key `after` on: `limit` at most. Its `more` is
        the key behind which to go on, None at the end.
        """
        return await self._client.page(pattern, after, timeout, limit)

    def watch(self, pattern: str = "**") -> AsyncIterator[StateEntry]:
        """The keys that match as they are, then each change of them, in order: none left out, none twice.

        That holds over any number of disconnects, and when history was lost: then what has become of the keys meanwhile
        is told, deletions too, each as one change.

        Raises:
            InvalidName, Rejected, Closed, Refused: from the iterator.
        """
        return watch(self._desk.subscriber, self.snapshot, self.topic, pattern)

    # Changing ---------------------------------------------------------------------------------------------------

    async def put(
        self,
        key: str,
        value: Any,
        *,
        expected_version: int | None = None,
        ttl: Ttl = None,
        lease: Lease | None = None,
        timeout: float = SECONDS,
    ) -> int:
        """Set a key; returns its version. `expected_version` 0: only if it is not there. `ttl`: it goes by itself after
        so many seconds, or ("keep") when it would have gone without this; by default it stays from now on. `lease`:
        only while that is held.

        Raises:
            StateConflictError: it has another version than expected, or the lease is another's.
        """
        expected = None if expected_version is None else {key: expected_version}
        return await self.update({key: value}, expected_version=expected, ttl=ttl, lease=lease, timeout=timeout)

    async def delete(
        self,
        key: str,
        *,
        expected_version: int | None = None,
        lease: Lease | None = None,
        timeout: float = SECONDS,
    ) -> int:
        """Delete a key, if it is there; returns the version of the state.

        Raises:
            StateConflictError: as `put`.
        """
        expected = None if expected_version is None else {key: expected_version}
        return await self.update({}, expected_version=expected, delete=(key,), lease=lease, timeout=timeout)

    async def update(
        self,
        values: Mapping[str, Any],
        *,
        expected_version: Expected = None,
        delete: Iterable[str] = (),
        publish: Sequence[Publication | tuple[str, Any]] = (),
        ttl: Ttls = None,
        lease: Lease | None = None,
        timeout: float = SECONDS,
    ) -> int:
        """Set and delete keys, and publish messages to topics of the same group, all in one step or not at all; returns
        the version of the state, which is that of each key that was set.

        Args:
            values: what is set, by key.
            expected_version: of some keys, or (one number) of the whole state; 0 where nothing is yet.
            delete: keys that are to go; whether they are there does not matter.
            publish: `Publication`s, or pairs of topic and data.
            ttl: seconds after which the keys that are set go by themselves, for all or by key; "keep": when they would
                have gone without this change. Default: they stay.
            lease: only while that lease of the same state is held.
            timeout: seconds to wait for the broker.

        Raises:
            StateConflictError: it is not as expected; nothing was changed and nothing published.
        """
        parts = [one if isinstance(one, Publication) else Publication(*one) for one in publish]
        times = ttl if isinstance(ttl, Mapping) else dict.fromkeys(values, ttl)
        changed = await self._client.change(
            self._desk.new_id(),
            values,
            delete,
            self._with_lease(expected_version, lease),
            times,
            [self._desk.compose(part) for part in parts],
            self._desk.lamport(),
            timeout,
        )
        return changed.version

    def _with_lease(self, expected: Expected, lease: Lease | None) -> Expected:
        if lease is None:
            return expected
        if lease.state.topic != self.topic:
            raise ValueError(f"the lease is one of {lease.state.name}'s state, not of {self.name}'s")
        if isinstance(expected, int):
            raise TypeError("with a lease, `expected_version` is of keys and not of the whole state")
        return {**(expected or {}), lease.key: lease.token}

    # Reading and changing ---------------------------------------------------------------------------------------

    def transaction(self, *, lease: Lease | None = None, timeout: float = SECONDS) -> Transaction:
        """Read, decide, change: made at the end of the block, if nothing that was read has changed meanwhile. A block
        that only reads has read what was there at one moment. It is one attempt, since no block can be run again: see
        `transact`.

            async with state.transaction() as tx:
                stock = await tx.get("stock")
                tx.put("stock", stock - 1)
                tx.publish("orders", {"sold": 1})

        Raises:
            StateConflictError: at the end of the block: something has. Nothing was changed; `transact` tries again.
        """
        return Transaction(self, lease, timeout)

    @overload
    async def transact(
        self,
        decide: Callable[[Transaction], Awaitable[T]],
        *,
        attempts: int = ...,
        backoff: Backoff = ...,
        lease: Lease | None = ...,
        timeout: float = ...,
    ) -> T: ...

    @overload
    async def transact(
        self,
        decide: Callable[[Transaction], T],
        *,
        attempts: int = ...,
        backoff: Backoff = ...,
        lease: Lease | None = ...,
        timeout: float = ...,
    ) -> T: ...

    async def transact(
        self,
        decide: Callable[[Transaction], Awaitable[T] | T],
        *,
        attempts: int = ATTEMPTS,
        backoff: Backoff = CONTENDED,
        lease: Lease | None = None,
        timeout: float = SECONDS,
    ) -> T:
        """Call `decide(tx)`, and make its change; again, a little later, when something it has read was changed by
        others meanwhile. Returns what the last `decide` returned, which must have no effects of its own.

        Raises:
            StateConflictError: `attempts` times others were ahead, or the lease is another's.
        """
        for attempt in range(attempts):
            transaction = Transaction(self, lease, timeout)
            try:
                async with transaction as tx:
                    result = decide(tx)
                    decided: T = await result if inspect.isawaitable(result) else result
            except StateConflictError as conflict:
                if lease is not None and conflict.key == lease.key:
                    raise
                if attempt + 1 == attempts:
                    conflict.add_note(f"others were ahead at each of {attempts} attempts")
                    raise
            else:
                return decided
            await asyncio.sleep(backoff.delay(attempt, self._desk.source))
        raise ValueError(f"attempts is {attempts}: 1 or more")

    async def modify(
        self,
        key: str,
        change: Callable[[Any], Awaitable[Any] | Any],
        *,
        ttl: Ttl = "keep",
        attempts: int = ATTEMPTS,
        backoff: Backoff = CONTENDED,
        timeout: float = SECONDS,
    ) -> StateValue:
        """Set a key to `change(value)`, where `value` is what it holds (None: nothing); again when others were ahead.
        Returns what it holds then. Calls of one agent for one key wait for each other. `ttl` is as in `put`, but that
        a key which goes by itself keeps its time unless it is said.

        Raises:
            StateConflictError: `attempts` times others were ahead.
        """
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            for attempt in range(attempts):
                before = await self.get(key, timeout=timeout)
                result = change(before.value)
                value = await result if inspect.isawaitable(result) else result
                try:
                    version = await self.put(key, value, expected_version=before.version, ttl=ttl, timeout=timeout)
                except StateConflictError as conflict:
                    if attempt + 1 == attempts:
                        conflict.add_note(f"others were ahead at each of {attempts} attempts")
                        raise
                else:
                    return StateValue(value, version)
                await asyncio.sleep(backoff.delay(attempt, self._desk.source))
        raise ValueError(f"attempts is {attempts}: 1 or more")

    # Leases -----------------------------------------------------------------------------------------------------

    def lease(self, name: str, *, ttl: float = 30.0, timeout: float | None = None) -> Lease:
        """A lease: see `Lease`."""
        return Lease(self, name, ttl, timeout)

    async def versions(self, keys: Sequence[str], *, timeout: float = SECONDS) -> dict[str, int]:
        """The versions of some keys at one moment; 0 where nothing is."""
        return await self._client.versions(keys, timeout)

    async def renew(self, key: str, version: int, *, timeout: float = SECONDS) -> None:
        """Let a key that was set with a `ttl` live its whole time again.

        Raises:
            StateConflictError: it is gone, or was set again.
        """
        await self._client.renew(key, version, timeout)

    @property
    def desk(self) -> StateDesk:
        """What it shares with the agent's other states."""
        return self._desk


class SharedStates:
    """The states that one agent uses: one object for each, as long as anybody holds it."""

    def __init__(self, desk: StateDesk) -> None:
        self._desk = desk
        self._states: WeakValueDictionary[str, SharedState] = WeakValueDictionary()

    def of(self, name: str) -> SharedState:
        """The state of a conversation or group.

        Raises:
            InvalidName: it is none that has a state.
        """
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = SharedState(self._desk, name)
        return state
