"""Hubbub as its users run it: limits, dedup and metrics on, and a signed token from every client."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hubbub_broker.access.key import secret_key
from hubbub_broker.access.token import sign
from hubbub_protocol import __version__

from .server import Running, free_port, running

TOKENS = 6000
"""As many as the largest work has clients."""
_SECRET = "the secret of a benchmark, which lives as long"  # noqa: S105 - it guards nothing
_TEMPLATE = """path=/v1/ws
header=Authorization: Bearer {token}
hello={"op":"hello","agent":"lg-{client}"}
hello_ok="op":"welcome"
sub={"op":"sub","topic":"{topic}","rid":{n}}
sub_ok="op":"ok"
replay_sub={"op":"sub","topic":"{topic}","rid":{n},"from":"all"}
pub={"op":"pub","topic":"{topic}","id":"{id}","data":"{payload}"%s}
pub_ack="op":"ok"
pub_ack_id="id":"
deliver="op":"msg"
error="op":"err"
split=1
"""


class Hubbub:
    """One process, one worker, on default settings."""

    def __init__(self) -> None:
        self._tokens = ""

    @property
    def title(self) -> str:
        """Its version."""
        return f"Hubbub {__version__}"

    @contextmanager
    def start(self, folder: Path, options: Mapping[str, str]) -> Iterator[Running]:
        """`durable`: `yes` or `no`, which is what its publishers ask for. Others are settings of the broker."""
        folder.mkdir(parents=True, exist_ok=True)
        durable = options.get("durable", "yes") == "yes"
        template, tokens, secret = folder / "wire.tmpl", folder / "tokens", folder / "key.secret"
        template.write_text(_TEMPLATE % ("" if durable else ',"ephemeral":true'))
        tokens.write_text(self._signed())
        secret.write_text(_SECRET)
        port = free_port()
        settings = {name: value for name, value in options.items() if name != "durable"}
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "hubbub_broker", "serve", "--data-dir", str(folder / "data")]
        command += ["--port", str(port), "--log-level", "warning", "--set", f"token_keys={secret}", *sets]
        flags = ["--proto", "json-ws", "--template", str(template), "--tokens", str(tokens)]
        with running(command, port, folder, [*flags, "--topic-prefix", "bench/t"]) as broker:
            yield broker

    def _signed(self) -> str:
        if not self._tokens:
            key = secret_key(_SECRET, "key")
            claims = {"groups": ["bench"], "pub": ["bench/**"], "subscribe": ["bench/**"], "exp": time.time() + 86400}
            self._tokens = "".join(sign(key, {"sub": f"lg-{number}", **claims}) + "\n" for number in range(TOKENS))
        return self._tokens
