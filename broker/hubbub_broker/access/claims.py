"""What a signed token says, checked: claims (RFC 7519) to an `Identity`. Pure.

    sub         the agent's name
    groups      [group, ...]              where it may send to inboxes; its own is in the first
    pub         [topic or pattern, ...]   where it may publish
    subscribe   [topic or pattern, ...]   what it may read
    metrics     true                      may read the metrics
    admin       true                      is an operator
    exp         when it ends; there is no token without
    nbf         when it begins

What is left out is not granted. Claims that are not in this list mean nothing here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from hubbub_protocol.errors import BadName
from hubbub_protocol.names import check_agent, check_group, check_pattern

from .identity import Identity, KnownBy


class BadClaim(ValueError):
    """A claim that can't be used. The message names it."""


def identity_of(claims: Mapping[str, Any], key: str, leeway: float = 0.0) -> Identity:
    """Who the bearer of these claims is, until `leeway` seconds after their `exp`. Their time is not checked here.

    Raises:
        BadClaim: if one is missing or not what it has to be.
    """
    name = claims.get("sub")
    if not isinstance(name, str):
        raise BadClaim("`sub` is missing: the agent's name")
    try:
        check_agent(name)
    except BadName as error:
        raise BadClaim(f"`sub`: {error}") from None
    return Identity(
        KnownBy.TOKEN,
        name=name,
        groups=_names(claims, "groups", check_group),
        publish=_names(claims, "pub", check_pattern),
        subscribe=_names(claims, "subscribe", check_pattern),
        metrics=_flag(claims, "metrics"),
        admin=_flag(claims, "admin"),
        expires=_time(claims, "exp") + leeway,
        key=key,
    )


def begins(claims: Mapping[str, Any]) -> float:
    """When the claims begin to hold, in seconds since the epoch; 0.0 if they do not say.

    Raises:
        BadClaim: if `nbf` is no time.
    """
    return _time(claims, "nbf") if "nbf" in claims else 0.0


def _names(claims: Mapping[str, Any], claim: str, check: Callable[[str], str]) -> tuple[str, ...]:
    value = claims.get(claim, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadClaim(f"`{claim}` is a list of texts")
    try:
        return tuple(dict.fromkeys(map(check, value)))
    except BadName as error:
        raise BadClaim(f"`{claim}`: {error}") from None


def _flag(claims: Mapping[str, Any], claim: str) -> bool:
    value = claims.get(claim, False)
    if not isinstance(value, bool):
        raise BadClaim(f"`{claim}` is true or false")
    return value


def _time(claims: Mapping[str, Any], claim: str) -> float:
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadClaim(f"`{claim}` is missing, or no time: seconds since the epoch")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise BadClaim(f"`{claim}` is no time: seconds since the epoch")
    return seconds
