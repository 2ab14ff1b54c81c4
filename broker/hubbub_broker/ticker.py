"""Work that recurs on the loop."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from hubbub_broker.logs import get_logger

log = get_logger(__name__)


class Ticker:
    """Calls `work` every `period` seconds until stopped. An error in it is logged and does not end it."""

    def __init__(self, loop: AbstractEventLoop, period: float, work: Callable[[], None]) -> None:
        self._loop = loop
        self._period = period
        self._work = work
        self._handle: TimerHandle | None = loop.call_later(period, self._tick)

    def stop(self) -> None:
        """Call it no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._handle = self._loop.call_later(self._period, self._tick)
        try:
            self._work()
        except Exception:
            log.exception("recurring work failed", work=getattr(self._work, "__qualname__", "?"))
