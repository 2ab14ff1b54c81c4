"""What the bus asks before it takes a message."""

from typing import Protocol

from hubbub_protocol.frames import Pub


class Limits(Protocol):
    """The limits that are the same at every door. Each raises Refusal."""

    def admit(self, agent: str, pub: Pub) -> None:
        """Check one publish."""

    def admit_broadcast(self, agent: str, pub: Pub, now: float) -> Pub:
        """Count a message to all; what its copies are made of."""
