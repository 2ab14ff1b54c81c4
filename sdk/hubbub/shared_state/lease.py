"""Leases: one holder at a time, for as long as it says that it is there.

A lease is a key that goes by itself unless it is renewed. Its version, which never comes twice, is the fencing token:
a change that names it is made only while the lease is held, in the same order in which all changes are made, so that a
holder that was paused for too long can do no harm. Expiry is decided by the broker's clock alone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hubbub.backoff import Backoff
from hubbub.errors import Closed, HubbubError, LeaseLost, Refused, RequestTimeout, StateConflictError

if TYPE_CHECKING:
    from .state import SharedState

logger = logging.getLogger("hubbub")

PREFIX = "_leases"
"""Under which keys of a state its leases are."""

RENEWALS = 3
"""How often a lease is renewed in its time."""

RUSH = Backoff(base=0.02, cap=1.0)
"""How long whoever waits for a lease waits again when another was ahead."""


class Lease:
    """A lease, held while its block runs.

        async with conv.lease("writer", ttl=30) as lease:
            await conv.state.put("draft", text, lease=lease)

    Entering waits until it is free, for `timeout` seconds if that is given, else for as long as it takes; the broker
    may be away meanwhile. It is renewed by itself. When it is lost (it could not
    be renewed in time, or an operator deleted it) `lost` is set and the block is cancelled: it ends with LeaseLost. At
    the end of the block the next one may have it at once.
    """

    def __init__(self, state: SharedState, name: str, ttl: float, timeout: float | None = None) -> None:
        """`ttl` is in seconds: how long others wait when the holder has died.

        Raises:
            ValueError: it is too short.
        """
        if not ttl >= 0.3:
            raise ValueError(f"ttl is {ttl}: 0.3 seconds or more")
        self.state = state
        """The state that it is kept in."""
        self.name = name
        self.key = f"{PREFIX}/{name}"
        """The key of the state that it is."""
        self.token = 0
        """The fencing token: larger for each holder. 0 before it was held."""
        self.lost = asyncio.Event()
        self._ttl = ttl
        self._timeout = timeout
        self._mark = state.desk.new_id()
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None
        self._holder: asyncio.Task[object] | None = None

    def __repr__(self) -> str:
        return f"<Lease {self.name} of {self.state.name}, token {self.token}>"

    @property
    def held(self) -> bool:
        """Whether it is held, as far as this agent can know."""
        return self._renewing is not None and not self.lost.is_set()

    async def __aenter__(self) -> Self:
        if self._renewing is not None:
            raise HubbubError(f"{self!r} is held already: make another one")
        patience = asyncio.timeout(self._timeout)
        try:
            async with patience:
                await self._acquire()
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise RequestTimeout(f"the lease {self.name} was not free within {self._timeout:g} s") from error
        self._holder = asyncio.current_task()
        self._renewing = asyncio.create_task(self._renew(), name=f"hubbub-lease-{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
        if not self.lost.is_set():
            with suppress(StateConflictError, RequestTimeout, Closed, Refused):  # it is another's, or goes by itself
                await self.state.delete(self.key, expected_version=self.token, timeout=self._ttl)
            return
        holder, self._holder = self._holder, None
        if holder is None:
            return
        if error is None:  # the block has ended before it could be stopped: that is still to come
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as cancelled:
                error = cancelled
        if isinstance(error, asyncio.CancelledError):
            if holder.uncancel() <= 0:
                raise LeaseLost(f"the lease {self.name} was lost: others may have it") from error
            raise error

    # ----------------------------------------------------------------------------------------------------------------

    async def _acquire(self) -> None:
        loop = asyncio.get_running_loop()
        desk = self.state.desk
        value = {"holder": desk.agent, "session": desk.session, "mark": self._mark}
        attempt = 0
        while True:
            asked_at = loop.time()
            try:
                self.token = await self.state.put(
                    self.key, value, expected_version=0, ttl=self._ttl, timeout=self._ttl / RENEWALS
                )
            except StateConflictError:
                with suppress(RequestTimeout):  # a broker that does not answer has not given it to anybody
                    if await self._is_ours():
                        return
                    await self._wait_until_free()
            except RequestTimeout:
                continue  # whether it was made, the next try tells
            else:
                self._until = asked_at + self._ttl
                return
            await asyncio.sleep(RUSH.delay(attempt, desk.source))
            attempt += 1

    async def _is_ours(self) -> bool:
        """Whether it was got by a request whose answer never came."""
        value, version = await self.state.get(self.key)
        if not (isinstance(value, dict) and value.get("mark") == self._mark):
            return False
        asked_at = asyncio.get_running_loop().time()
        try:
            await self.state.renew(self.key, version, timeout=self._ttl)
        except (StateConflictError, RequestTimeout):
            return False
        self.token, self._until = version, asked_at + self._ttl
        return True

    async def _wait_until_free(self) -> None:
        watching = self.state.watch(self.key)
        try:
            async for entry in watching:
                if entry.deleted:
                    return
                if (await self.state.get(self.key)).version == 0:
                    return
        finally:
            await watching.aclose()  # type: ignore[attr-defined]

    async def _renew(self) -> None:
        """Renew it, until that fails for good or there is no time left for another try."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._ttl / RENEWALS)
            asked_at = loop.time()
            left = self._until - asked_at
            try:
                if left <= 0:
                    raise RequestTimeout("it could not be renewed in time")
                await self.state.renew(self.key, self.token, timeout=left)
            except HubbubError as error:
                self._lose(error)
                return
            self._until = asked_at + self._ttl

    def _lose(self, error: HubbubError) -> None:
        logger.warning("! lease %s of %s is lost: %s", self.name, self.state.name, error)
        self.lost.set()
        if self._holder is not None:
            self._holder.cancel()
