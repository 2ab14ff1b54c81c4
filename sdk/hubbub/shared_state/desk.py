"""What the shared states of one agent have in common: the way to the broker, ids, randomness."""

import random
from collections.abc import Callable
from itertools import count
from typing import Any

from hubbub.asks import Asks
from hubbub.chain import caused
from hubbub.naming import Naming, checked
from hubbub.subscription import Subscriber
from hubbub_protocol import names
from hubbub_protocol.frames import With

from .client import StateClient, to_with
from .entry import Publication

Noted = Callable[[str, str, dict[str, Any] | None], None]
"""Called with the topic, the id and the headers of each message of a change: it may be called off with its cause."""


class StateDesk:
    """One agent's."""

    def __init__(
        self,
        agent: str,
        session: str,
        asks: Asks,
        subscriber: Subscriber,
        naming: Naming,
        lamport: Callable[[], int],
        source: random.Random,
        noted: Noted,
    ) -> None:
        self.agent = agent
        self.session = session
        self.subscriber = subscriber
        self.source = source
        self.lamport = lamport
        """The largest Lamport timestamp that the agent has seen."""
        self._asks = asks
        self._naming = naming
        self._noted = noted
        self._count = count(1)

    def client(self, name: str) -> StateClient:
        """The way to the state of a conversation or group.

        Raises:
            InvalidName: it is none.
        """
        return StateClient(self._asks, name, checked(names.state_of, name))

    def new_id(self) -> str:
        """An id that no other change or message of this agent has."""
        return f"{self.session}.state.{next(self._count)}"

    def compose(self, publication: Publication) -> With:
        """A message of a change.

        Raises:
            InvalidName, Unencodable: it can't be sent as it is.
        """
        topic = self._naming.topic(publication.topic)
        message = to_with(publication, caused(publication.headers, topic), topic, self.new_id())
        self._noted(topic, message.id, publication.headers)
        return message
