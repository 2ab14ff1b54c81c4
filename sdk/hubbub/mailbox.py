"""A subscription's bounded buffer: what was received and not yet taken.

Two marks keep a slow reader from costing memory, or anyone else's time:

    taken            low              soft                                hard (bytes only)
    |................|................|...................................|
                     ^                ^                                   ^
        drained: go on from the       behind: leave the wire; what was    brimming: stop taking,
        cursor                        already on its way still fits       the cursor stays here

The socket itself is read without pause, because the answers to publishes come through it: a handler that waits for one
while its own messages block the way would wait for ever. A durable message that was not taken is not lost: the
subscription goes on from its cursor later, and the broker reads it from its log again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hubbub_protocol.filters import Filter
from hubbub_protocol.frames import Gap

from .cursor import Cursor
from .errors import fresh
from .message import Message
from .recent import Recent
from .stats import Stats

logger = logging.getLogger("hubbub")

HARD_FACTOR = 4
"""The hard mark, as a multiple of the soft one in bytes. It has to hold what a broker may have sent before it learns
that the subscription leaves the wire: its write buffer and the sockets' own. What does not fit is read twice."""

LOW_FRACTION = 4
"""The low mark is the soft one divided by this."""

MESSAGE_OVERHEAD_BYTES = 600
"""What a buffered message costs beside its data, in bytes, counted into the byte marks."""


class Supply(Protocol):
    """Who fills mailboxes, as far as a mailbox is concerned."""

    def behind(self, box: "Mailbox") -> None:
        """The soft mark was crossed."""

    def brimming(self, box: "Mailbox") -> None:
        """The hard mark was reached: give no more."""

    def drained(self, box: "Mailbox") -> None:
        """After `behind`: there is room again."""

    def leave(self, box: "Mailbox") -> None:
        """Nobody reads it any more."""


