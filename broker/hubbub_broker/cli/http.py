"""The broker's HTTP API, as commands ask it: with the standard library, since a command asks once."""

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from hubbub_protocol import DEFAULT_PORT

from .exit_code import ExitCode, Failure

_PLAIN = "/*@:=+~"
"""What of a path is not escaped: slashes, and what topics and patterns are made of."""

_SCHEMES = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def base_of(url: str) -> str:
    """`http://host:port` of a broker's address in any of its forms.

    Raises:
        Failure: if it is none.
    """
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise Failure(f"--url {url}: an address such as ws://127.0.0.1:{DEFAULT_PORT} is wanted", ExitCode.USAGE)
    return urlunsplit((scheme, parts.netloc, "", "", ""))


def get(url: str, path: str, query: Mapping[str, Any], timeout: float, token: str | None = None) -> Any:
    """The JSON that the broker at `url` answers.

    Raises:
        Failure: if it can't be reached, or refuses.
    """
    return ask("GET", url, path, query, timeout, token)


def post(url: str, path: str, body: Mapping[str, Any], timeout: float, token: str | None = None) -> Any:
    """The JSON that the broker at `url` answers to that body.

    Raises:
        Failure: if it can't be reached, or refuses.
    """
    return ask("POST", url, path, {}, timeout, token, body)


def ask(
    method: str,
    url: str,
    path: str,
    query: Mapping[str, Any],
    timeout: float,
    token: str | None = None,
    body: Any = None,
    more: Mapping[str, str] | None = None,
) -> Any:
    """The same for any method, with a body of JSON if there is one, and with `more` headers.

    Raises:
        Failure: likewise.
    """
    try:
        return json.loads(fetch(method, url, path, query, timeout, token, body, more))
    except ValueError:
        raise no_broker(url) from None


def fetch(
    method: str,
    url: str,
    path: str,
    query: Mapping[str, Any],
    timeout: float,
    token: str | None = None,
    body: Any = None,
    more: Mapping[str, str] | None = None,
) -> bytes:
    """The same as the text that it is: what agents wrote may have in it what Python does not read.

    Raises:
        Failure: likewise.
    """
    base = base_of(url)
    address = f"{base}{quote(path, safe=_PLAIN)}" + (f"?{urlencode(query)}" if query else "")
    headers = {"Accept": "application/json", **(more or {})}
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    request = Request(address, content, headers, method=method)  # noqa: S310 - base_of allows no other scheme
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = build_opener(ProxyHandler({}))  # a broker is on this machine, or in this network
    try:
        with opener.open(request, timeout=timeout) as response:
            found: bytes = response.read()
            return found
    except HTTPError as error:
        raise Failure(_reason(error)) from None
    except (URLError, OSError, HTTPException) as error:
        raise unreachable(base, getattr(error, "reason", error)) from None


def no_broker(url: str) -> Failure:
    """Something else answers."""
    return Failure(f"what answers at {base_of(url)} is no Hubbub broker", ExitCode.UNREACHABLE)


def unreachable(url: str, why: object) -> Failure:
    """There is no broker to talk to."""
    return Failure(f"no broker at {url} ({why}); start one with `hubbub serve`, or say --url", ExitCode.UNREACHABLE)


def _reason(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        return f"the broker answers {error.code} {error.reason}"
