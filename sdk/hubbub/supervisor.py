"""Many links' life: one connection after the other, for as long as the agent lives.

    while open:
        link = open a link         failed -> wait (backoff, or what the broker asked for) and try again
        owner.link_up(link)        the owner subscribes and publishes again what it must
        ending = link.run()
        owner.link_down(ending)    refused -> stop for good

There is never more than one link at a time, so nothing from a former life can arrive in a later one. Towards the
broker each life is fenced by the session in its `hello`.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from hubbub_protocol.frames import BrokerFrame, Msg

from .backoff import SETTLED_SECONDS, Backoff
from .errors import Refused
from .link import Ending, Endpoint, Link, LinkFailed, LinkRefused
from .stats import Stats
from .transport import ABNORMAL, Transport

logger = logging.getLogger("hubbub")

REDIRECTS_MAX = 4
"""How often in a row the broker may send an agent on at once. Beyond that it is a failure like others."""


class Owner(Protocol):
    """Who has work for a connection. All calls come from the event loop, and must not block."""

    def link_up(self, link: Link) -> None:
        """A connection was welcomed."""

    def link_down(self, ending: Ending) -> None:
        """It ended."""

    def link_failed(self, reason: str) -> None:
        """An attempt to connect failed."""

    def link_refused(self, refusal: Refused) -> None:
        """The broker will not have this agent. No further attempt is made."""

    def receive(self, frames: list[BrokerFrame]) -> None:
        """Frames came."""

    def receive_binary(self, message: Msg, payload: bytes) -> None:
        """A message came whose payload is bytes."""


class Supervisor:
    """Keeps one connection to the broker."""

    def __init__(
        self,
        owner: Owner,
        transport: Transport,
        endpoint: Endpoint,
        *,
        backoff: Backoff,
        source: random.Random,
        stats: Stats,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._owner = owner
        self._transport = transport
        self._home = endpoint
        self._endpoint = endpoint
        self._backoff = backoff
        self._random = source
        self._stats = stats
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._had_link = False
        self._stopping = False

    @property
    def link(self) -> Link | None:
        """The link that is up, if one is."""
        return self._link

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name=f"hubbub-supervisor-{self._endpoint.agent}")

    async def stop(self) -> None:
        """Say goodbye if connected, and end. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping = True
        if self._link is not None:
            await self._link.close()
        task.cancel()
        await asyncio.wait([task])

    async def _run(self) -> None:
        try:
            await self._connect_again_and_again()
        except Exception as error:
            # A defect of this package: better an agent that says it is at its end than one that is silent for good.
            logger.exception("! the supervisor failed")
            self._owner.link_refused(Refused(f"the connection can't be kept up: {error!r}"))

    async def _connect_again_and_again(self) -> None:
        attempt = redirects = 0
        while True:
            retry_after: float | None = None
            try:
                link = await Link.open(self._transport, self._endpoint, self._stats)
            except LinkRefused as refused:
                self._owner.link_refused(refused.refusal)
                return
            except LinkFailed as failed:
                self._redirect(failed)
                if failed.url is not None and redirects < REDIRECTS_MAX:
                    redirects += 1
                    continue
                retry_after = failed.retry_after
                self._owner.link_failed(str(failed))
            else:
                ending = await self._live(link)
                if self._stopping:
                    return
                if ending.refusal is not None:
                    self._owner.link_refused(ending.refusal)
                    return
                retry_after = ending.retry_after
                attempt = 0 if ending.lived >= SETTLED_SECONDS else attempt
            redirects = 0
            delay = self._backoff.delay(attempt, self._random) if retry_after is None else retry_after
            attempt += 1
            logger.debug("x next attempt in %.2f s", delay)
            await self._sleep(delay)

    async def _live(self, link: Link) -> Ending:
        self._stats.connections += 1
        self._stats.reconnects += self._had_link
        self._had_link = True
        self._link = link
        logger.info("= connected to %s as session %s", link.welcome.server, link.welcome.session)
        try:
            self._owner.link_up(link)
            ending = await link.run(self._owner.receive, self._owner.receive_binary)
        except Exception:
            # A defect of this package must not end an agent's life in silence: a new connection starts afresh.
            logger.exception("! the connection's reader failed")
            ending = Ending(ABNORMAL, "the reader failed")
            link.drop(ending.reason)
        finally:
            self._link = None
        logger.info("x connection ended with code %d: %s", ending.code, ending.reason or "no reason given")
        self._owner.link_down(ending)
        return ending

    def _redirect(self, failed: LinkFailed) -> None:
        """Go where the broker said; back to the first address when that fails."""
        if failed.url is not None:
            logger.info("> sent on to %s", failed.url)
            self._endpoint = replace(self._home, url=failed.url)
        else:
            self._endpoint = self._home
