"""What the states of a shard hold, read from its log. Nothing is kept in memory that the log does not keep there."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import ShardLog
from hubbub_protocol.names import literal_prefix

from .record import Held, Totals, place

ROWS = 16
"""Keys that are read from the log at a time: few, because each may have a large value."""


class Page(NamedTuple):
    """Some keys of a state."""

    entries: list[tuple[str, Held]]
    more: str | None
    """Behind which key to go on; None when this is the end."""


class Contents:
    """Reads what was appended, durable or not: whoever hands it out has to wait until it is."""

    def __init__(self, log: ShardLog) -> None:
        self._log = log

    def get(self, topic: str, key: str) -> Held | None:
        """What a key holds."""
        body = self._log.state(StateKind.STATE, place(topic, key))
        return None if body is None else Held.decode(body)

    def version(self, topic: str, key: str) -> int:
        """The version of a key; 0 when it is not there."""
        held = self.get(topic, key)
        return 0 if held is None else held.version

    def totals(self, topic: str) -> Totals:
        """How large a state is."""
        body = self._log.state(StateKind.STATE_TOTALS, topic.encode())
        return Totals() if body is None else Totals.decode(body)

    def pick(self, topic: str, keys: Sequence[str], max_bytes: int) -> Page:
        """What some keys hold, until so many bytes are together, one at least."""
        found: list[tuple[str, Held]] = []
        size = 0
        for key in keys:
            held = self.get(topic, key)
            if held is None:
                continue
            if found and size + len(held.value) > max_bytes:
                return Page(found, found[-1][0])
            found.append((key, held))
            size += len(key) + len(held.value)
        return Page(found, None)

    def page(
        self, topic: str, pattern: str, matches: Callable[[str], bool], after: str, limit: int, max_bytes: int
    ) -> Page:
        """The keys that match, in their order, from behind `after` on: `limit` at most, and until so many bytes are
        together, one at least. At most `limit` keys are looked at beside them.
        """
        start = place(topic, "")
        skip = len(start)
        prefix = place(topic, literal_prefix(pattern))
        found: list[tuple[str, Held]] = []
        size = looked_at = 0
        while True:
            rows = self._log.states_after(StateKind.STATE, prefix, place(topic, after), ROWS)
            for whole, body in rows:
                key = whole[skip:].decode()
                looked_at += 1
                if matches(key):
                    held = Held.decode(body)
                    if found and size + len(held.value) > max_bytes:
                        return Page(found, after)
                    found.append((key, held))
                    size += len(key) + len(held.value)
                after = key
                if len(found) == limit or looked_at == 2 * limit:
                    return Page(found, after)
            if len(rows) < ROWS:
                return Page(found, None)
