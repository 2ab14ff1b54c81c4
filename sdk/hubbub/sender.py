"""Gets what is in the outbox to the broker, and its answers to whoever waits for them.

The outbox decides what is to be sent; this is the part with a link, timers and futures.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Err, Ok

from . import policy
from .backoff import Backoff
from .errors import BufferFull, Expired, HubbubError, TooLarge, fresh
from .link import Link
from .message import Receipt
from .outbox import Entry, Lane, Outbox
from .stats import Stats

logger = logging.getLogger("hubbub")

YIELD_BYTES = 64 << 10
"""A publisher that never waits is made to, once in so many bytes, so that what it published can leave meanwhile."""

ANSWER_TIMEOUT_SECONDS = 60.0
"""A publish that has no answer after this long condemns the connection: a new one will send it again."""


class OnFull(StrEnum):
    """What a publish does when the outbox is full."""

    WAIT = "wait"
    """Wait until there is room."""
    RAISE = "raise"
    """Raise BufferFull."""
    DROP = "drop"
    """Drop the oldest ephemeral message; without one, drop this one if it is ephemeral, else raise BufferFull."""


class Sender:
    """The publishing half of a connection."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        window: int,
        on_full: OnFull,
        backoff: Backoff,
        source: random.Random,
        stats: Stats,
        saw: Callable[[int], None],
        answer_timeout: float = ANSWER_TIMEOUT_SECONDS,
    ) -> None:
        """`saw` learns every Lamport timestamp that the broker gave."""
        self.outbox = outbox
        self._window_wanted = window
        self._window = window
        self._on_full = on_full
        self._backoff = backoff
        self._random = source
        self._stats = stats
        self._saw = saw
        self.on_settled: Callable[[Entry, Receipt | None], None] | None = None
        """Told when an entry needs no further care: with its receipt, or None if it was refused, expired or dropped."""
        self._answer_timeout = answer_timeout
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._pump_handle: asyncio.Handle | None = None
        self._retries: dict[Lane, asyncio.TimerHandle] = {}
        self._room_waiters: deque[asyncio.Future[None]] = deque()
        self._barriers: list[tuple[set[int], asyncio.Future[None]]] = []
        self._unyielded = 0
        self._failure: BaseException | None = None
        self._away = False
        """Whether the broker is known to be away, so that ephemeral messages are of no use."""

    # From the publisher -----------------------------------------------------------------------------------------

    async def accept(self, entry: Entry) -> None:
        """Take an entry into the outbox; waits for room, or not, as the agent was told.

        Raises:
            BufferFull, TooLarge
            Closed, Refused: when that is why nothing will be sent any more.
        """
        if self._failure is not None:
            raise fresh(self._failure)
        if self._away and entry.ephemeral:
            self._drop(entry)
            return
        if entry.size > self.outbox.limits.bytes:
            limit = self.outbox.limits.bytes
            raise TooLarge(f"{entry.size} bytes can't be buffered: buffer_bytes is {limit}; {TooLarge.HINT}")
        if (self._room_waiters or not self.outbox.has_room(entry.size)) and not await self._make_room(entry):
            return
        self.put(entry)
        if self._room_waiters:
            self._give_room()
        self._unyielded += entry.size
        if self._unyielded >= YIELD_BYTES:
            self._unyielded = 0
            await asyncio.sleep(0)

    def put(self, entry: Entry) -> None:
        """Take an entry into the outbox, room or not."""
        self.outbox.accept(entry)
        self._stats.published += 1
        if self._link is not None and self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._pump)

    async def _make_room(self, entry: Entry) -> bool:
        """False if the entry was dropped instead."""
        if self._on_full is OnFull.WAIT:
            await self._wait_for_room(entry.size)
            return True
        while not self.outbox.has_room(entry.size):
            victim = self.outbox.oldest_ephemeral() if self._on_full is OnFull.DROP else None
            if victim is not None:
                self.outbox.drop(victim)
                self._drop(victim)
            elif self._on_full is OnFull.DROP and entry.ephemeral:
                self._drop(entry)
                return False
            else:
                limits = self.outbox.limits
                raise BufferFull(
                    f"{len(self.outbox)} messages ({self.outbox.bytes} bytes) are not confirmed yet; "
                    f"buffer_messages is {limits.messages}, buffer_bytes is {limits.bytes}"
                )
        return True

    async def _wait_for_room(self, size: int) -> None:
        first = True
        while not self.outbox.has_room(size) or (first and self._room_waiters):
            waiter: asyncio.Future[None] = self._loop.create_future()
            # Whoever waited already keeps his place at the front.
            if first:
                self._room_waiters.append(waiter)
            else:
                self._room_waiters.appendleft(waiter)
            first = False
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._give_room()
                raise
            finally:
                if waiter in self._room_waiters:
                    self._room_waiters.remove(waiter)
            if self._failure is not None:
                raise fresh(self._failure)

    def _give_room(self) -> None:
        """Let the first of those who wait look again."""
        while self._room_waiters:
            waiter = self._room_waiters[0]
            if not waiter.done():
                if self.outbox.has_room(0):
                    self._room_waiters.popleft()
                    waiter.set_result(None)
                return
            self._room_waiters.popleft()

    async def flush(self) -> None:
        """Wait until everything that is in the outbox now is settled."""
        waiting = {entry.position for entry in self.outbox}
        if not waiting:
            return
        barrier = (waiting, self._loop.create_future())
        self._barriers.append(barrier)
        try:
            await barrier[1]
        finally:
            self._barriers.remove(barrier)

    async def drain(self) -> None:
        """Wait until the outbox is empty, and nobody waits for room in it."""
        while len(self.outbox) or self._room_waiters:
            await self.flush()
            await asyncio.sleep(0)

    # From the connection ----------------------------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """Send, on a new link, whatever has no receipt."""
        self._link = link
        self._away = False
        self._window = min(self._window_wanted, link.inflight_max)
        self.outbox.rewind()
        self._pump()

    def link_down(self) -> None:
        """Keep everything for the next link."""
        self._link = None
        for timer in self._retries.values():
            timer.cancel()
        self._retries.clear()
        if self._pump_handle is not None:
            self._pump_handle.cancel()
            self._pump_handle = None

    def drop_ephemerals(self) -> None:
        """The broker is away: ephemeral messages don't wait for it, from now on."""
        self._away = True
        for entry in self.outbox.drop_ephemerals():
            self._drop(entry)
        self._give_room()

    def fail(self, error: BaseException) -> list[Entry]:
        """Nothing will be sent any more. Returns what had no receipt; its futures get the error."""
        self.link_down()
        self._failure = error
        left = self.outbox.clear()
        for entry in left:
            if not entry.future.done():
                entry.future.set_exception(fresh(error))
                entry.future.exception()  # told in close()'s own way: no complaint about a future nobody asked
        while self._room_waiters:
            waiter = self._room_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
        for _, barrier in self._barriers:
            if not barrier.done():
                barrier.set_exception(fresh(error))
        return left

    def answered(self, frame: Ok | Err) -> None:
        """The broker answered a publish."""
        if frame.id is None:
            return
        if isinstance(frame, Ok):
            self._confirm(frame.id, frame)
        elif policy.is_retryable(frame.code):
            self._postpone(frame.id, frame)
        else:
            self._refuse(frame.id, frame)

    def pumped(self) -> None:
        """A batch of answers is through: fill the window again."""
        outbox = self.outbox
        if self._room_waiters:
            self._give_room()
        if outbox.has_ready and self._link is not None and self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._pump)

    def beat(self) -> None:
        """Once a heartbeat: a connection whose broker leaves publishes unanswered is of no use."""
        oldest = self.outbox.oldest_sent_at()
        if self._link is not None and oldest is not None and self._loop.time() - oldest > self._answer_timeout:
            logger.warning("! no answer to a publish for %.0f s: connection given up", self._answer_timeout)
            self._link.drop("a publish was left without an answer")

    # ------------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_handle = None
        link = self._link
        if link is None:
            return
        now = self._loop.time()
        batch, expired = self.outbox.take(self._window, now)
        for entry in batch:
            line = entry.line_at(now)
            payload = entry.payload
            size = len(line) if payload is None else 4 + len(line) + len(payload)
            if size > link.frame_bytes_max:
                self._too_large(entry, size, link.frame_bytes_max)
                continue
            if entry.sent_at is not None:
                self._stats.retried += 1
            entry.sent_at = now
            if payload is None:
                link.send(line)
            else:
                link.send_binary(line, payload)
        for entry in expired:
            self._expire(entry)
        if self._room_waiters:
            self._give_room()

    def _confirm(self, id: str, ok: Ok) -> None:
        entry = self.outbox.confirm(id, ok.seq, dup=ok.dup)
        if entry is None:
            return
        self._stats.confirmed += 1
        lc = ok.lc
        if lc is not None:
            self._saw(lc)
        receipt = Receipt(id=id, topic=ok.topic or entry.topic, seq=ok.seq, lc=lc, dup=ok.dup)
        future = entry.future
        if not future.done():
            future.set_result(receipt)
        self._settle(entry, receipt)
        lane = entry.lane
        if lane is not None and lane.blocked:
            self._consider(lane)

    def _postpone(self, id: str, err: Err) -> None:
        sent = self.outbox.postpone(id, err.expect, 0.0)
        if sent is None:
            return
        lane = sent.lane
        if lane is None:
            logger.debug("! ephemeral message dropped: %s", err.code)
            self._drop(sent)
            return
        lane.delay = max(lane.delay, self._retry_delay(err, lane))
        self._consider(lane)

    def _retry_delay(self, err: Err, lane: Lane) -> float:
        if err.retry_after is not None:
            return max(0.0, err.retry_after)
        if err.code == ErrorCode.ORDER and lane.attempts <= 1:
            return 0.0  # it only came too early: what it waited for is sent first this time
        return self._backoff.delay(lane.attempts, self._random)

    def _refuse(self, id: str, err: Err) -> None:
        entry = self.outbox.refuse(id)
        if entry is None:
            return
        logger.warning("! publish %s to %s refused: %s (%s)", id, entry.topic, err.message, err.code)
        self._reject(entry, policy.rejection_of(err))

    def _too_large(self, entry: Entry, size: int, limit: int) -> None:
        self.outbox.refuse(entry.id)
        self._reject(
            entry, TooLarge(f"a message of {size} bytes: the broker takes frames of {limit} at most; {TooLarge.HINT}")
        )

    def _reject(self, entry: Entry, error: HubbubError) -> None:
        self._stats.rejected += 1
        self._settle_badly(entry, error)
        if entry.lane is not None:
            self._consider(entry.lane)

    def _expire(self, entry: Entry) -> None:
        self._stats.expired += 1
        self._settle_badly(
            entry, Expired(f"message {entry.id} to {entry.topic} was not confirmed within its time-to-live")
        )

    def _settle_badly(self, entry: Entry, error: HubbubError) -> None:
        if not entry.future.done():
            entry.future.set_exception(error)
            entry.future.exception()  # it was logged: no second complaint about a future nobody asked
        self._settle(entry, None)

    def _drop(self, entry: Entry) -> None:
        self._stats.dropped += 1
        if not entry.future.done():
            entry.future.set_result(Receipt(id=entry.id, topic=entry.topic, dropped=True))
        self._settle(entry, None)

    def _settle(self, entry: Entry, receipt: Receipt | None) -> None:
        """Tell those who wait for more than this one's future."""
        for waiting, barrier in self._barriers:
            waiting.discard(entry.position)
            if not waiting and not barrier.done():
                barrier.set_result(None)
        if self.on_settled is not None:
            self.on_settled(entry, receipt)

    def _consider(self, lane: Lane) -> None:
        """Start a stopped lane again, once all its answers are in and its delay is over."""
        if lane.outstanding or not lane.blocked or lane in self._retries:
            return
        if lane.delay <= 0.0:
            self._resume(lane)
        else:
            logger.debug("! retry of %s in %.2f s", lane.topic, lane.delay)
            self._retries[lane] = self._loop.call_later(lane.delay, self._resume, lane)

    def _resume(self, lane: Lane) -> None:
        self._retries.pop(lane, None)
        self.outbox.resume(lane)
        if self._link is not None and self._pump_handle is None:
            self._pump_handle = self._loop.call_soon(self._pump)
