"""What has failed in a place and is not settled, in pages: what changes is written by the page, not whole."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

PAGE = 32
"""Messages of one page: the reasons of so many are written together, 32 KiB of them at most by default."""


class Failure(msgspec.Struct, array_like=True):
    """What is known of a message that was delivered and not settled."""

    deliveries: int
    """How often it was delivered."""
    failures: int
    """How often that went wrong."""
    first: float
    """When it first failed, in seconds since the Unix epoch."""
    last: float
    reason: str
    due: float = 0.0
    """When it is to be delivered again, likewise: that holds over a restart."""


class Failures:
    """The failures of one place, by seq."""

    __slots__ = ("_pages", "stale")

    def __init__(self) -> None:
        self._pages: dict[int, dict[int, Failure]] = {}
        self.stale: set[int] = set()
        """Pages that are not in the log as they are here."""

    def __contains__(self, seq: int) -> bool:
        return self.get(seq) is not None

    def __bool__(self) -> bool:
        return bool(self._pages)

    @property
    def pages(self) -> list[int]:
        """Where there are any."""
        return sorted(self._pages)

    def page(self, number: int) -> dict[int, Failure]:
        """Those of one page."""
        return self._pages.get(number, {})

    def get(self, seq: int) -> Failure | None:
        """What is known of a message that failed."""
        page = self._pages.get(seq // PAGE)
        return None if page is None else page.get(seq)

    def put(self, seq: int, failure: Failure) -> None:
        """It has failed (again)."""
        number = seq // PAGE
        self._pages.setdefault(number, {})[seq] = failure
        self.stale.add(number)

    def pop(self, seq: int) -> Failure | None:
        """It is settled, or begins anew."""
        number = seq // PAGE
        page = self._pages.get(number)
        found = None if page is None else page.pop(seq, None)
        if found is not None:
            self.stale.add(number)
            if not page:
                del self._pages[number]
        return found

    def load(self, failures: Iterable[tuple[int, Failure]], *, stale: bool) -> None:
        """Take what the log has. `stale`: it stands there in another form."""
        for seq, failure in failures:
            number = seq // PAGE
            self._pages.setdefault(number, {})[seq] = failure
            if stale:
                self.stale.add(number)
