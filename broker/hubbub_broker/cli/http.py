"""The broker's HTTP API, as commands ask it: with the standard library, since a command asks once."""

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit, urlunsplit
from urllib.request import ProxyHandler, Request, build_opener

from hubbub_protocol import DEFAULT_PORT

from .exit_code import ExitCode, Failure

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
    return _ask(url, f"{path}?{urlencode(query)}", None, timeout, token)


def post(url: str, path: str, body: Mapping[str, Any], timeout: float, token: str | None = None) -> Any:
    """The JSON that the broker at `url` answers to that body.

    Raises:
        Failure: if it can't be reached, or refuses.
    """
    return _ask(url, path, json.dumps(body).encode(), timeout, token)


def _ask(url: str, path: str, body: bytes | None, timeout: float, token: str | None) -> Any:
    base = base_of(url)
    headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
    request = Request(base + path, body, headers)  # noqa: S310 - base_of allows no other scheme
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    opener = build_opener(ProxyHandler({}))  # a broker is on this machine, or in this network
    try:
        with opener.open(request, timeout=timeout) as response:
            return json.loads(response.read())
    except HTTPError as error:
        raise Failure(_reason(error)) from None
    except (URLError, OSError, HTTPException) as error:
        raise unreachable(base, getattr(error, "reason", error)) from None
    except ValueError:
        raise Failure(f"what answers at {base} is no Hubbub broker", ExitCode.UNREACHABLE) from None


def unreachable(url: str, why: object) -> Failure:
    """There is no broker to talk to."""
    return Failure(f"no broker at {url} ({why}); start one with `hubbub serve`, or say --url", ExitCode.UNREACHABLE)


def _reason(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, TypeError):
        return f"the broker answers {error.code} {error.reason}"
