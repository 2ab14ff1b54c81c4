"""Mosquitto over WebSocket, which keeps nothing at QoS 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .server import Running, free_port, program, running, version

_CONFIG = """listener {plain} 127.0.0.1
listener {port} 127.0.0.1
protocol websockets
allow_anonymous true
user root
persistence false
set_tcp_nodelay true
max_queued_messages 0
max_inflight_messages 0
max_connections -1
log_type error
"""


class Mosquitto:
    """No persistence, no limits to its queues, Nagle's algorithm off. A plain listener stands beside the WebSocket's,
    because 2.0.11 does not start without one.
    """

    @property
    def title(self) -> str:
        """Its version."""
        return f"Mosquitto {version([_server(), '-h']).rpartition(' ')[2]}"

    @contextmanager
    def start(self, folder: Path, options: Mapping[str, str]) -> Iterator[Running]:
        """Run it. It has no options."""
        assert not options
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(_CONFIG.format(port=port, plain=free_port()))
        with running([_server(), "-c", str(config)], port, folder) as process:
            yield process


def _server() -> str:
    return program("mosquitto", "apt-get install mosquitto")
