"""Kills a broker process again and again, at moments drawn from a seeded source."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from .broker import BrokerProcess


class Progress:
    """A count that goes up, and that can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self._moved = asyncio.Event()

    def step(self) -> None:
        """One more."""
        self.count += 1
        self._moved.set()

    async def reach(self, done: Callable[[], bool], seconds: float, what: Callable[[], object]) -> None:
        """Wait until `done()`, looked at whenever there was progress.

        Raises:
            AssertionError: it took longer than `seconds`; says `what()` there is.
        """
        try:
            async with asyncio.timeout(seconds):
                while not done():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {what()}") from None


class Reaper:
    """SIGKILL at random moments, always while there is work: only after the broker has answered again."""

    def __init__(self, broker: BrokerProcess, source: random.Random, answers: Progress) -> None:
        self._broker = broker
        self._source = source
        self._answers = answers
        self.kills = 0

    async def run(self, kills: int, *, alive: tuple[float, float] = (0.0, 0.5), answers: int = 50) -> None:
        """Kill so many times: each when `answers` more have come and then a moment of `alive` seconds has passed.

        One kill in five hits the broker while it is still starting and reading its log.
        """
        while self.kills < kills:
            enough = self._answers.count + answers
            await self._answers.reach(
                lambda enough=enough: self._answers.count >= enough,  # type: ignore[misc]
                60,
                lambda: f"{self._answers.count} answers after {self.kills} kills",
            )
            await asyncio.sleep(self._source.uniform(*alive))  # the moment itself is what is drawn
            self._kill()
            if self.kills < kills and self._source.random() < 0.2:
                await asyncio.sleep(self._source.uniform(0.1, 1.0))
                self._kill()
            await self._broker.wait_ready()

    def _kill(self) -> None:
        self._broker.kill()
        self.kills += 1
        self._broker.start()
