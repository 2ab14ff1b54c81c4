"""What became of messages that were published with `track`: the broker's receipts, to whoever wants to know.

They come on any of the agent's connections, and what was missed comes when it is back; so one that came before may come
again, and is dropped.
"""

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Self

from msgspec import Struct

from hubbub_protocol import frames

from .errors import fresh
from .message import Receipt
from .stats import Stats

logger = logging.getLogger("hubbub")

OUTCOMES_MAX = 1_000
"""Outcomes that one message keeps for its reader; beyond, the oldest is dropped."""

FINAL = frozenset({"done", "dead", "expired"})


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened to a published message."""

    id: str
    topic: str
    state: str
    """`delivered`, `working`, `done`, `dead` or `expired`."""
    seq: int | None = None
    consumer: str | None = None
    by: str | None = None
    """The agent that has it, or did it."""
    reason: str | None = None
    """Why it is dead."""
    ts: float | None = None
    """When, in seconds since the Unix epoch."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of this consumer: it is `done`, `dead` or `expired`."""
        return self.state in FINAL


Listener = Callable[[Outcome], object]


class Tracked:
    """A published message, and what becomes of it.

        tracked = await conv.publish_tracked({"text": "hello"})
        async for outcome in tracked: ...               # delivered, working, done
        outcome = await tracked.done(timeout=60)        # only the last

    The iteration ends when `consumers` different consumers are through with it, one unless told otherwise.
    """

    def __init__(self, topic: str, id: str, consumers: int = 1) -> None:
        self.topic = topic
        self.id = id
        self.receipt: Receipt | None = None
        """Its place in the topic."""
        self._wanted = consumers
        self._final: dict[str | None, Outcome] = {}
        self._known: dict[Outcome, None] = {}
        self._waiting: deque[Outcome] = deque(maxlen=OUTCOMES_MAX)
        self._changed = asyncio.Event()
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Tracked {self.topic} {self.id}: {len(self._final)} of {self._wanted} finished>"

    @property
    def is_finished(self) -> bool:
        """Whether all consumers that count are through with it."""
        return len(self._final) >= self._wanted

    def take(self, outcome: Outcome) -> bool:
        """Called with each receipt. False if it came before."""
        if outcome in self._known or outcome.consumer in self._final:
            return False
        if len(self._known) >= OUTCOMES_MAX:
            del self._known[next(iter(self._known))]
        self._known[outcome] = None
        if outcome.is_final:
            self._final[outcome.consumer] = outcome
        self._waiting.append(outcome)
        self._changed.set()
        return True

    def end(self, error: BaseException) -> None:
        """Nothing more will come: the agent is closed."""
        self._error = error
        self._changed.set()

    async def done(self, timeout: float | None = None) -> Outcome:
        """Wait until it is finished; returns the last consumer's outcome, whose `state` says whether it is `done`.

        Raises:
            TimeoutError: if that takes longer than `timeout` seconds.
            Closed, Refused: the agent is at its end.
        """
        async with asyncio.timeout(timeout):
            while not self.is_finished:
                await self._change()
        return list(self._final.values())[-1]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        while not self._waiting:
            if self.is_finished:
                raise StopAsyncIteration
            await self._change()
        return self._waiting.popleft()

    async def _change(self) -> None:
        """Wait for the next receipt. Whoever waits looks again, and comes back here if that changed nothing."""
        if self._error is not None:
            raise fresh(self._error)
        self._changed.clear()
        await self._changed.wait()


class Outcomes:
    """Who wants to know what became of which message."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._tracked: weakref.WeakValueDictionary[tuple[str, str], Tracked] = weakref.WeakValueDictionary()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Tell it everything."""
        self._listeners.append(listener)

    def track(self, tracked: Tracked) -> None:
        """Tell it what becomes of its message, as long as anyone holds it."""
        self._tracked[tracked.topic, tracked.id] = tracked

    def take(self, frame: frames.Receipt) -> None:
        """A receipt came."""
        outcome = Outcome(
            id=frame.id,
            topic=frame.topic,
            state=frame.state,
            seq=frame.seq,
            consumer=frame.consumer,
            by=frame.by,
            reason=frame.reason,
            ts=frame.ts,
        )
        tracked = self._tracked.get((frame.topic, frame.id))
        if tracked is not None and not tracked.take(outcome):
            return
        self._stats.outcomes += 1
        for listener in self._listeners:
            try:
                listener(outcome)
            except Exception:
                logger.exception("! a listener for outcomes failed")

    def end(self, error: BaseException) -> None:
        """Nothing more will come."""
        for tracked in tuple(self._tracked.values()):
            tracked.end(error)
