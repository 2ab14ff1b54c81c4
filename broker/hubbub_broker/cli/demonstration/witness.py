"""What one agent was handed in one conversation: the raw record that counts are made from."""

from typing import TypedDict


class Statement(TypedDict):
    """A record as it is written down: the messages in the order in which the handler got them."""

    agent: str
    topic: str
    seqs: list[int]
    ids: list[str]


class Claims(TypedDict):
    """What one agent published in one conversation, in this order: the seq of each receipt, 0 where none came."""

    agent: str
    topic: str
    ids: list[str]
    seqs: list[int]


class Witness:
    """Writes down each message that is handed over, and counts at once what is out of line.

    `odd` is for the display while the job runs. The verdict comes from the record (see `audit`).
    """

    __slots__ = ("_ids", "_next", "_seqs", "agent", "odd", "topic")

    def __init__(self, agent: str, topic: str) -> None:
        self.agent = agent
        self.topic = topic
        self.odd = 0
        """How often the next message was not the one that follows."""
        self._next = 1
        self._seqs: list[int] = []
        self._ids: list[str] = []

    def see(self, seq: int | None, id: str) -> None:
        """A message was handed over. One without a seq counts as number 0, which no message has."""
        seq = seq or 0
        self._seqs.append(seq)
        self._ids.append(id)
        if seq != self._next:
            self.odd += 1
        self._next = seq + 1

    def __len__(self) -> int:
        return len(self._seqs)

    def statement(self) -> Statement:
        """The record."""
        return {"agent": self.agent, "topic": self.topic, "seqs": self._seqs, "ids": self._ids}
