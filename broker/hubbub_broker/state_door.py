"""The broker's shared states as the HTTP routes see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hubbub_broker.http import Refused
from hubbub_broker.shard import Answer
from hubbub_broker.state import permit_change
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Change, Err, Ok, Pub, State
from hubbub_protocol.names import group_of, state_of

from .answering import answering
from .broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hubbub_broker.access import Operation


class StateDoor:
    """Implements `http.state_api.StateApi`."""

    def __init__(self, broker: Broker) -> None:
        self.settings = broker.settings
        self._broker = broker
        self._waiting = 0

    async def read(self, request: State) -> Ok | Err:
        """What keys hold, once that is on stable storage."""
        with self._asking():
            answer = Answer(asyncio.get_running_loop())
            self._broker.states_of(group_of(state_of(request.topic))).read(request, answer)
            return await answer.wait()

    async def change(self, agent: str, change: Change, require: Callable[[Operation, str], None]) -> Ok | Err:
        """Make a change that the caller may make."""

        def admit(pub: Pub) -> None:
            self._broker.sessions.admit(agent, pub)

        with self._asking():
            permit_change(change, require, admit)
            answer = Answer(asyncio.get_running_loop())
            self._broker.states_of(group_of(change.topic)).change(agent, change, answer)
            return await answer.wait()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        limit = self.settings.max_inflight
        if self._waiting >= limit:
            message = f"{limit} requests about states over HTTP wait, the limit (max_inflight)"
            raise Refused.because(ErrorCode.OVERLOADED, message, 0.1)
        self._waiting += 1
        try:
            with answering():
                yield
        finally:
            self._waiting -= 1
