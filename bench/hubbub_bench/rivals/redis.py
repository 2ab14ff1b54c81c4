"""Redis over TCP: it has no WebSocket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .server import Running, free_port, program, running, version


class Redis:
    """`append`: `always` to sync the append-only file before each answer; without it nothing is kept."""

    @property
    def title(self) -> str:
        """Its version."""
        words = version([_server(), "--version"]).split()
        return f"Redis {next(word[2:] for word in words if word.startswith('v='))}"

    @contextmanager
    def start(self, folder: Path, options: Mapping[str, str]) -> Iterator[Running]:
        """Run it."""
        port = free_port()
        append = options.get("append", "")
        durable = ["--appendonly", "yes", "--appendfsync", append] if append else ["--appendonly", "no"]
        command = [_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", *durable]
        command += ["--maxclients", "20000", "--client-output-buffer-limit", "pubsub 0 0 0", "--dir", str(folder)]
        folder.mkdir(parents=True, exist_ok=True)
        with running(command, port, folder) as process:
            yield process


def _server() -> str:
    return program("redis-server", "apt-get install redis-server")
