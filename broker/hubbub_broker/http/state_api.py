"""What the routes of shared states need of a broker."""

from collections.abc import Callable
from typing import Protocol

from hubbub_broker.access import Operation
from hubbub_broker.config import Settings
from hubbub_protocol.frames import Change, Err, Ok, State

Require = Callable[[Operation, str], None]
"""Insists that the caller may do that: raises `Refused` if not."""


class StateApi(Protocol):
    """A broker's states. Every method may raise `Refused`; `BadName` for what is no name."""

    settings: Settings

    async def read(self, request: State) -> Ok | Err:
        """What keys hold, once that is on stable storage."""

    async def change(self, agent: str, change: Change, require: Require) -> Ok | Err:
        """Make a change that the caller may make; `err` if it is not as expected."""
