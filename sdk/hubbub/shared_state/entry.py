"""What a shared state holds, as agents see it."""

from dataclasses import dataclass
from typing import Any, NamedTuple


class StateValue(NamedTuple):
    """What a key holds, and its version; `(None, 0)` when it is not there."""

    value: Any
    version: int


@dataclass(frozen=True, slots=True)
class StateEntry:
    """A key, as a watch tells of it. `value` is any JSON value; where `deleted`, it is None, and `version` that of the
    change that removed it.
    """

    key: str
    value: Any
    version: int
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """A message that is published in the same step as a change of a state: with it or not at all."""

    topic: str
    """Of the state's group; without a group, of the agent's own."""
    data: Any
    type: str | None = None
    headers: dict[str, Any] | None = None
    parent: str | None = None
    reply_to: str | None = None
    ttl: float | None = None
    id: str | None = None
    """Its id; default: one of its own. One that was published before is not published again."""
    track: bool = False
