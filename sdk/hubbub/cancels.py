"""Work that is called off: questions whose asker gave up, and tasks with everything that grew from them.

On `GROUP/_cancel` somebody says `{"id": ID, "topic": TOPIC}`, with type `cancel`. It counts only if it comes from that
message's own sender, or from the control plane.

A question that is given up is called off by an ephemeral message, best effort: whoever is at work on it stops.

With `"tree": true` it is a task, and stored, so that whoever is away hears it later. Whoever is at work on it stops;
whoever gets it later drops it (for `REMEMBERED_SECONDS`); and whoever published messages while a handler of its own was
at work on it calls those off in turn, also when that handler has ended long since. So the cancelling goes down the tree
by the same agents by which the tree grew, and each of them answers for what it published. `"wave"` names the cancelling
that it goes back to: whoever hears of the same one twice passes it on once, and whoever cancels again, because
something was not reached, makes a new one that goes all the way.

What a handler says with `hops` 0 begins something new, and is no part of the tree.
"""

import asyncio
import contextlib
import contextvars
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol, Unpack

from hubbub_protocol import names
from hubbub_protocol.frames import From

from .caused import Cause, Caused, Child
from .control.lines import Lines
from .errors import HubbubError, MessageDecodeError
from .message import MessageView, PublishOptions, Receipt
from .recent import Recent
from .stopping import cancel_and_wait
from .subscription import Subscription

logger = logging.getLogger("hubbub")

CANCEL = "cancel"
"""The `type` of the message."""

GROUPS_MAX = 1_000
"""Groups in which an agent listens."""

REMEMBERED_MAX = 10_000
REMEMBERED_SECONDS = 3600.0
"""How much of what was called off before it began, and for how long; also for how long who caused what."""

CAUSED_MAX = 100_000
"""Messages that are remembered with what caused them, unless the agent was made with another `caused_max`."""

AT_ONCE = 100
"""Messages that are called off at a time."""

WARN_SECONDS = 60.0
"""Between two warnings that not all is remembered."""

CAUGHT_UP_SECONDS = 5.0
"""How long the first message of a group waits for what was called off there before."""

REASON_CHARS_MAX = 200

Question = Cause
"""Topic, sender and id."""


class Cancelled(NamedTuple):
    """Why something was called off."""

    tree: bool
    """Whether everything that grew from it is, too."""
    reason: str = ""
    command: str | None = None
    """The command that it goes back to, if it is one."""
    wave: str | None = None
    """Which cancelling it is; None: a new one."""


class Effect(NamedTuple):
    """What calling something off did here."""

    stopped: int
    """Handlers that were at work on it."""
    passed_on: int
    """Messages that it had caused here, and that were called off in turn."""
    unreached: int = 0
    """Messages that it had caused here, and that were not: they are not known any more, or the broker refused it."""
    reason: str = ""
    """Why these were not."""


