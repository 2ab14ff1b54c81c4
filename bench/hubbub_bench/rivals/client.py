"""What a client for Python is measured at, whichever it is: numbered messages of 256 bytes, out and in again."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

from hubbub_bench.loops import event_loop

PAYLOAD = 256


def message(number: int) -> str:
    """The message of that number."""
    return f"{number:010d}".ljust(PAYLOAD, "x")


class Reader:
    """Checks that messages come once and in order, and says when the last is there."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0

    def take(self, text: str | bytes) -> bool:
        """A message has come; returns whether it is the last."""
        number = int(text[:10])
        if number != self._next:
            raise SystemExit(f"number {number} came, and {self._next} was due")
        self._next += 1
        return self._next == self._count


def measured(publish: Callable[[int], Awaitable[None]], receive: Callable[[int], Awaitable[None]], count: int) -> None:
    """Publish so many, then receive them, and print how many a second as JSON."""

    async def both() -> dict[str, float]:
        began = perf_counter()
        await publish(count)
        published = perf_counter() - began
        began = perf_counter()
        await receive(count)
        return {"published_per_s": count / published, "received_per_s": count / (perf_counter() - began)}

    with asyncio.Runner(loop_factory=event_loop()[1]) as runner:
        sys.stdout.write(json.dumps(runner.run(both())))
