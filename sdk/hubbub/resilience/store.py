"""Shared state as the shared breaker needs it: keys with versions, compare-and-set, and a watch."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

from hubbub.shared_state.entry import StateEntry

from .errors import StateConflictError


class StateStore(Protocol):
    """Where agents of a group keep what they share.

    A key's versions grow with each write, also across its removal: no version comes twice, but for that of a key that
    is not there, which is 0. Any error but StateConflictError means that the store can't be reached or can't work now;
    a write that ended so may have been done.
    """

    async def get(self, key: str) -> tuple[Any, int]:
        """The newest value and its version: (None, 0) if the key is not there."""
        ...

    async def put(self, key: str, value: Any, expected_version: int) -> int:
        """Write, if the key's version is still `expected_version`. Returns the new version. None removes the
        key; the new version is 0 then.

        Raises:
            StateConflictError: if it is not. Nothing was written.
        """
        ...

    def watch(self, prefix: str) -> AsyncIterator[StateEntry]:
        """The entries whose keys begin with `prefix`: first those that are there, then each change.

        Of several changes to one key that were not read yet, only the last is told. It ends with an error when changes
        may have been missed.
        """
        ...


class MemoryStateStore:
    """A StateStore in this process, for tests and for agents of one process. Not for several threads."""

    def __init__(self) -> None:
        self._entries: dict[str, StateEntry] = {}
        self._last_version = 0
        self._watchers: set[_Watcher] = set()

    async def get(self, key: str) -> tuple[Any, int]:
        """The newest value and its version."""
        entry = self._entries.get(key)
        return (None, 0) if entry is None else (_copy(entry.value), entry.version)

    async def put(self, key: str, value: Any, expected_version: int) -> int:
        """Write, if the key's version is still `expected_version`.

        Raises:
            StateConflictError: if it is not.
        """
        there = self._entries.get(key)
        current = 0 if there is None else there.version
        if current != expected_version:
            raise StateConflictError(expected_version, current)
        self._last_version += 1
        entry = StateEntry(key, _copy(value), self._last_version)
        if value is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
        for watcher in self._watchers:
            watcher.tell(entry)
        return 0 if value is None else entry.version

    async def watch(self, prefix: str) -> AsyncIterator[StateEntry]:
        """The entries whose keys begin with `prefix`, then their changes."""
        watcher = _Watcher(prefix)
        for entry in self._entries.values():
            watcher.tell(entry)
        self._watchers.add(watcher)
        try:
            while True:
                yield await watcher.next()
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    """What one watch has not read yet: one entry a key, so that a slow reader costs no memory that grows."""

    __slots__ = ("_prefix", "_ready", "_unread")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._unread: dict[str, StateEntry] = {}
        self._ready = asyncio.Event()

    def tell(self, entry: StateEntry) -> None:
        if entry.key.startswith(self._prefix):
            self._unread[entry.key] = entry
            self._ready.set()

    async def next(self) -> StateEntry:
        while not self._unread:
            self._ready.clear()
            await self._ready.wait()
        entry = self._unread.pop(next(iter(self._unread)))
        return StateEntry(entry.key, _copy(entry.value), entry.version)


def _copy(value: Any) -> Any:
    # Through JSON, so that nothing gets in that another process could not read.
    return msgspec.json.decode(msgspec.json.encode(value))
