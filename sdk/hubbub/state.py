"""The life of an agent's connection, as one table; nothing else may change the state.

                  +--------------- connected ----------------+
                  |                                          v
    connecting ---+--- failed ---> degraded -- connected -> online
                                      ^                       |
                                      +-------- lost ---------+
    every state --- closed ---> closed, for good

`connecting` and `degraded` differ in what becomes of ephemeral messages: while connecting for the first time they
wait, while degraded they are dropped (or, in local-only mode, reach the agents of this process).
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from .errors import Closed, fresh

logger = logging.getLogger("hubbub")


class State(StrEnum):
    """What an agent is to its broker."""

    CONNECTING = "connecting"
    """Never was online yet, and no attempt has failed yet."""

    ONLINE = "online"
    """Connected and welcomed."""

    DEGRADED = "degraded"
    """The broker can't be reached; publishes are buffered and attempts go on."""

    CLOSED = "closed"
    """Closed by its owner, or refused by the broker."""


class Event(StrEnum):
    """What happens to a connection."""

    CONNECTED = "connected"
    FAILED = "failed"
    LOST = "lost"
    CLOSED = "closed"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CONNECTING: {
        Event.CONNECTED: State.ONLINE,
        Event.FAILED: State.DEGRADED,
        Event.CLOSED: State.CLOSED,
    },
    State.ONLINE: {
        Event.LOST: State.DEGRADED,
        Event.CLOSED: State.CLOSED,
    },
    State.DEGRADED: {
        Event.CONNECTED: State.ONLINE,
        Event.FAILED: State.DEGRADED,
        Event.CLOSED: State.CLOSED,
    },
    State.CLOSED: {
        Event.CLOSED: State.CLOSED,
    },
}

Listener = Callable[[State, State], None]


class StateMachine:
    """The current state, who waits for one, and who wants to be told."""

    __slots__ = ("_listeners", "_waiters", "current", "reason")

    def __init__(self) -> None:
        self.current = State.CONNECTING
        self.reason: BaseException | None = None
        """Why the state is `closed`, when the agent's owner did not ask for it."""
        self._listeners: list[Listener] = []
        self._waiters: list[tuple[frozenset[State], asyncio.Future[State]]] = []

    def happen(self, event: Event) -> State:
        """Move as the table says and tell those concerned.

        Raises:
            RuntimeError: if the table has no such transition: a defect of this package.
        """
        before = self.current
        after = TRANSITIONS[before].get(event)
        if after is None:
            raise RuntimeError(f"{event} can't happen while {before}")
        if after is before:
            return after
        self.current = after
        logger.debug("= %s -> %s", before, after)
        self._wake(after)
        for listener in tuple(self._listeners):
            self._tell(listener, before, after)
        return after

    def listen(self, listener: Listener) -> None:
        """Call `listener(before, after)` at each change, in the event loop. It must not block."""
        self._listeners.append(listener)

    async def wait_for(self, *wanted: State) -> State:
        """Wait until the state is one of `wanted`.

        Raises:
            Closed: when it can't become one any more. (The broker's refusal, if that is why.)
        """
        if self.current in wanted:
            return self.current
        if self.current is State.CLOSED:
            raise self._ending()
        waiter: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        entry = (frozenset(wanted), waiter)
        self._waiters.append(entry)
        try:
            return await waiter
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def _wake(self, state: State) -> None:
        for wanted, waiter in tuple(self._waiters):
            if waiter.done():
                continue
            if state in wanted:
                waiter.set_result(state)
            elif state is State.CLOSED:
                waiter.set_exception(self._ending())

    def _ending(self) -> BaseException:
        return fresh(self.reason) if self.reason is not None else Closed("the agent is closed")

    @staticmethod
    def _tell(listener: Listener, before: State, after: State) -> None:
        try:
            listener(before, after)
        except Exception:
            logger.exception("! a state listener failed")
