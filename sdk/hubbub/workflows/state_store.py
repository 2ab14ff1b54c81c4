"""The store of workflows on the shared state of a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any

from hubbub.agent import Agent
from hubbub.shared_state import Publication, SharedState

from .book import Book
from .store import Page, Post


class StateStore:
    """A `Store` on a `SharedState`. Requests outlive the connection: they are asked again, and done once."""

    def __init__(self, agent: Agent, home: str) -> None:
        """Needs the agent to be open when it is used, not before."""
        self._agent = agent
        self._home = home

    @property
    def _state(self) -> SharedState:
        return self._agent.topic(self._home).state

    async def get(self, key: str) -> tuple[Any, int]:
        """What a key holds and its version."""
        return await self._state.get(key)

    async def change(
        self, put: Mapping[str, Any], *, expected: Mapping[str, int], delete: Sequence[str], posts: Sequence[Post]
    ) -> None:
        """All of it in one step, or nothing.

        Raises:
            StateConflictError: a key has not the version that was expected.
        """
        publish = [
            Publication(topic=post.topic, data=post.data, type=post.type, headers=post.headers, id=post.id)
            for post in posts
        ]
        await self._state.update(put, expected_version=dict(expected) or None, delete=delete, publish=publish)

    async def page(self, pattern: str, *, after: str | None, limit: int) -> Page:
        """A page of the keys that match a pattern."""
        page = await self._state.page(pattern, after=after, limit=limit)
        return Page([(entry.key, entry.value, entry.version) for entry in page.entries], page.more)


def book_of(agent: Agent, home: str) -> Book:
    """The instances of the workflow whose conversation is `home`, through an agent's connection."""
    return Book(StateStore(agent, home), home)
