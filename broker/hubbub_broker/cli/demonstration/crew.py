"""The worker processes, seen from the one that started them."""

import asyncio
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hubbub_broker.cli.exit_code import Failure

from .assignment import Assignment, Result, samples_beside
from .latency import Sample
from .processes import Child
from .progress import Progress, total

WORKER = "hubbub_broker.cli.demonstration.worker"
READY_SECONDS = 60.0
FINISH_SECONDS = 60.0


class Worker:
    """One process full of agents."""

    def __init__(self, number: int, directory: Path) -> None:
        self.progress = Progress()
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self._name = f"worker-{number}"
        self._directory = directory
        self._child: Child | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self, assignment: Assignment) -> None:
        """Start the process; its agents connect."""
        plan = self._directory / f"{self._name}.plan.json"
        plan.write_text(json.dumps(asdict(assignment)), encoding="utf-8")
        log = self._directory / f"{self._name}.log"
        self._child = await Child.start(self._name, WORKER, str(plan), str(self._result), log=log)
        self._listening = asyncio.create_task(self._listen(self._child), name=self._name)

    def tell(self, order: str) -> None:
        """Give an order."""
        assert self._child is not None
        self._child.tell(order)

    async def until(self, event: asyncio.Event, seconds: float, what: str) -> None:
        """Wait for an event of this worker.

        Raises:
            Failure: if the process ends before, or it takes longer than `seconds`.
        """
        assert self._listening is not None
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait((waiting, self._listening), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not event.is_set():
                self.check()
                raise Failure(f"{self._name} was not {what} after {seconds:g} s")
        finally:
            waiting.cancel()

    def check(self) -> None:
        """See that the process is still there.

        Raises:
            Failure: if it ended before its work.
        """
        assert self._child is not None
        assert self._listening is not None
        if self._listening.done() and not self.done.is_set():
            raise self._child.failure()

    def result(self) -> Result:
        """What its agents counted."""
        figures: Result = json.loads(self._result.read_text(encoding="utf-8"))
        return figures

    def samples(self) -> Sequence[Sample]:
        """The latencies that its agents saw."""
        path = samples_beside(self._result)
        floats = array("d")
        with path.open("rb") as file:
            floats.fromfile(file, path.stat().st_size // floats.itemsize)
        return list(zip(floats[::2], floats[1::2], strict=True))

    async def stop(self) -> None:
        """End the process, whatever it is doing. Idempotent."""
        if self._child is not None:
            await self._child.stop()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    @property
    def _result(self) -> Path:
        return self._directory / f"{self._name}.json"

    async def _listen(self, child: Child) -> None:
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            self._take(json.loads(line))
        await child.process.wait()

    def _take(self, event: dict[str, Any]) -> None:
        match event.pop("event"):
            case "ready":
                self.ready.set()
            case "progress":
                self.progress = Progress(**event)
            case "done":
                self.done.set()


class Crew:
    """All workers."""

    def __init__(self, size: int, directory: Path) -> None:
        self._workers = [Worker(number, directory) for number in range(size)]

    async def start(self, assignments: Sequence[Assignment]) -> None:
        """Start the processes. Returns when every agent is online and subscribed."""
        for worker, assignment in zip(self._workers, assignments, strict=True):
            await worker.start(assignment)
        for worker in self._workers:
            await worker.until(worker.ready, READY_SECONDS, "ready")

    def begin(self) -> None:
        """Let the conversations begin."""
        for worker in self._workers:
            worker.tell("start")

    @property
    def progress(self) -> Progress:
        """How far all are together.

        Raises:
            Failure: if a worker ended.
        """
        for worker in self._workers:
            worker.check()
        return total(worker.progress for worker in self._workers)

    async def finish(self) -> tuple[list[Result], list[Sample]]:
        """Let the agents leave; what they counted, and the latencies.

        Raises:
            Failure: if a worker does not come to an end.
        """
        for worker in self._workers:
            worker.tell("finish")
        for worker in self._workers:
            await worker.until(worker.done, FINISH_SECONDS, "done")
        samples = [sample for worker in self._workers for sample in worker.samples()]
        return [worker.result() for worker in self._workers], samples

    async def stop(self) -> None:
        """End all processes. Idempotent."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
