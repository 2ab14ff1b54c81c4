"""A shared state as the store of shared circuit breakers."""

from collections.abc import AsyncIterator
from typing import Any

from .entry import StateEntry
from .state import SharedState


class GroupStateStore:
    """Implements `hubbub.resilience.StateStore` on a shared state."""

    def __init__(self, state: SharedState, timeout: float) -> None:
        self._state = state
        self._timeout = timeout

    async def get(self, key: str) -> tuple[Any, int]:
        """The newest value and its version."""
        return await self._state.get(key, timeout=self._timeout)

    async def put(self, key: str, value: Any, expected_version: int) -> int:
        """Write, if the key's version is still `expected_version`. None removes the key.

        Raises:
            StateConflictError: if it is not.
        """
        if value is None:
            await self._state.delete(key, expected_version=expected_version, timeout=self._timeout)
            return 0
        return await self._state.put(key, value, expected_version=expected_version, timeout=self._timeout)

    def watch(self, prefix: str) -> AsyncIterator[StateEntry]:
        """The entries whose keys begin with `prefix`, which ends with a `/`, then their changes."""
        return self._state.watch(f"{prefix}**")
