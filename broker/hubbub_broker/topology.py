"""Which worker owns what, and where clients reach it: a leaf.

A shard belongs to the worker whose number is the shard's, modulo the number of workers. So the same data directory
opens with any number of them.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from hubbub_protocol import PATH
from hubbub_protocol.routing import worker_of

HOME = "_hubbub"
"""The group of the broker's own. The worker that owns its shard is the home worker: the register of agents is there."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The workers of a broker, seen by one of them."""

    own: int
    """The number of this worker, from 0."""
    workers: int
    shards: int
    ports: tuple[int, ...]
    """The own port of each worker."""
    urls: tuple[str, ...] = ()
    """The own address of each worker, as clients are to be told; empty: the host that they know, and `ports`."""

    def worker_of(self, group: str) -> int:
        """The worker that owns a group."""
        return worker_of(group, self.shards, self.workers)

    def owns(self, shard: int) -> bool:
        """Whether a shard is this worker's."""
        return shard % self.workers == self.own

    @property
    def home(self) -> int:
        """The home worker."""
        return self.worker_of(HOME)

    @property
    def is_home(self) -> bool:
        """Whether this is the home worker."""
        return self.home == self.own

    @property
    def others(self) -> tuple[int, ...]:
        """The workers besides this one."""
        return tuple(number for number in range(self.workers) if number != self.own)

    def url(self, worker: int, host: str, *, secure: bool) -> str:
        """The WebSocket address of a worker, for a client that reached this one as `host` (with or without a port)."""
        if self.urls:
            return self.urls[worker]
        return f"{'wss' if secure else 'ws'}://{bare_host(host)}:{self.ports[worker]}{PATH}"


def bare_host(host: str) -> str:
    """The host of a `Host` header, without its port; an IPv6 address keeps its brackets."""
    try:
        name = urlsplit(f"//{host}").hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1"
    return f"[{name}]" if ":" in name else name
