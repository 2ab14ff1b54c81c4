"""A workflow's coordinator or worker in a process of its own, which a test may kill.

Run with its role (`coordinator` or `worker`), the broker's address, its name and a seed. A line on the standard output
tells of each step, or of each task that was at work.
"""

import asyncio
import random
import sys
from typing import Any

from hubbub import Agent, Backoff
from hubbub.workflows import Assignment, Coordinator, Outcome, State, TaskFailed, Worker, workflow

GROUP = "mill"


class Mill:
    """Five stages with everything between them: fan-out, several at once, retries, time-outs, outcomes, undoing."""

    sow = State(handler="sow", on={"done": "grow"}, retries=8, backoff=(0.05, 0.2), compensate="undo")
    grow = State(handler="grow", each="sow", on={"done": "reap"}, retries=8, backoff=(0.05, 0.2))
    reap = State(
        handler=("left", "right"), on={"done": "mill"}, retries=8, backoff=(0.05, 0.2), compensate="undo", timeout=120
    )
    mill = State(
        handler="mill", on={"done": "bake", "coarse": "mill"}, retries=8, backoff=(0.05, 0.2), attempt_timeout=2.0
    )
    bake = State(handler="bake", on={"done": "bread", "failed": "ash"}, retries=1, backoff=(0.05,))
    bread = State(end=True)
    ash = State(end=True)


MILL = workflow(Mill, name="mill")


class Hands:
    """What workers do, and how they fail."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    async def work(self, task: Assignment) -> Any:
        """Work for a moment; one in eight raises, one in two hundred for good, one in a hundred takes too long."""
        await asyncio.sleep(self._random.uniform(0, 0.02))
        drawn = self._random.random()
        if drawn < 0.125:
            raise OSError("the weather")
        if drawn < 0.13 and not task.undo:
            raise TaskFailed("no field")
        if drawn < 0.14 and task.state == "mill":
            await asyncio.sleep(3.0)
        if task.state == "mill" and drawn > 0.9:
            return Outcome("coarse", drawn)
        return [1, 2, 3] if task.state == "sow" else task.attempt


async def run(role: str, url: str, name: str, seed: str) -> None:
    """Until somebody ends the process."""
    agent = Agent(name, group=GROUP, url=url, backoff=Backoff(base=0.02, cap=0.2), local=False)
    if role == "coordinator":
        async with agent:
            coordinator = Coordinator(agent, MILL, tick=0.25)
            async with coordinator:
                told = 0
                while True:
                    await asyncio.sleep(0.02)
                    for _ in range(coordinator.engine.steps - told):
                        print("step", flush=True)
                    told = coordinator.engine.steps
    worker, hands = Worker(agent), Hands(seed)

    async def work(task: Assignment) -> Any:
        try:
            return await hands.work(task)
        finally:
            print(task.id, flush=True)

    for handler in MILL.handlers:
        worker.handles(handler, ack_wait=3.0, max_unacked=32)(work)
    async with agent:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
