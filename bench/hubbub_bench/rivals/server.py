"""A server's process: started, waited for, stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Protocol

START_SECONDS = 30.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.01


class NotThere(Exception):
    """A server, or the driver, can't be used here. The message says what is missing and how to get it."""


class ServerError(Exception):
    """A server did not start or stop as it should."""


@dataclass(frozen=True)
class Running:
    """A server that takes connections, and what the driver is to be told of it."""

    port: int
    pid: int
    flags: tuple[str, ...] = ()


class Rival(Protocol):
    """A server beside which Hubbub is measured, or Hubbub itself."""

    @property
    def title(self) -> str:
        """Its name and version.

        Raises:
            NotThere: if it is not installed.
        """
        ...

    def start(self, folder: Path, options: Mapping[str, str]) -> AbstractContextManager[Running]:
        """Run it on an empty folder while the block lasts.

        Raises:
            NotThere: if it is not installed.
            ServerError: if it does not start.
        """
        ...


def program(name: str, how: str) -> str:
    """The path of a program.

    Raises:
        NotThere: saying how to get it.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin")
    if found is None:
        raise NotThere(f"{name} is not installed: {how}")
    return found


@contextmanager
def running(command: Sequence[str], port: int, folder: Path, flags: Sequence[str] = ()) -> Iterator[Running]:
    """The command's process, once it takes connections on the port."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}
    said = folder / "server.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(process, port, said)
        yield Running(port, process.pid, tuple(flags))
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise ServerError(f"it ended at once: {said.read_text(errors='replace')[-500:].strip()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if monotonic() > deadline:
                raise ServerError(f"it takes no connections on port {port}") from None
            sleep(_POLL_SECONDS)
        else:
            return


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def version(command: Sequence[str]) -> str:
    """What a program says of its version, in its first line."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]
