"""Signed tokens: JSON Web Tokens (RFC 7519), signed and verified by PyJWT. Time and keys are passed in."""

from collections.abc import Mapping
from typing import Any

import jwt

from .claims import BadClaim, begins, identity_of
from .identity import Identity
from .key import Key

_OPTIONS: Any = {
    "verify_signature": True,
    "verify_exp": False,  # time is checked here, by the clock that is passed in
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,  # checked here: a token for nobody in particular is not one for us
    "verify_iss": False,
    "verify_sub": False,  # `claims` does, and more
    "verify_jti": False,
}


class BadToken(Exception):
    """The token is not taken. The message says why, and holds nothing of it.

    Args:
        reason: one of a few fixed words, for the metric.
        message: for whoever sent it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def expired(self) -> bool:
        """Whether a fresh token of the same issuer would be taken."""
        return self.reason == "expired"


def sign(key: Key, claims: Mapping[str, Any]) -> str:
    """A token. The claims go in as they are."""
    return jwt.encode(
        dict(claims), key.material, algorithm=key.algorithm, headers={"kid": key.id} if key.id is not None else None
    )


def verify(
    text: str, keys: Mapping[str | None, Key], *, now: float, leeway: float, audience: str, max_bytes: int
) -> Identity:
    """Who the bearer of the token is.

    Args:
        text: the token as it came.
        keys: the keys in force, by id. A token that names none is taken if there is only one.
        now: seconds since the epoch.
        leeway: seconds by which the issuer's clock may differ.
        audience: what `aud` has to name, if not empty.
        max_bytes: a longer token is not even looked at.

    Raises:
        BadToken: if it is not good.
    """
    if len(text) > max_bytes:
        raise BadToken("too_long", f"the token is longer than {max_bytes} bytes (max_token_bytes)")
    key = _key_for(text, keys)
    claims = decode(text, key)
    if audience and audience not in _audiences(claims):
        raise BadToken("audience", "the token is for somebody else: its `aud` does not name this broker")
    try:
        identity = identity_of(claims, key.fingerprint, leeway)
        begin = begins(claims)
    except BadClaim as error:
        raise BadToken("claims", f"the token's claim {error}") from None
    assert identity.expires is not None
    if now >= identity.expires:
        raise BadToken("expired", f"the token expired {now - identity.expires + leeway:.0f} s ago")
    if now < begin - leeway:
        raise BadToken("not_yet", f"the token begins to hold in {begin - now:.0f} s")
    return identity


def decode(text: str, key: Key) -> dict[str, Any]:
    """The claims of a token that `key` signed, whatever they say.

    Raises:
        BadToken: if it is no token, or `key` did not sign it.
    """
    try:
        claims: dict[str, Any] = jwt.decode(text, key.verifier, algorithms=[key.algorithm], options=_OPTIONS)
    except jwt.InvalidAlgorithmError:
        raise BadToken("signature", f"the token is not signed by {key.algorithm}, which its key is for") from None
    except jwt.InvalidSignatureError:
        raise BadToken("signature", "the token's signature is wrong") from None
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _malformed() from None
    return claims


def key_id_of(text: str) -> str | None:
    """Which key a token says that it was signed with. Nothing that it says is to be believed yet.

    Raises:
        BadToken: if it is no token.
    """
    try:
        kid = jwt.get_unverified_header(text).get("kid")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _malformed() from None
    if kid is not None and not isinstance(kid, str):
        raise _malformed()
    return kid


def _key_for(text: str, keys: Mapping[str | None, Key]) -> Key:
    kid = key_id_of(text)
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    key = keys.get(kid)
    if key is None:
        what = "names no key (`kid`)" if kid is None else "names a key that is not in force"
        raise BadToken("unknown_key", f"the token {what}")
    return key


def _audiences(claims: Mapping[str, Any]) -> list[Any]:
    value = claims.get("aud")
    return value if isinstance(value, list) else [value]


def _malformed() -> BadToken:
    return BadToken("malformed", "the token is not one that this broker takes")
