"""How many files the process may have open, and how many of them may be connections: a leaf.

Sockets and the log's files come out of one limit of the system (`ulimit -n`). Were it left to whoever comes first, a
crowd of agents would leave no descriptor for the next segment, and what is published would be refused. So the log's
share is kept from the sockets, and of what is left a tenth from WebSockets: operators still get through.
"""

import resource
from contextlib import suppress
from dataclasses import dataclass

UNLIMITED = 10_000_000
"""What counts as no limit."""
RAISED = 65_536
"""What is asked for where the system names no hard limit."""
OTHERS = 64
"""Files of a process that are neither sockets of clients nor a shard's: listeners, links, keys, logs, uploads."""


@dataclass(frozen=True, slots=True)
class Room:
    """What there is room for."""

    files: int
    """Open files that the system allows."""
    sockets: int
    """Sockets of clients, of HTTP and WebSocket together."""
    connections: int
    """WebSockets: `max_connections`, or fewer where there are not files enough."""
    fits: bool
    """Whether those are `max_connections`."""

    @property
    def why(self) -> str:
        """The limit, as who is turned away is told of it."""
        if self.fits:
            return f"max_connections: {self.connections} connections are open, the limit; try again later"
        return f"open files: {self.files} open files (ulimit -n) allow {self.connections} connections; try again later"


def raise_limit() -> None:
    """Have as many files open as the system lets this process ask for; those that it starts inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = RAISED if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # then it stays as it is, and `room_for` goes by that
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for(max_connections: int, log_files: int) -> Room:
    """How many sockets there is room for beside the log's own files. A quarter of the limit is theirs in any case."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = UNLIMITED if soft == resource.RLIM_INFINITY else soft
    sockets = max(files - log_files - OTHERS, files // 4)
    connections = min(max_connections, sockets - sockets // 10)
    return Room(files, sockets, connections, connections == max_connections)


def files_for(connections: int, log_files: int) -> int:
    """Open files with which there is room for so many connections."""
    sockets = connections + connections // 9 + 1
    return sockets + log_files + OTHERS
