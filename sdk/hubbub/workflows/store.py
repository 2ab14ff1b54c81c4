"""What workflows need of shared state: keys with versions, several changed in one step, and messages with them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class Post(NamedTuple):
    """A message that goes with a change."""

    topic: str
    id: str
    type: str
    data: Any
    headers: dict[str, Any] | None = None


class Page(NamedTuple):
    """Keys in their order, each with its value and version."""

    entries: list[tuple[str, Any, int]]
    more: str | None
    """Behind which key to go on; None at the end."""


class Store(Protocol):
    """The state of a workflow's conversation."""

    async def get(self, key: str) -> tuple[Any, int]:
        """What a key holds and its version; (None, 0) if it is not there."""
        ...

    async def change(
        self, put: Mapping[str, Any], *, expected: Mapping[str, int], delete: Sequence[str], posts: Sequence[Post]
    ) -> None:
        """All of it in one step, or nothing.

        Raises:
            StateConflictError: a key has not the version that was expected.
            TooLarge: more than the broker takes.
        """
        ...

    async def page(self, pattern: str, *, after: str | None, limit: int) -> Page:
        """A page of the keys that match a pattern."""
        ...
