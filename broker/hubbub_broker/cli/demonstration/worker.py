"""A process full of agents: `python -m hubbub_broker.cli.demonstration.worker ASSIGNMENT RESULT`.

It says on stdout, in JSON lines, what it has done; it does what stdin says; and it ends when stdin does, so that it
never outlives the process that started it.

    -> {"event": "ready"}       every agent is online and subscribed
    <- start                    the synthesizers open their conversations
    -> {"event": "progress", …} from then on, several times a second
    <- finish                   the agents leave; what they counted is in the file RESULT, and samples beside it
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubbub import Agent, Backoff, HubbubError

from .assignment import EDITOR, Assignment, Result, samples_beside
from .chair import Chair
from .member import Editor, Member, Pace, Researcher
from .plan import Conversation, conversation_of
from .roles import Analyst
from .tally import Tally

PROGRESS_SECONDS = 0.25
DRAIN_SECONDS = 10.0
RETRY_SECONDS_MAX = 2.0
"""Longest delay before an agent tries to reach the broker again."""


class Team:
    """The agents of this process."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._random = random.Random(assignment.seed)
        self._conversations = [conversation_of(fields) for fields in assignment.conversations]
        self._tally = Tally()
        self._agents: list[Agent] = []
        self._members: list[Member] = []
        self._chairs: list[Chair] = []
        self._editor: Editor | None = None
        self._parts: list[asyncio.Task[None]] = []

    async def gather(self) -> None:
        """Bring every agent online and into its conversation."""
        for conversation in self._conversations:
            self._invite(conversation)
        if self._assignment.edits:
            self._editor = Editor(self._agent(EDITOR), self._tally)
        await _all(agent.open() for agent in self._agents)
        await _all(member.join() for member in self._everyone)
        self._parts = [asyncio.create_task(member.take_part()) for member in self._everyone]
        for part in self._parts:
            part.add_done_callback(_complain)

    async def begin(self) -> None:
        """Open every conversation."""
        for chair in self._chairs:
            await chair.begin()

    async def disperse(self) -> Result:
        """Leave every conversation, and say what was counted."""
        await _all(member.leave() for member in self._everyone)
        await _all(self._parts)
        stages = {chair.topic: await _history(chair) for chair in self._chairs}
        await _all(_close(agent) for agent in self._agents)
        edited = self._editor.statements() if self._editor else []
        return {
            "statements": [member.statement() for member in self._members] + edited,
            "claims": [member.claims() for member in self._members],
            "sections": self._editor.sections if self._editor else {},
            "stages": stages,
            "repeated": self._tally.repeated,
            "online_at": self._tally.online_at,
            "stats": _sum_of(agent.stats.as_dict() for agent in self._agents),
        }

    def progress(self) -> dict[str, Any]:
        """The counts so far."""
        reconnects = sum(agent.stats.reconnects for agent in self._agents)
        odd = sum(member.witness.odd for member in self._members) + (self._editor.odd if self._editor else 0)
        return asdict(self._tally.progress(reconnects, odd))

    def write(self, figures: Result, path: Path) -> None:
        """Write down what was counted, and the latencies beside it."""
        path.write_text(json.dumps(figures), encoding="utf-8")
        with samples_beside(path).open("wb") as file:
            self._tally.samples.tofile(file)

    @property
    def _everyone(self) -> list[Member | Editor]:
        return [*self._members, *([self._editor] if self._editor else [])]

    def _invite(self, conversation: Conversation) -> None:
        interval = self._assignment.interval
        for number, name in enumerate(conversation.researchers):
            pace = Pace(
                folder=Path(self._assignment.folder),
                first=number,
                of=len(conversation.researchers),
                interval=interval,
                delay=self._random.uniform(0.0, interval),
            )
            self._members.append(Researcher(self._agent(name), conversation.topic, pace, self._tally))
        for name in conversation.analysts:
            analyst = Analyst(conversation.researchers_of(name))
            self._members.append(Member(self._agent(name), conversation.topic, analyst, self._tally))
        chair = Chair(self._agent(conversation.synthesizer), conversation, self._tally)
        self._members.append(chair)
        self._chairs.append(chair)

    def _agent(self, name: str) -> Agent:
        # Not `local`: what counts is what the broker delivered. The cap suits a broker that is never away for long.
        agent = Agent(name, url=self._assignment.url, local=False, backoff=Backoff(cap=RETRY_SECONDS_MAX))
        agent.on_state(self._tally.changed_state)
        self._agents.append(agent)
        return agent


async def work(assignment: Assignment, result: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Do what stdin says, to the end."""
    team = Team(assignment)
    orders = _orders()
    ended = asyncio.create_task(_next(orders))
    gathering = asyncio.create_task(team.gather())
    await asyncio.wait((gathering, ended), return_when=asyncio.FIRST_COMPLETED)
    if not gathering.done():
        return  # whoever started this is gone
    await gathering
    say({"event": "progress", **team.progress()})
    say({"event": "ready"})
    if await ended != "start":
        return
    reporter = asyncio.create_task(_report(team, say))
    await team.begin()
    if await _next(orders) != "finish":
        return
    reporter.cancel()
    figures = await team.disperse()
    say({"event": "progress", **team.progress()})
    team.write(figures, result)
    say({"event": "done"})


def main(arguments: list[str]) -> None:
    """Run one assignment in this process."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    assignment = Assignment(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work(assignment, Path(arguments[1]), _say))


async def _report(team: Team, say: Callable[[dict[str, Any]], None]) -> None:
    while True:
        say({"event": "progress", **team.progress()})
        await asyncio.sleep(PROGRESS_SECONDS)


async def _orders() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


async def _next(orders: AsyncIterator[str]) -> str:
    """The next order; nothing, when there will be none."""
    return await anext(orders, "")


async def _all(awaitables: Iterable[Coroutine[Any, Any, None] | asyncio.Task[None]]) -> None:
    await asyncio.gather(*awaitables)


async def _history(chair: Chair) -> list[dict[str, Any]]:
    """What the workflow of a conversation went through; nothing, if that can't be known."""
    try:
        await chair.led()
        return await chair.history()
    except HubbubError as error:  # the count shows it, as a workflow that went astray
        logging.getLogger(__name__).warning("%s: %s", chair.topic, error)
        return []


async def _close(agent: Agent) -> None:
    try:
        await agent.close(drain=DRAIN_SECONDS)
    except HubbubError as error:  # the count shows it, as publishes without a receipt
        logging.getLogger(__name__).warning("%s: %s", agent.name, error)


def _complain(part: asyncio.Task[None]) -> None:
    if not part.cancelled() and (error := part.exception()) is not None:
        logging.getLogger(__name__).error("an agent stopped listening", exc_info=error)


def _sum_of(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    return total


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    main(sys.argv[1:])
