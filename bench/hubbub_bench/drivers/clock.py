"""Waking up at a time that was fixed beforehand, to a few microseconds where the system can."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
from collections.abc import Callable
from time import monotonic_ns

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_SECOND = 10**9


class Alarm:
    """Calls `ring` from the event loop at the time that was set last.

    An event loop's own timers are good to a millisecond, ten times what is measured here. On Linux a timer of the
    kernel wakes the loop; elsewhere the loop's own does, and the driver's lateness, which is reported, shows it.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            self._loop.add_reader(self._file, self._on_readable)

    def set(self, due: int) -> None:
        """Ring at `due`, in ns of the monotonic clock, instead of what was set before."""
        if self._file >= 0:
            spec = struct.pack("@qqqq", 0, 0, due // _SECOND, due % _SECOND)
            if self._libc.timerfd_settime(self._file, _ABSOLUTE, spec, None):
                raise OSError(ctypes.get_errno(), "timerfd_settime")
            return
        self.cancel()
        self._handle = self._loop.call_later(max(0, due - monotonic_ns()) / _SECOND, self._ring)

    def cancel(self) -> None:
        """Don't ring."""
        if self._handle is not None:
            self._handle.cancel()

    def close(self) -> None:
        """Give back what the system lent."""
        self.cancel()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            return  # it was set anew in between
        self._ring()
