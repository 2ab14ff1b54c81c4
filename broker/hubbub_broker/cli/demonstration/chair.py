"""A synthesizer, who also leads its conversation through the stages of the workflow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hubbub.workflows import Flow

from .member import Member
from .plan import Conversation
from .roles import Heard, Synthesizer
from .stages import READING, instance_of
from .tally import Tally

if TYPE_CHECKING:
    from hubbub import Agent


class Chair(Member):
    """Opens its conversation, hears when a stage is over, and says so."""

    def __init__(self, agent: Agent, conversation: Conversation, tally: Tally) -> None:
        role = Synthesizer(conversation.task["title"], frozenset(conversation.analysts))
        super().__init__(agent, conversation.topic, role, tally)
        self._conversation = conversation
        self._flow = Flow(agent, READING, group=conversation.topic.partition("/")[0])
        self._id = instance_of(conversation.topic)
        self._researching = set(conversation.researchers)
        self._analysing = set(conversation.analysts)
        self._over: asyncio.Queue[str | None] = asyncio.Queue()
        self._leading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Open the conversation."""
        self._leading = asyncio.create_task(self._lead(), name=f"lead-{self._id}")
        await self.say("task", self._conversation.task)

    async def react(self, heard: Heard) -> None:
        """Answer as a synthesizer, and notice what is over."""
        await super().react(heard)
        if heard.kind == "done" and self._researching:
            self._researching.discard(heard.sender)
            if not self._researching:
                self._over.put_nowait("researched")
        elif heard.kind == "analysis" and heard.data["last"] and self._analysing:
            self._analysing.discard(heard.sender)
            if not self._analysing:
                self._over.put_nowait("analysed")
        elif heard.kind == "section":
            self._over.put_nowait("written")

    async def history(self) -> list[dict[str, Any]]:
        """Every change of the instance, as the log has it."""
        return [
            {"n": change.n, "source": change.source, "target": change.target, "cause": change.cause}
            for change in await self._flow.history(self._id)
        ]

    async def led(self) -> None:
        """Wait until the workflow has heard all that is over: nothing more will be."""
        if self._leading is not None:
            self._over.put_nowait(None)
            await self._leading

    async def _lead(self) -> None:
        await self._flow.start(self._id, {"title": self._conversation.task["title"]})
        while (over := await self._over.get()) is not None:
            await self._flow.tell(self._id, over)
