"""The agent of the control plane: an agent like any other, that asks the broker over HTTP, too."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urlencode, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from hubbub import Agent, HubbubError
from hubbub.options import Token
from hubbub.transport import Transport, WebSocketTransport

LOOK_SECONDS = 20.0
"""How long an answer over HTTP may take."""

CLOSE_SECONDS = 2.0
"""How long the plane tries to deliver what it said last."""

_SCHEMES = {"ws": "http", "wss": "https"}


class Client(Agent):
    """Connected to the broker that the control plane is for."""

    def __init__(self, name: str, url: str, token: Token, transport: Transport | None) -> None:
        super().__init__(
            name, url=url, token=token, transport=transport, local=False, control=False, drain=CLOSE_SECONDS
        )
        self._tls = transport.tls if isinstance(transport, WebSocketTransport) else None

    async def look(self, path: str, query: Mapping[str, Any]) -> Any:
        """The JSON that the broker answers to a GET.

        Raises:
            HubbubError: it does not, or refuses.
        """
        token = await self._current_token()
        try:
            return await asyncio.to_thread(_get, self.url, path, query, token, self._tls)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise HubbubError(f"the broker does not answer {path}: {error}") from error


def _get(url: str, path: str, query: Mapping[str, Any], token: str | None, tls: ssl.SSLContext | None) -> Any:
    parts = urlsplit(url)
    address = urlunsplit((_SCHEMES[parts.scheme], parts.netloc, quote(path), urlencode(query), ""))
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = Request(address, headers=headers)  # noqa: S310 - an agent's address has no other scheme
    handlers = [ProxyHandler({}), HTTPSHandler(context=tls)]  # a broker is on this machine, or in this network
    with build_opener(*handlers).open(request, timeout=LOOK_SECONDS) as response:
        return json.loads(response.read())