class Listening(Protocol):
    """What this needs of its agent."""

    def subscribe(self, topic: str, /) -> Subscription:
        """Subscribe to what is new."""
        ...

    async def publish(self, topic: str, data: Any, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Publish."""
        ...


class Cancels:
    """What an agent's handlers are at work on, as far as it can be called off."""

    def __init__(self, agent: Listening, lines: Lines | None, caused_max: int = CAUSED_MAX) -> None:
        """Without `lines` only questions can be: the agent is under no control plane."""
        self._agent = agent
        self._taps = lines
        self._serving: dict[Question, list[Callable[[], object]]] = {}
        self._called_off = Recent(REMEMBERED_MAX, REMEMBERED_SECONDS)
        self._reasons: OrderedDict[Question, Cancelled] = OrderedDict()
        self._waves = Recent(REMEMBERED_MAX, REMEMBERED_SECONDS)
        """What was passed on, by question and wave."""
        self._caused_max = caused_max
        self._caused = Caused(caused_max, REMEMBERED_SECONDS, self._lost)
        self._not_remembered = 0
        self._warned = float("-inf")
        self._lines: dict[str, tuple[Subscription, asyncio.Task[None]]] = {}
        self._groups: dict[str, asyncio.Event] = {}
        self._passing_on: set[asyncio.Task[Any]] = set()
        self._context = contextvars.Context()  # what is called off here was caused by nobody's message
        self.on_effect: Callable[[str, Effect], None] = _nothing
        """Called when a command has called something off here: its id, and what that did."""

    @property
    def all_tasks(self) -> bool:
        """Whether every message can be called off, and not only questions."""
        return self._taps is not None

    def came(self, message: MessageView) -> None:
        """A message for a handler is here: hear whether it is called off."""
        if self._taps is None and message.reply_to is None:
            return
        group = names.group_of(message.topic)
        if group not in self._groups and group not in self._lines:
            self.listen(group)

    def listen(self, group: str) -> None:
        """Hear what is called off in a group."""
        if len(self._lines) + len(self._groups) >= GROUPS_MAX:
            self._warn(f"what is called off in {group} is not heard: {GROUPS_MAX} groups are")
            return
        topic = names.cancels_of(group)
        if self._taps is not None:
            since = From(since=max(0.0, time.time() - REMEMBERED_SECONDS))
            line = self._taps.add(topic, self._take, since)
            self._groups[group] = line.live
            return
        with contextlib.suppress(HubbubError):  # the agent is closing
            subscription = self._agent.subscribe(topic)
            task = asyncio.create_task(self._listen(subscription), name=f"hubbub-cancels-{group}")
            self._lines[group] = (subscription, task)

    def is_caught_up(self, message: MessageView) -> bool:
        """Whether what was called off in the message's group before is known."""
        heard = self._groups.get(names.group_of(message.topic))
        return heard is None or heard.is_set()

    async def caught_up(self, message: MessageView) -> None:
        """Wait until that is so; for a bounded time, once."""
        heard = self._groups.get(names.group_of(message.topic))
        if heard is not None and not heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CAUGHT_UP_SECONDS):
                    await heard.wait()
            heard.set()

    def is_off(self, message: MessageView) -> bool:
        """Whether it was called off."""
        question = _question(message)
        return question in self._called_off or _anybodys(question) in self._called_off

    def why(self, message: MessageView) -> Cancelled | None:
        """Why it, as a task, was called off; None if it was not, or was a question."""
        question = _question(message)
        why = self._reasons.get(question) or self._reasons.get(_anybodys(question))
        return why if why is not None and why.tree else None

    def begin(self, message: MessageView, stop: Callable[[], object]) -> None:
        """A handler begins with it: `stop` is called when it is called off."""
        self._serving.setdefault(_question(message), []).append(stop)

    def end(self, message: MessageView, stop: Callable[[], object]) -> None:
        """The handler has ended."""
        question = _question(message)
        stops = self._serving.get(question, [])
        if stop in stops:
            stops.remove(stop)
        if not stops:
            self._serving.pop(question, None)

    def published(self, cause: MessageView, topic: str, id: str) -> None:
        """While a handler was at work on `cause`, it published this. If the cause was called off, that is, too."""
        if self._taps is None:
            return
        self.came(cause)  # it may be another agent's handler that published with this one
        self._caused.note(_question(cause), (topic, id), time.monotonic())
        why = self.why(cause)
        if why is not None:
            self._spawn(self._call_off_children([(topic, id)], why))

    def _lost(self, cause: Cause) -> None:
        self._not_remembered += 1
        self._warn(
            f"{self._not_remembered} message(s) would not be called off with what caused them, such as what {cause[2]} "
            f"on {cause[0]} did: the limit here (caused_max) is {self._caused_max}"
        )

    def _warn(self, text: str) -> None:
        now = time.monotonic()
        if now - self._warned >= WARN_SECONDS:
            self._warned = now
            logger.warning("! %s", text)

    async def cancel(self, topic: str, id: str, why: Cancelled) -> None:
        """Call off a message of this agent's own, and what grew from it. Returns when that is stored."""
        await self._publish(topic, id, why)

    async def close(self) -> None:
        """Listen no more."""
        for subscription, task in self._lines.values():
            await subscription.close()
            await cancel_and_wait(task)
        self._lines.clear()
        if self._passing_on:
            await asyncio.wait(self._passing_on, timeout=1.0)
        for task in self._passing_on:
            task.cancel()

    async def _listen(self, subscription: Subscription) -> None:
        with contextlib.suppress(HubbubError):
            async for message in subscription:
                self._take(message)

    def _take(self, message: MessageView) -> None:
        if message.type != CANCEL:
            return
        try:
            data = message.data
        except MessageDecodeError as error:
            logger.warning("! %s", error)
            return
        topic, id = (data.get("topic"), data.get("id")) if isinstance(data, dict) else (None, None)
        if not (isinstance(topic, str) and isinstance(id, str)):
            logger.warning("! %r calls nothing off: topic and id are to be texts", message)
            return
        sender = "" if message.sender == names.CONTROL_AGENT else message.sender
        tree = data.get("tree") is True and self._taps is not None
        reason, command, wave = data.get("reason"), data.get("command"), data.get("wave")
        why = Cancelled(
            tree,
            reason[:REASON_CHARS_MAX] if isinstance(reason, str) else "",
            command if isinstance(command, str) else None,
            wave if isinstance(wave, str) else message.id,
        )
        self._call_off((topic, sender, id), why)

    def _call_off(self, question: Question, why: Cancelled) -> None:
        now = time.monotonic()
        self._called_off.age(now)
        self._waves.age(now)
        self._called_off.add(question)
        if why.tree:
            if not self._waves.add((question, why.wave)):
                return  # it came another way, and was passed on
            self._reasons[question] = why
            while len(self._reasons) > REMEMBERED_MAX:
                self._reasons.popitem(last=False)
        stopped = 0
        for serving in self._matching(question, self._serving):
            for stop in self._serving.pop(serving):
                stop()
                stopped += 1
        if not why.tree:
            return
        known = [(cause, self._caused.of(cause)) for cause in self._matching(question, self._caused)]
        children = [child for _, each in known for child in each.children]
        lost = sum(each.lost for _, each in known)
        if stopped or children or lost:
            self._spawn(self._pass_on(question, children, lost, stopped, why))

    def _matching(
        self, question: Question, among: "dict[Question, list[Callable[[], object]]] | Caused"
    ) -> list[Question]:
        """The question itself, or whoever's it is when that is not said."""
        topic, sender, id = question
        if sender:
            return [question] if question in among else []
        return [other for other in among if other[0] == topic and other[2] == id]

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._context.run(asyncio.create_task, work, name="hubbub-pass-on-cancel")
        self._passing_on.add(task)
        task.add_done_callback(self._passing_on.discard)

    async def _pass_on(
        self, question: Question, children: list[Child], lost: int, stopped: int, why: Cancelled
    ) -> None:
        """Call off what was caused, and tell what all of it did."""
        failed = await self._call_off_children(children, why)
        reasons = []
        if lost:
            reasons.append(
                f"{lost} children of {question[2]} are not known: the limit (caused_max) is {self._caused_max}"
            )
        if failed:
            reasons.append(
                f"{len(failed)} children of {question[2]} could not be called off: {failed[0]}; cancel again"
            )
        if lost:
            logger.warning("! %s", reasons[0])
        if why.command is not None:
            effect = Effect(stopped, len(children) - len(failed), lost + len(failed), "; ".join(reasons))
            self.on_effect(why.command, effect)

    async def _call_off_children(self, children: list[Child], why: Cancelled) -> list[HubbubError]:
        """What went wrong."""
        failed: list[HubbubError] = []
        for begin in range(0, len(children), AT_ONCE):
            some = children[begin : begin + AT_ONCE]
            found = await asyncio.gather(*(self._publish(*child, why) for child in some), return_exceptions=True)
            for child, error in zip(some, found, strict=True):
                if isinstance(error, HubbubError):
                    failed.append(error)
                    logger.warning("! %s on %s could not be called off: %s", child[1], child[0], error)
                elif error is not None:
                    raise error
        return failed

    async def _publish(self, topic: str, id: str, why: Cancelled) -> None:
        data: dict[str, Any] = {"id": id, "topic": topic, "tree": True, "reason": why.reason}
        if why.command is not None:
            data["command"] = why.command
        if why.wave is not None:
            data["wave"] = why.wave
        await self._agent.publish(
            names.cancels_of(names.group_of(topic)), data, type=CANCEL, ttl=REMEMBERED_SECONDS, headers={"hops": 0}
        )


def _question(message: MessageView) -> Question:
    return message.topic, message.sender, message.id


def _anybodys(question: Question) -> Question:
    """The same, from whomever: as the control plane calls it off."""
    return question[0], "", question[2]


def _nothing(_command: str, _effect: Effect) -> None:
    pass
