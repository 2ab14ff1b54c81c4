"""What led to a message: its ancestors, the thread that it is in, and so much of its history as there is room for.

Within a topic `parent` says it, and the broker finds the line of parents in one step. From one topic to another it is
the header `cause`, which the SDK fills in for what is published in a handler, and for answers to questions.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

from hubbub_protocol import causal, codec
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Get

from . import policy
from .asks import Asks
from .errors import Forbidden, NotFound
from .history import up_to_head
from .message import Message, Publisher
from .subscription import StartOption, Subscription
from .wants import Select, Where

ANSWER_SECONDS = 30.0
"""How long a look-up may take, outages included."""

ASKED_AT_ONCE = 32
"""Ancestors that are asked for in one step. The broker may give fewer, and is asked again."""

BYTES_A_TOKEN = 4
"""What counts as a token where nobody says how to count: about right for English text and JSON."""

Counter = Callable[[Message], int]
"""How many tokens (or whatever the budget is in) a message takes."""


class Reader(Publisher, Protocol):
    """What this needs of its agent."""

    def subscribe(
        self, topic: str, /, start: StartOption = "new", *, where: Where | None = None, select: Select | None = None
    ) -> Subscription:
        """Subscribe."""
        ...


@dataclass(slots=True)
class Context:
    """A message and what led to it, newest first, as far as the budget went."""

    messages: list[Message] = field(default_factory=list)
    used: int = 0
    """Of the budget."""
    complete: bool = True
    """Whether nothing was left out for want of room."""


class Causes:
    """The causal history of what an agent reads."""

    def __init__(self, asks: Asks, reader: Reader) -> None:
        self._asks = asks
        self._reader = reader

    async def message(self, topic: str, id: str) -> Message | None:
        """A stored message by its id, the newest that has it. None: there is none (any more).

        Raises:
            RequestTimeout, Rejected, Refused, Closed
        """
        try:
            found = await self._get(topic, id, 0)
        except NotFound:
            return None
        return found[0]

    async def stay(self, topic: str, seq: int) -> tuple[float, float] | None:
        """For how many seconds a stored message is there still, at least, and for how many its topic keeps them. None:
        for ever, as far as the broker says.

        Raises:
            NotFound: it is not there any more.
            RequestTimeout, Rejected, Refused, Closed
        """
        answer = await self._asks.ask(lambda rid: Get(topic=topic, seq=seq, rid=rid), ANSWER_SECONDS)
        if isinstance(answer, Err):
            raise policy.rejection_of(answer)
        return None if answer.max_age is None else (answer.left or 0.0, answer.max_age)

    async def ancestors(self, message: Message, depth: int) -> list[Message]:
        """What led to a message, nearest first, at most so many. It ends where something is not there any more.

        Raises:
            RequestTimeout, Rejected, Refused, Closed
        """
        if depth < 0:
            raise ValueError(f"depth is {depth}: 0 or more")
        found: list[Message] = []
        if depth:
            async with aclosing(self._line(message, depth)) as line:
                async for each in line:
                    found.append(each)
                    if len(found) == depth:
                        break
        return found

    async def thread(self, topic: str, id: str, limit: int) -> list[Message]:
        """The whole thread that a message is in: the first of its topic that led to it, and all that grew from that,
        in order, at most so many.

        Raises:
            NotFound: there is no such message.
            RequestTimeout, Rejected, Refused, Closed
        """
        if limit < 1:
            raise ValueError(f"limit is {limit}: 1 message or more")
        (root, *_) = await self._get(topic, id, 0)
        while root.parent is not None:
            try:
                line = await self._get(topic, root.parent, ASKED_AT_ONCE)
            except NotFound:
                break  # what is older is gone: the thread begins here
            root = line[-1]
        found = {root.id: root}
        later = self._reader.subscribe(topic, {"seq": (root.seq or 0) + 1}, where={"parent": {"exists": True}})
        async with aclosing(up_to_head(later)) as messages:
            async for message in messages:
                if len(found) == limit:
                    break
                if message.parent in found:
                    found[message.id] = message
        return list(found.values())

    async def context(
        self,
        topic: str,
        message: Message | str | None,
        budget_bytes: int | None,
        budget_tokens: int | None,
        counter: Counter | None,
        depth: int,
    ) -> Context:
        """See `Topic.context`."""
        if (budget_bytes is None) == (budget_tokens is None):
            raise ValueError("a context has exactly one of budget_bytes and budget_tokens")
        budget = budget_tokens if budget_bytes is None else budget_bytes
        assert budget is not None
        if counter is None:
            counter = _size_of if budget_bytes is not None else _tokens_of
        if isinstance(message, str):
            (message,) = await self._get(topic, message, 0)
        elif message is None:
            message = await self._newest(topic)
        context = Context()
        if message is None:
            return context
        async with aclosing(self._with_line(message, depth)) as line:
            async for each in line:
                cost = counter(each)
                if context.used + cost > budget or len(context.messages) > depth:
                    context.complete = False
                    break
                context.used += cost
                context.messages.append(each)
        return context

    async def _newest(self, topic: str) -> Message | None:
        newest: Message | None = None
        async with aclosing(up_to_head(self._reader.subscribe(topic, {"last": 1}))) as messages:
            async for message in messages:
                newest = message
        return newest

    async def _with_line(self, message: Message, depth: int) -> AsyncGenerator[Message, None]:
        yield message
        async with aclosing(self._line(message, depth + 1)) as line:
            async for each in line:
                yield each

    async def _line(self, message: Message, wanted: int) -> AsyncGenerator[Message, None]:
        """What led to a message, nearest first, asked for some at a time."""
        seen = {(message.topic, message.id)}
        while True:
            cause = _cause_of(message)
            if cause is None or cause in seen or wanted <= 0:
                return
            try:
                found = await self._get(*cause, min(wanted, ASKED_AT_ONCE) - 1)
            except (NotFound, Forbidden):  # it is gone, or in a conversation that is not this agent's to read
                return
            wanted -= len(found)
            for each in found:
                if (each.topic, each.id) in seen:
                    return
                seen.add((each.topic, each.id))
                yield each
            message = found[-1]

    async def _get(self, topic: str, id: str, ancestors: int) -> list[Message]:
        def request(rid: str | int) -> Get:
            return Get(topic=topic, id=id, ancestors=ancestors, rid=rid)

        answer = await self._asks.ask(request, ANSWER_SECONDS)
        if isinstance(answer, Err):
            if answer.code == ErrorCode.BAD_REQUEST and ancestors:  # this broker's max_ancestors is smaller
                return await self._get(topic, id, ancestors // 2)
            raise policy.rejection_of(answer)
        stored = map(codec.decode_stored, answer.messages or ())
        return [Message(frame, self._reader, payload) for frame, payload in stored]


def _cause_of(message: Message) -> tuple[str, str] | None:
    """Topic and id of what led to a message directly, as far as it says."""
    if message.parent is not None:
        return message.topic, message.parent
    return causal.cause_of(message.headers.get(causal.CAUSE))


def _size_of(message: Message) -> int:
    return len(message.raw)


def _tokens_of(message: Message) -> int:
    return ceil(len(message.raw) / BYTES_A_TOKEN)
