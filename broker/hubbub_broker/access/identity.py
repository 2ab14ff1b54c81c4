"""Who somebody is, as far as the broker is concerned: what a credential turned out to stand for."""

from dataclasses import dataclass
from enum import StrEnum

from hubbub_protocol.names import CONTROL_AGENT


class KnownBy(StrEnum):
    """How the broker came to know somebody."""

    WORD = "word"
    """By its own word: authentication is off."""
    BUS_TOKEN = "bus_token"  # noqa: S105 - the name of a kind, no credential
    """By the shared token of the bus."""
    TOKEN = "token"  # noqa: S105 - likewise
    """By a signed token of its own."""
    SELF = "self"
    """It is of the broker's own process."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody. Holds no credential, so that it may be logged and shown."""

    known_by: KnownBy
    name: str | None = None
    """The agent's name; None: any that it says."""
    groups: tuple[str, ...] = ()
    """The groups that it belongs to: it may send to the inboxes there. In the first one it is registered."""
    publish: tuple[str, ...] = ()
    """Topics and patterns that it may publish to."""
    subscribe: tuple[str, ...] = ()
    """Topics and patterns that it may read."""
    metrics: bool = False
    """Whether it may read the metrics."""
    admin: bool = False
    """Whether it is an operator: may do everything, except speak as another."""
    expires: float | None = None
    """When this ends, in seconds since the epoch; None: never."""
    key: str = ""
    """Which key vouches for it: its fingerprint, so that the key's end can be the identity's."""

    @property
    def trusted(self) -> bool:
        """Whether all data are open to it: it may say any name, so that rules by name would keep nothing from it."""
        return self.known_by is not KnownBy.TOKEN

    def same_rights(self, other: "Identity") -> bool:
        """Whether the other may do exactly the same, under the same name. Expiry and key do not matter."""
        return _rights(self) == _rights(other)


def _rights(identity: Identity) -> tuple[object, ...]:
    return (
        identity.known_by,
        identity.name,
        identity.groups,
        identity.publish,
        identity.subscribe,
        identity.metrics,
        identity.admin,
    )


CONTROL = Identity(KnownBy.SELF, name=CONTROL_AGENT, metrics=True, admin=True)
"""The control plane that runs inside the broker's process."""

OPEN = Identity(KnownBy.WORD, metrics=True, admin=True)
"""Everybody, while authentication is off."""
