"""What makes a team unlike a benchmark: agents that leave and come back, and readers that are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from hubbub_bench.drivers.connection import DriverError

from .member import Member
from .tally import Tally

READING_SHARE = 0.2
"""What a slow reader reads for, as a share of its pause."""


class Unrest:
    """Makes members leave, `churn` a second, and slow ones pause, until `stop`."""

    def __init__(self, tally: Tally, members: list[Member], *, churn: float, away: float, pause: float) -> None:
        self._tally = tally
        self._members = members
        self._random = Random(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._away: set[int] = set()
        if churn:
            self._run(self._churn(1 / churn, away))
        for member in members:
            if member.slow:
                self._run(self._dawdle(member, pause))

    async def stop(self) -> None:
        """Let everybody come back and read."""
        self._stopped.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _churn(self, every: float, away: float) -> None:
        while not await self._stopped_within(every):
            there = [at for at in range(len(self._members)) if at not in self._away]
            if there:
                at = self._random.choice(there)
                self._away.add(at)
                self._run(self._absence(at, away))

    async def _absence(self, at: int, seconds: float) -> None:
        member = self._members[at]
        try:
            await member.leave()
            await self._stopped_within(seconds)
            await member.join()
            self._tally.left += 1
        except (DriverError, TimeoutError) as error:
            self._tally.fail(DriverError(str(error)))
        finally:
            self._away.discard(at)

    async def _dawdle(self, member: Member, pause: float) -> None:
        while True:
            member.pause(paused=True)
            stopped = await self._stopped_within(pause)
            member.pause(paused=False)
            if stopped or await self._stopped_within(pause * READING_SHARE):
                return

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return False
        return True

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
