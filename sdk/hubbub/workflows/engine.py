"""Lets something happen to an instance: read, decide, write; and again, if somebody else was faster."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from hubbub.errors import HubbubError, StateConflictError, TooLarge

from .book import Book
from .draft import Refusal
from .errors import IllegalTransition
from .instance import Broke, Event, Finished, Heard, Instance
from .step import step

logger = logging.getLogger("hubbub")

ATTEMPTS_MAX = 50
"""How often others may be faster. Each of them made a step, so this only ends what is wrong."""

PAUSE_SECONDS = 0.01
PAUSE_SECONDS_MAX = 0.5


class Engine:
    """Makes steps. Any number of them may work on the same instances."""

    def __init__(
        self, book: Book, *, clock: Callable[[], float] = time.time, source: random.Random | None = None
    ) -> None:
        self._book = book
        self._clock = clock
        self._random = source or random.Random()
        self.steps = 0
        """Steps made here."""
        self.conflicts = 0
        """How often somebody else was faster."""
        self.refusals = 0
        """Events that were refused, and are not only late."""

    async def happen(self, id: str, event: Event) -> Instance | Refusal:
        """Let an event happen; where the instance stands then, or why nothing was changed.

        Raises:
            NoSuchInstance
            HubbubError: what kept it from being written; it may be asked again.
        """
        for attempt in range(ATTEMPTS_MAX):
            held = await self._book.load(id)
            model = await self._book.model(held.instance.model)
            decided = step(model, held.instance, event, self._clock())
            if isinstance(decided, Refusal):
                self.refusals += not decided.stale
                return decided
            try:
                await self._book.commit(model, decided, held)
            except StateConflictError:
                self.conflicts += 1
                await asyncio.sleep(self._random.uniform(0, min(PAUSE_SECONDS * 2**attempt, PAUSE_SECONDS_MAX)))
            except TooLarge as error:
                event = _smaller(event, error)
            else:
                self.steps += 1
                return decided.instance
        raise HubbubError(f"instance {id} changes all the time: {ATTEMPTS_MAX} attempts at {event!r} came too late")

    async def demand(self, id: str, event: Event) -> Instance:
        """Let an event happen that somebody wants.

        Raises:
            IllegalTransition: it can't, where the instance stands. Nothing was changed.
            NoSuchInstance, HubbubError: as `happen`.
        """
        outcome = await self.happen(id, event)
        if isinstance(outcome, Refusal):
            held = await self._book.load(id)
            raise IllegalTransition(id, held.instance.state, outcome.why)
        return outcome


def _smaller(event: Event, error: TooLarge) -> Event:
    """What happens instead, when a step can't be written because it is too large: a failure, for a task's answer.

    Raises:
        TooLarge: nothing smaller says the same.
    """
    if isinstance(event, Finished) and event.value is not None:
        return Broke(task=event.task, by=event.by, error=f"its result is too large to be kept: {error}", fatal=True)
    if isinstance(event, Heard) and event.value is not None:
        logger.warning("! the data of a message of type %s is too large to be kept with its instance", event.type)
        return Heard(type=event.type, by=event.by, seq=event.seq)
    raise error
