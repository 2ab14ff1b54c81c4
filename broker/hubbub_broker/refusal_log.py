"""What the broker's log says of refusals at limits: who, what, which limit, how often.

A storm of refusals is no storm of lines: one for each client and limit every `INTERVAL` seconds, the first at once, and
`LINES_MAX` a second for all together. `times` says of how many refusals a line tells.
"""

from time import monotonic

from hubbub_broker.logs import get_logger

log = get_logger(__name__)

INTERVAL = 10.0
LINES_MAX = 20
CLIENTS_MAX = 1000
"""Clients and limits that are told apart at a time. Those beyond are told of together."""


class _Told:
    """One client at one limit."""

    __slots__ = ("next", "reason", "times", "topic")

    def __init__(self, topic: str | None, reason: str, next: float) -> None:
        self.topic = topic
        self.reason = reason
        self.times = 1
        self.next = next


class RefusalLog:
    """Told of every refusal at a limit. `sweep` has to be called once a second."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}
        self._lines = 0
        """Written since the last sweep."""
        self._others = 0

    def note(self, client: str | None, limit: str, reason: str, topic: str | None = None) -> None:
        """A limit has refused something to a client."""
        key = (client or "", limit)
        told = self._told.get(key)
        if told is None and len(self._told) >= CLIENTS_MAX:
            self._others += 1
        elif told is None:
            told = self._told[key] = _Told(topic, reason, monotonic() + INTERVAL)
            self._tell(key, told)
        else:
            told.times += 1
            told.topic, told.reason = topic, reason

    def sweep(self) -> None:
        """Tell what has come together since."""
        now = monotonic()
        self._lines = 0
        for key, told in list(self._told.items()):
            if told.next > now:
                continue
            if not told.times:
                del self._told[key]
            elif self._lines < LINES_MAX:  # else with the next sweep
                told.next = now + INTERVAL
                self._tell(key, told)
        if self._others and self._lines < LINES_MAX:
            log.warning("refused to others", times=self._others)
            self._others = 0

    def _tell(self, key: tuple[str, str], told: _Told) -> None:
        if self._lines >= LINES_MAX:
            return
        self._lines += 1
        client, limit = key
        where = {} if told.topic is None else {"topic": told.topic}
        log.warning("refused", client=client, limit=limit, **where, reason=told.reason, times=told.times)
        told.times = 0
