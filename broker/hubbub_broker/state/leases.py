"""Keys that go by themselves unless they are renewed: what leases are made of.

The broker's steady clock decides, and a key is there until its removal has its place in the log: whoever holds a lease
holds it in the same order in which all changes are made. Renewals live in memory only. After a restart every such key
has its whole time again, so one that was renewed never goes early; it may go later than without the restart.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush

from hubbub_broker.kinds import StateKind
from hubbub_broker.log import ShardLog

from .contents import Contents
from .figures import StateFigures
from .record import decode_ttl, encode_ttl, place, split

SPARE = 64
"""Entries of leases that are gone, for which it is not worth making the heap anew."""

Name = tuple[str, str]
"""The state's topic, and the key."""


class Lease:
    """One such key."""

    __slots__ = ("looked_at", "ttl", "until", "version")

    def __init__(self, version: int, ttl: float, until: float) -> None:
        self.version = version
        self.ttl = ttl
        self.until = until
        """By the loop's clock."""
        self.looked_at = until
        """When it is looked at next: its entry in the heap. Renewals only make `until` later, and leave this."""


class Leases:
    """Those of one shard. What is appended for them goes with the step that changes the key."""

    def __init__(self, log: ShardLog, contents: Contents, figures: StateFigures, clock: Callable[[], float]) -> None:
        self._log = log
        self._contents = contents
        self._figures = figures
        self._clock = clock
        self._leases: dict[Name, Lease] = {}
        self._due: list[tuple[float, Name]] = []
        """A heap with an entry for each lease, and fewer than twice as many in all: those of leases that are gone."""
        self.reload()

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, name: Name) -> bool:
        return name in self._leases

    def reload(self) -> None:
        """Know what the log has: at the start, and when a batch was lost. A lease that was known keeps its time."""
        self._figures.leases -= len(self._leases)
        before, self._leases = self._leases, {}
        now = self._clock()
        for where, body in self._log.states(StateKind.STATE_TTL):
            name = split(where)
            ttl = decode_ttl(body)
            lease = Lease(self._contents.version(*name), ttl, now + ttl)
            known = before.get(name)
            if known is not None and known.version == lease.version:
                lease.until = lease.looked_at = known.until
            self._leases[name] = lease
        self._due = [(lease.until, name) for name, lease in self._leases.items()]
        heapify(self._due)
        self._figures.leases += len(self._leases)

    def begin(self) -> None:
        """The broker takes connections from now on: before that nobody could renew."""
        now = self._clock()
        for lease in self._leases.values():
            lease.until = now + lease.ttl

    def left(self, name: Name) -> float | None:
        """Seconds until it goes; None: it stays."""
        lease = self._leases.get(name)
        return None if lease is None else max(0.0, lease.until - self._clock())

    def put(self, name: Name, version: int, ttl: float | None) -> None:
        """A key was set, with a time to live or without; the step goes on."""
        if ttl is None:
            self.drop(name)
            return
        if name not in self._leases:
            self._figures.leases += 1
        lease = self._leases[name] = Lease(version, ttl, self._clock() + ttl)
        heappush(self._due, (lease.until, name))
        if len(self._due) > 2 * len(self._leases) + SPARE:
            self._due = [(lease.looked_at, name) for name, lease in self._leases.items()]
            heapify(self._due)
        self._log.append_state(StateKind.STATE_TTL, place(*name), encode_ttl(ttl))

    def keep(self, name: Name, version: int) -> None:
        """A key was set that goes when it would have gone, if it goes by itself: nothing is written for it."""
        before = self._leases.get(name)
        if before is not None:
            lease = self._leases[name] = Lease(version, before.ttl, before.until)
            lease.looked_at = before.looked_at

    def drop(self, name: Name) -> None:
        """A key was deleted; the step goes on."""
        if self._leases.pop(name, None) is not None:
            self._figures.leases -= 1
            self._log.append_state(StateKind.STATE_TTL, place(*name), b"")

    def version(self, name: Name) -> int:
        """The version of a key that goes by itself; 0 when there is no such key."""
        lease = self._leases.get(name)
        return 0 if lease is None else lease.version

    def renew(self, name: Name) -> None:
        """Let one live its whole time again."""
        lease = self._leases[name]
        lease.until = self._clock() + lease.ttl
        self._figures.renewals += 1

    def over(self) -> list[tuple[Name, int]]:
        """Those whose time is over, each with its version. They are told of again until they are dropped."""
        now = self._clock()
        found: list[tuple[Name, int]] = []
        again: list[tuple[float, Name]] = []
        while self._due and self._due[0][0] <= now:
            at, name = heappop(self._due)
            lease = self._leases.get(name)
            if lease is None or lease.looked_at != at:
                continue  # gone, or put anew since
            if lease.until <= now:
                found.append((name, lease.version))
            else:
                lease.looked_at = lease.until
            again.append((lease.looked_at, name))
        for entry in again:
            heappush(self._due, entry)
        return found
