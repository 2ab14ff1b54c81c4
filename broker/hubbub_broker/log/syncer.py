"""Threads that do what the loop must not wait for: syncing files, writing sidecars, warming the page cache."""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from .errors import LogMisused

Job = Callable[[], None]
Callback = Callable[[BaseException | None], None]
_Task = tuple[Job, AbstractEventLoop, Callback]


class Syncer:
    """A few daemon threads shared by all shards, and one more for slow work: a sidecar being written keeps no batch
    waiting.
    """

    def __init__(self, threads: int = 2) -> None:
        self._quick: SimpleQueue[_Task | None] = SimpleQueue()
        self._slow: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads = [
            Thread(target=_work, args=(self._quick,), name=f"log-sync-{number}", daemon=True)
            for number in range(threads)
        ]
        self._threads.append(Thread(target=_work, args=(self._slow,), name="log-seal", daemon=True))
        self._closed = False
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, loop: AbstractEventLoop, callback: Callback) -> None:
        """Run a job soon, then the callback on the loop with what it raised, or None.

        Raises:
            LogMisused: the syncer is closed.
        """
        self._check_open()
        self._quick.put((job, loop, callback))

    def submit_slow(self, job: Job, loop: AbstractEventLoop, callback: Callback) -> None:
        """The same for a job that may take long."""
        self._check_open()
        self._slow.put((job, loop, callback))

    def close(self) -> None:
        """Finish what was submitted and join the threads. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads[:-1]:
            self._quick.put(None)
        self._slow.put(None)
        for thread in self._threads:
            thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise LogMisused("the syncer is closed: close the logs before it")


def _work(queue: "SimpleQueue[_Task | None]") -> None:
    while (task := queue.get()) is not None:
        job, loop, callback = task
        failure: BaseException | None = None
        try:
            job()
        except BaseException as error:  # noqa: BLE001  # whatever it was, the loop must hear of it
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(callback, failure)
        del task, job, callback, failure  # an idle thread keeps nothing alive
