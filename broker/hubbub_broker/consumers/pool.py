"""The members of a consumer: who is the least busy one that has room?"""

from heapq import heapify, heappop, heappush
from itertools import count

from xxhash import xxh3_64_intdigest

from .member import Member

_KEYS_KEPT = 10_000
"""Keys whose owner is remembered; it is worked out again for the others."""


class Pool:
    """Members in the order they came, and a queue of those with room by how much they have out.

    The queue may hold what is out of date; a member's newest ticket says which of its places there counts. So joining,
    leaving, settling and choosing cost the same with two members as with a thousand.
    """

    __slots__ = ("_count", "_owners", "_queue", "exclusive", "members")

    def __init__(self, *, exclusive: bool) -> None:
        self.members: dict[Member, None] = {}
        self.exclusive = exclusive
        self._queue: list[tuple[int, int, int, Member]] = []
        self._count = count()
        self._owners: dict[str, Member] = {}

    def join(self, member: Member) -> None:
        """One more."""
        self.members[member] = None
        self._owners.clear()
        for each in self.members if len(self.members) == 2 else (member,):
            self.changed(each)

    def leave(self, member: Member) -> None:
        """One less."""
        self.members.pop(member, None)
        if len(self.members) <= 1:
            self._queue.clear()
        member.gone = True
        self._owners.clear()

    def stop(self, member: Member) -> None:
        """It is to be given nothing more."""
        member.draining = True
        self._owners.clear()

    def demote(self, member: Member) -> None:
        """It let its time run out: no key is its own, and it is active for nothing, while there is another."""
        member.overdue = True
        self._owners.clear()
        if self.exclusive and member in self.members:  # when it is well again, it stands by behind the others
            del self.members[member]
            self.members[member] = None

    def trust(self, member: Member) -> None:
        """It has settled something, and counts as the others do."""
        member.overdue = False
        self._owners.clear()

    def changed(self, member: Member) -> None:
        """It has more room than before, or less."""
        if len(self.members) == 1:  # nobody to choose from
            return
        member.ticket = next(self._count)
        if member.has_room:
            heappush(self._queue, (len(member.leases), member.ticket, member.id, member))
            if len(self._queue) > 8 * len(self.members) + 64:
                self._queue = [entry for entry in self._queue if entry[1] == entry[3].ticket]
                heapify(self._queue)

    def pick(self, avoid: Member | None = None) -> Member | None:
        """The least busy member that has room; `avoid` only if there is no other. None if nobody has room."""
        if self.exclusive:
            active = self.active
            return active if active is not None and active.has_room else None
        if len(self.members) == 1:
            only = next(iter(self.members))
            return only if only.has_room else None
        first = self._top()
        if first is None or first is not avoid:
            return first
        entry = heappop(self._queue)
        second = self._top()
        heappush(self._queue, entry)
        return second or first

    def _top(self) -> Member | None:
        queue = self._queue
        while queue:
            _, ticket, _, member = queue[0]
            if ticket == member.ticket and member.has_room:
                return member
            heappop(queue)
        return None

    @property
    def active(self) -> Member | None:
        """Of an exclusive consumer: the one that gets everything, which is the first that is not overdue."""
        first = None
        for member in self.members:
            if not member.draining:
                if not member.overdue:
                    return member
                first = first or member
        return first

    def owner(self, key: str) -> Member | None:
        """Whose a key is, as long as the members stay the same and none of them is overdue.

        Each gets about as many keys (rendezvous).
        """
        found = self._owners.get(key)
        if found is None:
            raw = key.encode()
            there = [member for member in self.members if not member.draining]
            candidates = [member for member in there if not member.overdue] or there
            found = max(candidates, key=lambda member: xxh3_64_intdigest(raw, member.id), default=None)
            if found is not None:
                if len(self._owners) >= _KEYS_KEPT:
                    self._owners.clear()
                self._owners[key] = found
        return found
