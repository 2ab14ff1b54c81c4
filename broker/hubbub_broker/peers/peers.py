"""All links of a worker: who is there, what it asks of them, and what they know of it."""

from __future__ import annotations

import asyncio
import socket
from collections import ChainMap
from collections.abc import Callable
from functools import partial
from typing import Any

from hubbub_broker.config import Settings
from hubbub_broker.logs import get_logger
from hubbub_broker.refusal import Elsewhere, Refusal
from hubbub_broker.topology import Topology
from hubbub_protocol.errors import ErrorCode

from .link import Handler, Link, Reply, away
from .remote import RemoteShard

log = get_logger(__name__)


class Peers:
    """The other workers.

    Args:
        topology: who owns what.
        settings: the broker's.
        loop: the event loop.
        report: called with a worker's number when the link to it is lost, for whoever makes a new one.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.topology = topology
        self.handlers: dict[str, Handler] = {}
        """What this worker does for the others, by name."""
        self.on_joined: list[Callable[[int], None]] = []
        """Called with the number of a worker that can be reached from now on."""
        self.on_lost: list[Callable[[int], None]] = []
        """Called with the number of one that can't."""
        self.timeout = settings.link_timeout
        self._calls_max = settings.link_calls
        self._loop = loop
        self._report = report
        self._links: dict[int, Link] = {}
        self._ends: dict[int, Link] = {}
        """The newest link to each, whether the other side has said a word or not."""
        self._arrivals: dict[int, asyncio.Event] = {number: asyncio.Event() for number in topology.others}
        self._ways = {number: RemoteShard(number, self) for number in topology.others}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    # Where ----------------------------------------------------------------------------------------------------------

    def elsewhere(self, group: str) -> Elsewhere:
        """What is raised for a group of another worker."""
        worker = self.topology.worker_of(group)
        return Elsewhere(worker, f"the group {group} belongs to worker {worker}: go to `url`")

    def way_to(self, worker: int) -> RemoteShard:
        """How to publish to topics of another worker."""
        return self._ways[worker]

    def is_here(self, worker: int) -> bool:
        """Whether a worker can be reached now."""
        return worker in self._links

    @property
    def links(self) -> dict[int, Link]:
        """The links that are up, by the worker's number. To be read."""
        return self._links

    # Asking ---------------------------------------------------------------------------------------------------------

    def call(self, worker: int, what: str, arguments: list[Any], done: Reply) -> None:
        """Ask a worker. `done` gets its answer, or the `Refusal` of whoever refused."""
        link = self._links.get(worker)
        if link is None:
            done(away(name_of(worker)))
            return
        try:
            link.call(what, arguments, done)
        except Refusal as refusal:
            done(refusal)

    async def ask(self, worker: int, what: str, *arguments: Any, patient: bool = False) -> Any:
        """Ask a worker, and wait for its answer. One that is away is waited for, `link_timeout` at most.

        Raises:
            Refusal: it could not be reached, did not answer in time (unless `patient`), or refused.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()

        link = await self.reach(worker)
        link.call(what, list(arguments), partial(_settle, answer), patient=patient)
        found = await answer
        if isinstance(found, Refusal):
            raise found
        return found

    async def reach(self, worker: int) -> Link:
        """The link to a worker. One that is away is waited for, `link_timeout` at most.

        Raises:
            Refusal: it is away still.
        """
        link = self._links.get(worker)
        if link is None:
            try:
                async with asyncio.timeout(self.timeout):
                    await self._arrivals[worker].wait()
                link = self._links[worker]
            except (TimeoutError, KeyError):
                raise away(name_of(worker)) from None
        return link

    def tell(self, worker: int, what: str, *arguments: Any) -> bool:
        """Tell a worker. False if it is away."""
        link = self._links.get(worker)
        if link is not None:
            link.note(what, list(arguments))
        return link is not None

    def tell_all(self, what: str, *arguments: Any) -> None:
        """Tell every worker that is there."""
        for link in self._links.values():
            link.note(what, list(arguments))

    def serve(self, what: str, answer: Callable[..., Any]) -> None:
        """Do something for the others whenever they ask: `answer`, a coroutine function, gets their arguments."""

        def handle(arguments: list[Any], reply: Reply) -> None:
            task = self._loop.create_task(self._answer(what, answer, arguments, reply), name=f"for a worker: {what}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self.handlers[what] = handle

    async def _answer(self, what: str, answer: Callable[..., Any], arguments: list[Any], reply: Reply) -> None:
        try:
            reply(await answer(*arguments))
        except Refusal as refusal:
            reply(refusal)
        except Exception:
            log.exception("request of another worker failed", request=what)
            reply(Refusal(ErrorCode.INTERNAL, f"{what} failed at another worker: its log has the particulars", 1.0))

    # Links ----------------------------------------------------------------------------------------------------------

    async def attach(self, worker: int, end: socket.socket) -> None:
        """Use a new link. The one before it, if there is one, is closed.

        It counts once the other side has greeted, and as long as it answers: a process that hangs is as good as away.
        """
        older = self._ends.pop(worker, None)
        if older is not None:
            older.close()
        end.setblocking(False)
        link: Link
        own: dict[str, Handler] = {"here": lambda _arguments, _reply: self._greeted(worker, link), "ping": _pong}
        link = Link(
            name_of(worker),
            ChainMap(own, self.handlers),
            self._loop,
            timeout=self.timeout,
            calls_max=self._calls_max,
            on_lost=lambda: self._lost(worker, link),
        )
        self._ends[worker] = link
        await self._loop.create_connection(lambda: link, sock=end)
        if self._closed or self._ends.get(worker) is not link:
            link.close()
            return
        link.note("here", [])
        watching = self._loop.create_task(self._watch(link), name=f"watching {name_of(worker)}")
        self._tasks.add(watching)
        watching.add_done_callback(self._tasks.discard)

    def _greeted(self, worker: int, link: Link) -> None:
        if self._ends.get(worker) is not link:
            return
        if worker in self._links:
            self._gone(worker)
        self._links[worker] = link
        self._arrivals[worker].set()
        log.info("link up", to=worker)
        for joined in self.on_joined:
            joined(worker)

    async def _watch(self, link: Link) -> None:
        """Give a link up whose other side answers nothing."""
        while link.is_up:
            await asyncio.sleep(self.timeout / 2)
            answered = self._loop.create_future()
            try:
                link.call("ping", [], partial(_settle, answered))
            except Refusal:
                continue  # it is full, or gone: both are somebody else's to see
            if isinstance(await answered, Refusal) and link.is_up:
                log.warning("link gives no answer", to=link.name)
                link.abort()

    def _lost(self, worker: int, link: Link) -> None:
        if self._links.get(worker) is link:
            del self._links[worker]
            self._gone(worker)
        if self._ends.get(worker) is link:
            del self._ends[worker]
            if not self._closed:
                log.warning("link lost", to=worker)
                self._report(worker)

    def _gone(self, worker: int) -> None:
        self._arrivals[worker].clear()
        for lost in self.on_lost:
            lost(worker)

    async def close(self) -> None:
        """End all links. Idempotent."""
        self._closed = True
        for link in list(self._ends.values()):
            link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _pong(_arguments: list[Any], reply: Reply) -> None:
    reply(None)


def _settle(answered: asyncio.Future[Any], answer: Any) -> None:
    if not answered.done():
        answered.set_result(answer)


def name_of(worker: int) -> str:
    """A worker, in messages."""
    return f"worker {worker}"
