"""Token buckets and sliding windows: how often something may be done. Pure; time is passed in."""

from collections import deque


class TokenBucket:
    """Allows `rate` per second in the long run, and `burst` at once."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def take(self, now: float) -> float:
        """Use one token. 0.0 if there was one, else the seconds until there will be."""
        wait = self.wait(now, 1.0)
        if not wait:
            self._tokens -= 1
        return wait

    def wait(self, now: float, needed: float) -> float:
        """The seconds until `needed` tokens are there, which is 0.0 when they are. Uses none."""
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        return 0.0 if self._tokens >= needed else (needed - self._tokens) / self._rate

    def spend(self, amount: float) -> None:
        """Use so many tokens, be they there or not: what is owed has to come in before anything else passes."""
        self._tokens -= amount


class SlidingWindow:
    """Allows `most` in any `period` of seconds, whenever that begins. For what is rare: it notes each one's time."""

    __slots__ = ("_period", "_times")

    def __init__(self, most: int, period: float) -> None:
        self._period = period
        self._times: deque[float] = deque(maxlen=most)

    def take(self, now: float) -> float:
        """Note one more. 0.0 if it is allowed, else the seconds until it will be."""
        times = self._times
        if len(times) == times.maxlen:
            wait = times[0] + self._period - now
            if wait > 0:
                return wait
        times.append(now)
        return 0.0
