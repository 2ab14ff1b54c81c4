"""A worker in a process of its own, which a test may kill: the SDK, with its effects and its marks in one SQLite file.

Run with the broker's address, its own name, and the file. Each task's effect is a row of `effects`, which has no key:
an effect that happened twice is there twice. A line on the standard output tells of each task that was at work.
"""

import asyncio
import sys
from typing import Any

from hubbub import Agent, Backoff, SqliteSeen

TOPIC = "jobs/tasks"
CONSUMER = "workers"
SCHEMA = "CREATE TABLE IF NOT EXISTS effects (task INTEGER NOT NULL, worker TEXT NOT NULL)"


async def work(url: str, name: str, path: str) -> None:
    """Do tasks until somebody ends the process."""
    seen = SqliteSeen(path, limit=1_000_000, synchronous="normal")
    agent = Agent(name, url=url, backoff=Backoff(base=0.02, cap=0.2), local=False)

    @agent.on(
        TOPIC,
        consumer=CONSUMER,
        dedup=seen,
        start="all",
        max_unacked=32,
        ack_wait=5.0,
        max_deliver=0,
        backoff=[0.05],
    )
    async def do(message: Any) -> None:
        try:
            await seen.run(message, lambda db: db.execute("INSERT INTO effects VALUES (?, ?)", (message.data, name)))
        finally:
            print(message.data, flush=True)

    async with agent:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
