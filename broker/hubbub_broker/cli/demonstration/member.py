"""An agent in its conversation: it writes down all that it hears, and answers as its role says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .clock import now
from .contents import KINDS, Kind, Section, Task
from .corpus import read_piece
from .plan import pieces_of
from .research import research
from .roles import Heard, Role
from .tally import Tally
from .witness import Claims, Statement, Witness

if TYPE_CHECKING:
    from hubbub import Agent, Message, Receipt, Subscription

logger = logging.getLogger(__name__)


class Member:
    """Someone who hears a conversation from its beginning, and takes part in it."""

    def __init__(self, agent: Agent, topic: str, role: Role | None, tally: Tally) -> None:
        self.witness = Witness(agent.name, topic)
        self._topic = agent.topic(topic)
        self._agent = agent
        self._role = role
        self._tally = tally
        self._ids: list[str] = []
        self._receipts: list[asyncio.Future[Receipt]] = []
        self._subscription: Subscription

    @property
    def topic(self) -> str:
        """The conversation."""
        return self._topic.name

    async def join(self) -> None:
        """Subscribe. Returns when the broker has taken it."""
        self._subscription = self._topic.subscribe(start="all")
        await self._subscription.ready()

    async def take_part(self) -> None:
        """Hear, write down and answer, until the subscription is closed."""
        async for message in self._subscription:
            data = message.data
            self._tally.handled(data["at"])
            self.witness.see(message.seq, message.id)
            await self.react(Heard(message.type or "", message.id, message.sender, data))

    async def react(self, heard: Heard) -> None:
        """Answer a message as the role says."""
        if self._role is not None:
            for post in self._role.hear(heard):
                await self.say(post.kind, post.data, post.parent)

    async def say(self, kind: Kind, data: Mapping[str, Any], parent: str | None = None) -> None:
        """Publish, without waiting for the receipt: the agent goes on while the broker is away."""
        id = f"{self._agent.name}.{len(self._ids) + 1}"
        receipt = await self._topic.submit({"at": now(), **data}, id=id, type=kind, parent=parent)
        self._ids.append(id)
        self._receipts.append(receipt)
        self._tally.sent(receipt)

    async def leave(self) -> None:
        """End the subscription; what was read ahead is still handled."""
        await self._subscription.close()

    def statement(self) -> Statement:
        """What it heard."""
        return self.witness.statement()

    def claims(self) -> Claims:
        """What it published, with the receipts."""
        return {
            "agent": self._agent.name,
            "topic": self._topic.name,
            "ids": self._ids,
            "seqs": [_seq_of(receipt) for receipt in self._receipts],
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """How a researcher reads: every `of`-th piece from number `first`, one each `interval` seconds after `delay`."""

    folder: Path
    first: int
    of: int
    interval: float
    delay: float


class Researcher(Member):
    """A member that reads its share of the text as soon as it hears the task."""

    def __init__(self, agent: Agent, topic: str, pace: Pace, tally: Tally) -> None:
        super().__init__(agent, topic, None, tally)
        self._pace = pace
        self._reading: asyncio.Task[None] | None = None

    async def react(self, heard: Heard) -> None:
        """Begin with the task; nothing else is for a researcher."""
        if heard.kind == "task" and self._reading is None:
            self._reading = asyncio.create_task(self._read(cast(Task, heard.data), heard.id))

    async def leave(self) -> None:
        """Stop reading, too."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await super().leave()

    async def _read(self, task: Task, parent: str) -> None:
        due = now() + self._pace.delay
        read = 0
        for file, start, end in islice(pieces_of(task), self._pace.first, None, self._pace.of):
            await asyncio.sleep(max(0.0, due - now()))
            due += self._pace.interval
            await self.say("finding", research(file, start, self._text(file, start, end)), parent)
            read += 1
        await self.say("done", {"pieces": read}, parent)

    def _text(self, file: str, start: int, end: int) -> str:
        # In the event loop: a few hundred bytes from the page cache take less time than handing them to a thread.
        try:
            return read_piece(self._pace.folder / file, start, end)
        except OSError as error:
            logger.warning("%s can't be read any more (%s); its piece counts as empty", file, error.strerror)
            return ""


class Editor:
    """Hears every conversation through one pattern, and keeps the sections for the report."""

    def __init__(self, agent: Agent, tally: Tally) -> None:
        self.sections: dict[str, Section] = {}
        self._agent = agent
        self._tally = tally
        self._witnesses: dict[str, Witness] = {}
        self._subscription: Subscription

    async def join(self) -> None:
        """Subscribe to all conversations."""
        # Other things are said on such topics too: agents tell the control plane how they are, say.
        self._subscription = self._agent.subscribe("*/*", start="all", where={"type": {"in": list(KINDS)}})
        await self._subscription.ready()

    async def take_part(self) -> None:
        """Hear and write down, until the subscription is closed."""
        async for message in self._subscription:
            self._take(message)

    async def leave(self) -> None:
        """End the subscription."""
        await self._subscription.close()

    @property
    def odd(self) -> int:
        """Messages that were not the next of their conversation."""
        return sum(witness.odd for witness in self._witnesses.values())

    def statements(self) -> list[Statement]:
        """What it heard, by conversation."""
        return [witness.statement() for witness in self._witnesses.values()]

    def _take(self, message: Message) -> None:
        data = message.data
        self._tally.handled(data["at"])
        witness = self._witnesses.get(message.topic)
        if witness is None:
            witness = self._witnesses[message.topic] = Witness(self._agent.name, message.topic)
        witness.see(message.seq, message.id)
        if message.type == "section":
            self.sections[message.topic] = cast(Section, data)
            self._tally.sections = len(self.sections)


def _seq_of(receipt: asyncio.Future[Receipt]) -> int:
    """The seq that a receipt gave; 0 if it never came."""
    if not receipt.done() or receipt.cancelled() or receipt.exception() is not None:
        return 0
    return receipt.result().seq or 0
