"""The part that commands: orders, hears the answers, and tells again those who come back.

A command is on `_hubbub/commands` before it is said to anybody. So a control plane that begins with nothing reads what
was commanded and answered, and goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hubbub import HubbubError, Message, MessageDecodeError, Subscription
from hubbub.cancels import CANCEL
from hubbub.control.orders import ANSWER, COMMAND
from hubbub.subscription import StartOption
from hubbub_control.client import Client
from hubbub_control.refusal import RETRY_SECONDS, Refusal
from hubbub_control.registry import Registry
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import ANSWERS, COMMANDS, cancels_of, check_agent, check_topic, group_of, line_of

from . import routes
from .models import CommandBody
from .trail import Answer, Command, Outcome, Trail

logger = logging.getLogger("hubbub.control")

CANCEL_SECONDS = 3600.0
"""How long it is remembered on the wire that something was called off."""

REASON_CHARS_MAX = 500


class Commands:
    """A `Part`."""

    name = "commands"

    def __init__(self, registry: Registry, kept: int, most: int, clock: Callable[[], float] = time.time) -> None:
        """`kept` commands are known here; one may go to `most` agents."""
        self.trail = Trail(kept)
        self.clock = clock
        self.given = 0
        self._registry = registry
        self._kept = kept
        self._most = most
        self._agent: Client | None = None
        self._known = False
        self._first: float | None = None
        """When the first command that is known was given, by the broker's clock."""
        self._changed = asyncio.Event()
        registry.on_process = self._came

    # At work --------------------------------------------------------------------------------------------------------

    async def run(self, agent: Client) -> None:
        """Hear what was commanded and what is answered."""
        self._known = False
        self.trail = Trail(self._kept)
        self._first = None
        commanded = agent.subscribe(COMMANDS, start={"last": self._kept})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(commanded, self._commanded))
            await _taken_in(commanded)
            # However many answers that is: they began to come when the first of these commands was given.
            first = self._first_given()
            start: StartOption = "new" if first is None else {"since": first}
            answered = agent.subscribe(ANSWERS, start=start)
            tasks.create_task(self._hear(answered, self._answered))
            await _taken_in(answered)
            self._agent = agent
            self._known = True
            try:
                await asyncio.Event().wait()
            finally:
                self._agent = None

    def _first_given(self) -> float | None:
        return self._first

    async def _hear(self, messages: Any, take: Callable[[Message], None]) -> None:
        async for message in messages:
            try:
                take(message)
            except (MessageDecodeError, TypeError, ValueError, KeyError, AttributeError) as error:
                logger.warning("! %r says nothing that is understood: %s", message, error)

    def _commanded(self, message: Message) -> None:
        if message.type == COMMAND:
            self.trail.commanded(_read(message.data))
            if self._first is None:
                self._first = message.ts

    def _answered(self, message: Message) -> None:
        """An agent says what became of a command. Its name is the broker's word, the rest its own."""
        if message.type != ANSWER:
            return
        data = message.data
        reason = str(data.get("reason") or "")[:REASON_CHARS_MAX]
        state = Outcome(data["state"])
        self.trail.answered(str(data["command"]), Answer(message.sender, state, message.ts, reason, data.get("result")))
        self._changed.set()
        self._changed = asyncio.Event()

    def _came(self, agent: str) -> None:
        """A process of an agent is here that was not before: it may not have heard what it could still obey."""
        client = self._agent
        if client is None:
            return
        now = self.clock()
        for command in self.trail.open_for(agent, now):
            task = asyncio.create_task(self._say(client, command, agent), name="hubbub-control-say-again")
            task.add_done_callback(_noted)

    # Commanding -----------------------------------------------------------------------------------------------------

    async def command(self, body: CommandBody, by: str) -> Command:
        """Note a command, and say it to everyone whom it is for. Returns when both are stored.

        Raises:
            Refusal: nobody is meant, too many are, or what goes with it is wrong.
            HubbubError: the broker does not take it.
        """
        client = self._client()
        now = self.clock()
        targets, to = self._cancelled(body) if body.do == "cancel" else self._targets(body)
        command = Command(uuid4().hex, body.do, body.args, by, now, now + body.within, targets, to)
        await client.publish(COMMANDS, _written(command), type=COMMAND, id=command.id)
        self.trail.commanded(command)
        command = self.trail.get(command.id) or command
        self.given += 1
        if body.do == "cancel":
            await self._call_off(client, command)
        else:
            await asyncio.gather(*(self._say(client, command, agent) for agent in targets))
        logger.info("= command %s by %s: %s to %s", command.id, by, command.do, to)
        return command

    async def settled(self, command: Command, seconds: float) -> None:
        """Wait until all have answered, for so many seconds at most, or until its deadline."""
        left = min(seconds, command.deadline - self.clock())
        try:
            async with asyncio.timeout(max(0.0, left)):
                while not command.targets or command.is_open(self.clock()):
                    await self._changed.wait()
        except TimeoutError:
            return

    def _targets(self, body: CommandBody) -> tuple[tuple[str, ...], dict[str, str]]:
        named = {} if body.to is None else body.to.model_dump(exclude_none=True)
        if len(named) != 1:
            raise Refusal(ErrorCode.BAD_REQUEST, "`to` names one of `agent`, `group` and `capability`")
        self._registry.require_known()
        picture = self._registry.picture
        if "agent" in named:
            name = check_agent(named["agent"])
            if picture.get(name) is None:
                raise Refusal(ErrorCode.NOT_FOUND, f"no agent {name!r} is registered")
            return (name,), named
        found = tuple(view.name for view in picture.find(named.get("capability"), named.get("group")))
        if not found:
            raise Refusal(ErrorCode.NOT_FOUND, f"nobody is registered there: {named}")
        if len(found) > self._most:
            raise Refusal(
                ErrorCode.TOO_LARGE,
                f"{len(found)} agents are meant; the limit here (command_agents) is {self._most}",
            )
        return found, named

    def _cancelled(self, body: CommandBody) -> tuple[tuple[str, ...], dict[str, str]]:
        topic, id = body.args.get("topic"), body.args.get("id")
        if body.to is not None or not isinstance(topic, str) or not isinstance(id, str):
            raise Refusal(
                ErrorCode.BAD_REQUEST, "`cancel` has no `to`, and in its `args` the `topic` and the `id` of a message"
            )
        return (), {"topic": check_topic(topic), "id": id}

    async def _call_off(self, client: Client, command: Command) -> None:
        topic = command.to["topic"]
        data = {
            "id": command.to["id"],
            "topic": topic,
            "tree": True,
            "reason": f"by {command.by}: {command.args.get('reason', '')}".rstrip(": "),
            "command": command.id,
        }
        await client.publish(cancels_of(group_of(topic)), data, type=CANCEL, ttl=CANCEL_SECONDS, id=command.id)

    async def _say(self, client: Client, command: Command, agent: str) -> None:
        left = command.deadline - self.clock()
        if left > 0:
            data = {
                "command": command.id,
                "do": command.do,
                "args": command.args,
                "by": command.by,
                "deadline": command.deadline,
            }
            await client.publish(line_of(agent), data, type=COMMAND, ttl=left)

    def _client(self) -> Client:
        self.require_known()
        assert self._agent is not None
        return self._agent

    def require_known(self) -> None:
        """Insist that what was commanded is known.

        Raises:
            Refusal: `overloaded`: the broker could not be asked yet.
        """
        if not self._known or self._agent is None:
            raise Refusal(ErrorCode.OVERLOADED, "what was commanded is not known yet: ask again", RETRY_SECONDS)

    # For the plane --------------------------------------------------------------------------------------------------

    def routes(self) -> APIRouter:
        """Its routes."""
        return routes.routes(self)

    def metrics(self) -> Iterable[Metric]:
        """How much was commanded."""
        now = self.clock()
        yield CounterMetricFamily("hubbub_control_commands", "Commands given here.", self.given)
        open_ones = sum(command.is_open(now) for command in self.trail.newest())
        yield GaugeMetricFamily("hubbub_control_commands_open", "Commands that may be obeyed still.", open_ones)


async def _taken_in(subscription: Subscription) -> None:
    """Wait until another task has taken in what there was before."""
    await subscription.caught_up()
    while subscription.buffered:  # noqa: ASYNC110 - that task takes it in
        await asyncio.sleep(0)


def _noted(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and isinstance(task.exception(), HubbubError):
        logger.warning("! a command could not be said again: %s", task.exception())


def _written(command: Command) -> dict[str, Any]:
    return {
        "id": command.id,
        "do": command.do,
        "args": command.args,
        "by": command.by,
        "at": command.at,
        "deadline": command.deadline,
        "targets": command.targets,
        "to": command.to,
    }


def _read(data: Any) -> Command:
    return Command(
        str(data["id"]),
        str(data["do"]),
        dict(data["args"]),
        str(data["by"]),
        float(data["at"]),
        float(data["deadline"]),
        tuple(map(str, data["targets"])),
        {str(key): str(value) for key, value in data["to"].items()},
    )
