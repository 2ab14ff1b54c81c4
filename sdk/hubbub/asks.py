"""Requests that outlive a connection: asked again on the next one, until they have their answer or their time is over.

Only for what may be asked twice: a change of a shared state carries an id, and is made once.
"""

import asyncio
from collections.abc import Callable

from hubbub_protocol.frames import Err, Frame, Ok, Rid
from hubbub_protocol.limits import FRAME_BYTES_MAX

from . import policy
from .backoff import Backoff
from .errors import RequestTimeout, fresh
from .link import Link
from .state import State

RETRY = Backoff(base=0.1, cap=2.0)
"""When to ask again what the broker can't do now, and does not say when it can."""

MakeRequest = Callable[[Rid], Frame]


class Asks:
    """The requests of one agent that wait for an answer. They go over its main connection."""

    def __init__(self, ending: Callable[[], BaseException]) -> None:
        """`ending` says why nothing can be asked any more, once that is so."""
        self._ending = ending
        self._link: Link | None = None
        self._open: dict[asyncio.Future[Ok | Err], MakeRequest] = {}
        self._ended = False

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that the broker takes, as far as is known."""
        return FRAME_BYTES_MAX if self._link is None else self._link.frame_bytes_max

    def link_up(self, link: Link) -> None:
        """Ask everything that has no answer."""
        self._link = link
        for answer, request in self._open.items():
            self._send(link, request, answer)

    def on_state(self, _before: State, after: State) -> None:
        """Called with each change of the agent's state: when it is closed, nothing will be answered any more."""
        if after is not State.CLOSED:
            return
        self._ended = True
        for answer in self._open:
            if not answer.done():
                answer.set_exception(fresh(self._ending()))
                answer.exception()

    async def ask(self, request: MakeRequest, timeout: float) -> Ok | Err:
        """The broker's answer: `ok`, or an `err` that asking again can't cure.

        Raises:
            RequestTimeout: none came within `timeout` seconds. What was asked for may have been done.
            Closed, Refused: the agent is closed, or the broker will not have it.
        """
        try:
            async with asyncio.timeout(timeout):
                attempt = 0
                while True:
                    answer = await self._ask(request)
                    if isinstance(answer, Ok) or not policy.is_retryable(answer.code):
                        return answer
                    wait = RETRY.ceiling(attempt) if answer.retry_after is None else answer.retry_after
                    attempt += 1
                    await asyncio.sleep(wait)
        except TimeoutError as error:
            text = f"the broker did not answer within {timeout:g} s; what was asked for may have been done"
            raise RequestTimeout(text) from error

    async def _ask(self, request: MakeRequest) -> Ok | Err:
        if self._ended:
            raise fresh(self._ending())
        answer: asyncio.Future[Ok | Err] = asyncio.get_running_loop().create_future()
        self._open[answer] = request
        if self._link is not None:
            self._send(self._link, request, answer)
        try:
            return await answer
        finally:
            del self._open[answer]

    @staticmethod
    def _send(link: Link, request: MakeRequest, answer: "asyncio.Future[Ok | Err]") -> None:
        def answered(frame: Ok | Err) -> None:
            if not answer.done():
                answer.set_result(frame)

        link.ask(request, answered)
