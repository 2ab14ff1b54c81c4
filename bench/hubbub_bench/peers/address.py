"""Where a broker's WebSocket is."""

from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from hubbub_protocol import DEFAULT_PORT, PATH


class BadAddress(Exception):
    """Not the address of a WebSocket."""


@dataclass(frozen=True)
class Address:
    """A WebSocket's address in parts."""

    host: str
    port: int
    path: str = PATH
    tls: bool = False
    token: str = ""
    """Vouches for everyone who connects, where the broker wants that."""
    agent: str = ""
    """The name that everyone has, where the token is for one; else all have names of their own."""

    @property
    def url(self) -> str:
        """As the SDK takes it."""
        return f"{'wss' if self.tls else 'ws'}://{self.host}:{self.port}{self.path}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """From `ws://HOST[:PORT][/PATH]`, or wss.

        Raises:
            BadAddress: if it is anything else.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadAddress(f"{url}: {error}") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise BadAddress(f"{url}: an address is ws://HOST:PORT or wss://HOST:PORT")
        tls = parts.scheme == "wss"
        path = PATH if parts.path in ("", "/") else parts.path
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.hostname, port or (443 if tls else DEFAULT_PORT), path + query, tls)

    def vouched_for(self, token: str, agent: str) -> Self:
        """The same place, for whoever has this token."""
        return replace(self, token=token, agent=agent)
