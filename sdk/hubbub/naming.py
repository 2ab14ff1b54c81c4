"""What an application writes, and what it stands for: names of topics, and the broker's address."""

from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from hubbub_protocol import PATH, names
from hubbub_protocol.errors import BadName

from .errors import InvalidName

REMEMBERED_MAX = 10_000
"""Topic names whose check is remembered."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class Naming:
    """One agent's way of naming topics: a name without a group is one of its own group."""

    __slots__ = ("_group", "_topics")

    def __init__(self, group: str | None) -> None:
        self._group = group
        self._topics: dict[str, str] = {}

    def pattern(self, name: str) -> str:
        """The whole name of a topic or a pattern. `**` alone is every topic of every group.

        Raises:
            InvalidName: saying what is wrong with it.
        """
        whole = name
        if "/" not in name and name != "**":
            if self._group is None:
                raise InvalidName(f"{name[:80]!r} has no group: write GROUP/{name[:80]}, or give the agent a group")
            whole = f"{self._group}/{name}"
        return checked(names.check_pattern, whole)

    def topic(self, name: str) -> str:
        """The whole name of a topic. Cheap when it was asked for before.

        Raises:
            InvalidName: saying what is wrong with it.
        """
        whole = self._topics.get(name)
        if whole is None:
            whole = checked(names.check_topic, self.pattern(name))
            if len(self._topics) >= REMEMBERED_MAX:
                self._topics.clear()
            self._topics[name] = whole
        return whole


def checked(check: Callable[[str], str], name: str) -> str:
    """What `check` returns.

    Raises:
        InvalidName: where it raises the protocol's own error.
    """
    try:
        return check(name)
    except BadName as error:
        raise InvalidName(str(error)) from None


def endpoint_url(url: str) -> str:
    """Where the WebSocket is: `ws://host:port` and `http://host:port` get the usual path.

    Raises:
        ValueError: if it is no such address.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError(f"url is {url!r}: ws://HOST:PORT or wss://HOST:PORT is allowed")
    path = parts.path if parts.path not in ("", "/") else PATH
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
