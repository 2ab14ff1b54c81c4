"""Watching a shared state: a snapshot, then the changes behind it, and a snapshot again when history was lost."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from hubbub.errors import RequestTimeout
from hubbub.message import Message
from hubbub.subscription import Subscriber, Subscription
from hubbub_protocol import names
from hubbub_protocol.frames import Gap

from .client import Page, checked_pattern
from .entry import StateEntry

logger = logging.getLogger("hubbub")

TYPE = "state"
"""The `type` of the messages that tell of changes."""

Snapshot = Callable[[str], Awaitable[tuple[list[StateEntry], Page]]]


async def watch(subscriber: Subscriber, snapshot: Snapshot, topic: str, pattern: str) -> AsyncIterator[StateEntry]:
    """The entries that match, then their changes."""
    pattern = checked_pattern(pattern)
    matches = names.matcher(pattern) if names.is_pattern(pattern) else pattern.__eq__
    known: dict[str, int] = {}
    epoch = ""
    while True:
        try:
            entries, page = await snapshot(pattern)
        except RequestTimeout:
            continue  # the broker is away: nothing is missed by waiting
        if page.epoch != epoch:  # versions of another history can't be compared with these
            known = dict.fromkeys(known, 0)
            epoch = page.epoch
        for entry in _differences(known, entries, page.head):
            yield entry
        changes = _Changes(subscriber, topic, page)
        try:
            async for message in changes.subscription:
                for entry in _told(known, message, matches):
                    yield entry
                if changes.missed:
                    break
        finally:
            await changes.subscription.close()
        if not changes.missed:
            return


class _Changes:
    """The subscription to the changes behind a snapshot. It ends when any of them was missed."""

    def __init__(self, subscriber: Subscriber, topic: str, page: Page) -> None:
        self.missed = False
        self._closing: asyncio.Task[None] | None = None
        start = {"seq": page.head + 1, "epoch": page.epoch}
        self.subscription: Subscription = subscriber.subscribe(topic, start, on_gap=self._on_gap)

    def _on_gap(self, gap: Gap) -> None:
        logger.info("= %s: changes were missed (%s), read again", gap.topic, gap.reason)
        if not self.missed:
            self.missed = True
            self._closing = asyncio.create_task(self.subscription.close(), name="hubbub-watch-again")


def _differences(known: dict[str, int], entries: list[StateEntry], head: int) -> Iterator[StateEntry]:
    """What a snapshot says that is news, and the keys that are gone."""
    there = {entry.key for entry in entries}
    for key in [key for key in known if key not in there]:
        del known[key]
        yield StateEntry(key, None, head, deleted=True)
    for entry in entries:
        if known.get(entry.key) != entry.version:
            known[entry.key] = entry.version
            yield entry


def _told(known: dict[str, int], message: Message, matches: Callable[[str], bool]) -> Iterator[StateEntry]:
    """What a change says that is not in the snapshot yet."""
    if message.type != TYPE:
        return  # who is present there
    version = message.seq or 0
    told = message.data
    for key, value in told.get("set", {}).items():
        if matches(key) and known.get(key, 0) < version:
            known[key] = version
            yield StateEntry(key, value, version)
    for key in told.get("delete", ()):
        if 0 < known.get(key, 0) < version:
            del known[key]
            yield StateEntry(key, None, version, deleted=True)
