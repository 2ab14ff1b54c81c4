"""What the broker is to say for an agent that dropped."""

from dataclasses import dataclass
from typing import Any

from hubbub_protocol import names
from hubbub_protocol.frames import Will as Frame

from .composer import encoded
from .naming import checked

DELAY_MAX = 3600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Will:
    """A last will: a message that the broker publishes in the agent's name when its connection is lost.

        Agent("joe", will=Will("research/status", {"joe": "gone"}, delay=5))

    It is not said if the agent closes, or is back within `delay` seconds. It is with the broker, in memory: one whose
    broker crashes before it was said is not said.
    """

    topic: str
    """Where: GROUP/CONVERSATION."""
    data: Any = None
    """Any JSON value."""
    delay: float = 10.0
    """Seconds that the agent has to come back; up to 3600."""
    type: str | None = None
    """The message's type; default `will`."""
    ephemeral: bool = False
    """Whether it is for those who listen then only."""

    def __post_init__(self) -> None:
        """Raises:
        InvalidName, ValueError, Unencodable: it can't be said as it is.
        """
        checked(names.check_topic, self.topic)
        if not 0 <= self.delay <= DELAY_MAX:
            raise ValueError(f"delay is {self.delay}: 0 to {DELAY_MAX:.0f} seconds")
        encoded(self.data)

    def frame(self) -> Frame:
        """As it goes on the wire."""
        return Frame(
            topic=self.topic, data=encoded(self.data), type=self.type, ephemeral=self.ephemeral, delay=self.delay
        )
