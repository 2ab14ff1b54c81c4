"""Heartbeats: a ping to whoever has been silent, and the end of whoever stays so.

The connections are visited a slice at a time, in turn, so that each is seen once an interval and no visit is long.
"""

from collections import deque
from collections.abc import Callable

from hubbub_protocol.errors import CloseCode

from .session import Session
from .sessions import Sessions

PING = b"\x89\x00"
"""An unmasked ping frame without payload (RFC 6455, section 5.5.2)."""

_SLICES = 20
"""Visits into which an interval is divided."""


class Heartbeat:
    """Finds connections that are dead, and readers that take nothing."""

    def __init__(self, sessions: Sessions, clock: Callable[[], float]) -> None:
        self._sessions = sessions
        self._clock = clock
        self._interval = sessions.settings.heartbeat
        self._misses_max = sessions.settings.heartbeat_misses
        self._slow_timeout = sessions.settings.slow_timeout
        self._missed: dict[Session, int] = {}
        self._round: deque[Session] = deque()
        self._left = 0
        """Visits that are left of this interval."""

    @property
    def period(self) -> float:
        """Seconds between visits."""
        return (self._interval or 1.0) / _SLICES

    def silence(self, session: Session) -> float:
        """How long, in seconds, a ping to a session has stood unanswered, as of the last visit; 0.0 if none does."""
        return max(0, self._missed.get(session, 0) - 1) * self._interval

    def visit(self) -> None:
        """See the next slice of the connections."""
        if not self._left:
            self._round.extend(self._sessions.open)
            self._missed = {session: misses for session, misses in self._missed.items() if not session.closed}
            self._left = _SLICES
        share = -(-len(self._round) // self._left)
        self._left -= 1
        for _ in range(share):
            session = self._round.popleft()
            if not session.closed:
                self._see(session)

    def _see(self, session: Session) -> None:
        if not session.writable:
            # It can't have got a ping, so it owes no pong. How long it may take nothing is another limit.
            self._missed.pop(session, None)
            session.heard = True
            if self._slow_timeout and self._clock() - session.paused_since > self._slow_timeout:
                reason = f"took nothing for {self._slow_timeout:g} s (slow_timeout)"
                self._sessions.metrics.refusal_log.note(session.client, "slow_timeout", reason)
                session.close(CloseCode.TOO_SLOW, reason)
            return
        if not self._interval:
            return
        if session.heard:
            session.heard = False
            self._missed.pop(session, None)
            return
        misses = self._missed.get(session, 0) + 1
        if misses > self._misses_max:
            self._missed.pop(session, None)
            session.close(CloseCode.NO_HEARTBEAT, f"silent for {misses} heartbeats")
            return
        self._missed[session] = misses
        session.write(PING)
