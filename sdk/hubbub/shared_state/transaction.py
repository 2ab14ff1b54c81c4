"""Read, decide, change: what is read in a block has to be what it was when the block ends."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hubbub.errors import StateConflictError

from .client import Ttl, checked_key
from .entry import Publication

if TYPE_CHECKING:
    from .lease import Lease
    from .state import SharedState


class Transaction:
    """One attempt. Nothing is sent before the end of the block; a block that raises changes nothing."""

    def __init__(self, state: SharedState, lease: Lease | None, timeout: float) -> None:
        self._state = state
        self._lease = lease
        self._timeout = timeout
        self._read: dict[str, int] = {}
        self._set: dict[str, Any] = {}
        self._ttl: dict[str, Ttl] = {}
        self._delete: dict[str, None] = {}
        self._publish: list[Publication] = []
        self.version: int | None = None
        """The version of the state after the change; None before, and when there was nothing to change."""

    async def get(self, key: str) -> Any:
        """What a key holds, with what this transaction has set; None: nothing. It must not change before the end."""
        if key in self._set:
            return self._set[key]
        if key in self._delete:
            return None
        value, version = await self._state.get(key, timeout=self._timeout)
        self.expect(key, version)
        return value

    def expect(self, key: str, version: int) -> None:
        """Make the change only if a key has this version then; 0: if it is not there. The first one said counts."""
        self._read.setdefault(checked_key(key), version)

    def put(self, key: str, value: Any, *, ttl: Ttl = "keep") -> None:
        """Set a key. `ttl` is as in `SharedState.put`, but that a key which goes by itself keeps its time unless it is
        said.
        """
        self._delete.pop(key, None)
        self._set[checked_key(key)] = value
        self._ttl[key] = ttl

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._set.pop(key, None)
        self._ttl.pop(key, None)
        self._delete[checked_key(key)] = None

    def publish(self, topic: str, data: Any, **options: Any) -> None:
        """Publish a message with the change: see `Publication`."""
        self._publish.append(Publication(topic, data, **options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        if not (self._set or self._delete or self._publish):
            await self._check_reads()
            return
        self.version = await self._state.update(
            self._set,
            expected_version=self._read or None,
            delete=self._delete,
            publish=self._publish,
            ttl=self._ttl,
            lease=self._lease,
            timeout=self._timeout,
        )

    async def _check_reads(self) -> None:
        """Whether all that was read was there at one moment. Of one key that goes without saying."""
        if len(self._read) < 2:
            return
        now = await self._state.versions(list(self._read), timeout=self._timeout)
        for key, version in self._read.items():
            if now[key] != version:
                raise StateConflictError(version, now[key], key)
