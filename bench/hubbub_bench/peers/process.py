"""A Hubbub broker in a process of its own, on a directory and a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from .address import Address

START_SECONDS = 60.0
"""How long a broker may take to be ready: on 10 GB of history it is seconds."""
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.002


class PeerError(Exception):
    """A broker did not start or stop as it should."""


class BrokerProcess:
    """`with` it the broker runs; it is ready when the block begins, and stopped in order (SIGTERM) at its end.

    It has its default settings, whatever HUBBUB_ variables are set, but for `settings`.
    """

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.address = Address("127.0.0.1", _free_port())
        self.start_seconds = 0.0
        """From starting the process, the interpreter's own start included, to `/v1/ready` answering 200."""
        self._directory = directory
        self._settings = settings
        self._log = directory.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        sets = [word for name, value in self._settings.items() for word in ("--set", f"{name}={value}")]
        where = ["--data-dir", str(self._directory), "--port", str(self.address.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HUBBUB_")}
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        began = monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hubbub_broker", "serve", *where, "--log-level", "warning", *sets],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_ready(began + START_SECONDS)
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        self.start_seconds = monotonic() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGTERM)

    def _wait_ready(self, deadline: float) -> None:
        while not self._ready():
            assert self._process is not None
            if self._process.poll() is not None:
                raise PeerError(f"the broker ended at once: {self._last_words()}")
            if monotonic() > deadline:
                raise PeerError(f"the broker was not ready in {START_SECONDS:.0f} s: {self._last_words()}")
            sleep(_POLL_SECONDS)

    def _ready(self) -> bool:
        connection = HTTPConnection(self.address.host, self.address.port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/v1/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-1000:].strip() or "(it said nothing)"

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PeerError(f"the broker did not stop in {STOP_SECONDS:.0f} s") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