class Mailbox:
    """The messages of one subscription that its reader has not taken yet."""

    def __init__(
        self,
        topic: str,
        cursor: Cursor,
        supply: Supply,
        *,
        messages: int,
        bytes_soft: int,
        stats: Stats,
        recent: Recent,
        heard_max: int,
        on_gap: Callable[[Gap], None] | None = None,
        filter: Filter | None = None,
    ) -> None:
        self.topic = topic
        self.filter = filter
        """What of the topic it wants; None: everything."""
        self.cursor = cursor
        """Where to go on; while a feed serves this mailbox, the feed's is the one that counts."""
        self.on_gap = on_gap
        self.gaps = 0
        self.duplicates = 0
        self.had_ephemerals = False
        self.ready = asyncio.Event()
        """The broker took the subscription."""
        self.live = asyncio.Event()
        """The replay reached the head, once."""
        self.recent = recent
        self.heard: dict[tuple[str, str, str], None] = {}
        """What came from agents of this process and has not come from the broker yet."""
        self.closed = False
        self.on_end: Callable[[], object] = _nothing
        """Called once, when nothing more will come."""
        self.error: BaseException | None = None
        self._stats = stats
        self._heard_max = heard_max
        self._supply = supply
        self._soft = messages
        self._low = messages // LOW_FRACTION
        self._bytes_soft = bytes_soft
        self._bytes_hard = bytes_soft * HARD_FACTOR
        self._bytes_low = bytes_soft // LOW_FRACTION
        self._buffer: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._behind = False
        self._reconsidering = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def is_behind(self) -> bool:
        """Whether the soft mark was crossed and the low one not reached since."""
        return self._behind

    # In ---------------------------------------------------------------------------------------------------------

    def put(self, message: Message, size: int) -> None:
        """Take a message in, unless it was before."""
        key = (message.topic, message.sender, message.id)
        if not self.recent.add(key) or (self.heard and key in self.heard):
            self.duplicates += 1
            self._stats.duplicates += 1
            self.heard.pop(key, None)
            return
        self._append(message, size)

    def put_local(self, message: Message, size: int) -> None:
        """Take a message in that came from an agent of this process, and will come from the broker too."""
        if not message.ephemeral:
            self.expect_copy((message.topic, message.sender, message.id))
        self._append(message, size)

    def pass_over(self, message: Message) -> None:
        """A message of an agent of this process is not wanted here, and will not come from the broker either."""
        if not message.ephemeral:
            self.expect_copy((message.topic, message.sender, message.id))

    def expect_copy(self, key: tuple[str, str, str]) -> None:
        """Drop the message of that topic, sender and id when it comes from the broker."""
        if len(self.heard) >= self._heard_max:
            del self.heard[next(iter(self.heard))]
        self.heard[key] = None

    def has_seen(self, key: tuple[str, str, str]) -> bool:
        """Whether the message of that topic, sender and id was taken in lately."""
        return key in self.recent or key in self.heard

    def _append(self, message: Message, size: int) -> None:
        if message.ephemeral:
            self.had_ephemerals = True
        buffer = self._buffer
        buffer.append((message, size))
        self._bytes += size
        if self._waiters:
            self._wake_one()
        if len(buffer) >= self._soft or self._bytes >= self._bytes_soft:
            self._crowded()

    def _crowded(self) -> None:
        if not self._behind and not self._reconsidering:
            # One frame may bring more than the soft mark. The reader has its turn first: only if it does not use that
            # is it behind.
            self._reconsidering = True
            self._loop.call_soon(self._reconsider)
        if self._bytes >= self._bytes_hard:
            self._behind = True
            self._supply.brimming(self)

    def _reconsider(self) -> None:
        self._reconsidering = False
        if (
            not self.closed
            and not self._behind
            and (len(self._buffer) >= self._soft or self._bytes >= self._bytes_soft)
        ):
            self._behind = True
            self._supply.behind(self)

    def tell_gap(self, gap: Gap) -> None:
        """Count a gap and tell whoever wants to know."""
        self.gaps += 1
        self._stats.gaps += 1
        logger.warning("! gap in %s: %d to %d will not come (%s)", gap.topic, gap.first, gap.last, gap.reason)
        if self.on_gap is not None:
            try:
                self.on_gap(gap)
            except Exception:
                logger.exception("! on_gap failed")

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more will come. What is buffered can still be taken; then readers see `error`, or the end."""
        if self.closed:
            return
        self.closed = True
        self.error = error
        self.on_end()
        self.ready.set()
        self.live.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Out --------------------------------------------------------------------------------------------------------

    async def get(self) -> Message | None:
        """The next message, or None at the end. Cancelling it loses nothing.

        Raises:
            HubbubError: what ended the subscription, after what was buffered.
        """
        buffer = self._buffer
        while not buffer:
            if self.closed:
                if self.error is not None:
                    raise fresh(self.error)
                return None
            await self._wait()
        return self._pop()

    async def get_many(self, limit: int) -> list[Message]:
        """At least one message and at most `limit`, as far as they are there; none at the end. Else as `get`."""
        first = await self.get()
        if first is None:
            return []
        messages = [first]
        while self._buffer and len(messages) < limit:
            messages.append(self._pop())
        return messages

    def _pop(self) -> Message:
        message, size = self._buffer.popleft()
        self._bytes -= size
        if self._behind and len(self._buffer) <= self._low and self._bytes <= self._bytes_low:
            self._behind = False
            self._supply.drained(self)
        return message

    def clear(self) -> None:
        """Forget what is buffered."""
        self._buffer.clear()
        self._bytes = 0

    def leave(self) -> None:
        """Nobody reads any more: leave the wire."""
        if not self.closed:
            self.end()
            self._supply.leave(self)

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and self._buffer:
                self._wake_one()  # the message that woke this reader is for another now
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake_one(self) -> None:
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _nothing() -> None:
    """Nobody wants to know."""
