"""`hubbub token`: keys, tokens, and what a token says. All of it without a broker."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubbub_broker.quantity import parse_duration
from hubbub_protocol.errors import BadName

from .exit_code import ExitCode, Failure, ends_well
from .output import emit, note, printable

if TYPE_CHECKING:
    from hubbub_broker.access.key import Key

_ALGORITHMS = ("EdDSA", "ES256", "RS256", "HS256")

KeyFile = Annotated[Path, typer.Option("--key-file", "-k", help="The key: a JSON Web Key, PEM or secret; or several.")]
KeyId = Annotated[str | None, typer.Option("--key-id", help="Which of the keys in the file.")]


@ends_well
def token_key(
    algorithm: Annotated[str, typer.Option(help=f"{', '.join(_ALGORITHMS)}.")] = "EdDSA",
    id: Annotated[str | None, typer.Option("--id", help="The key's id; made up of today's date if left out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there, readable by you alone.")] = None,
    public: Annotated[Path | None, typer.Option(help="Make no key: print what a broker needs of this one.")] = None,
) -> None:
    """Make a key that signs tokens, as a JSON Web Key.

    With EdDSA, ES256 or RS256 the broker gets the public part alone (--public), and can't make tokens. An HS256 secret
    is the same at both ends.

    Examples:
      hubbub token key --id 2026-01 --out signing.jwk
      hubbub token key --public signing.jwk > keys/2026-01.jwk
      hubbub token key --algorithm HS256 --out keys/shared.jwk
    """
    from hubbub_broker.access.key import BadKey, make_key, public_jwk

    if public is not None:
        try:
            emit(json.dumps(public_jwk(_only_key(public, None))))
        except BadKey as error:
            raise Failure(str(error)) from None
        return
    if algorithm not in _ALGORITHMS:
        raise Failure(f"--algorithm {algorithm}: one of {', '.join(_ALGORITHMS)} is wanted", ExitCode.USAGE)
    text = json.dumps(make_key(algorithm, id or f"{datetime.now(UTC):%Y-%m-%d}", secrets.token_bytes(32)))
    if out is None:
        emit(text)
        return
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise Failure(f"{out}: {error.strerror or error}") from None
    note(f"{out}: keep it to yourself")


@ends_well
def token_create(
    key_file: KeyFile,
    agent: Annotated[str, typer.Option("--agent", "-a", help="Whose it is.")],
    group: Annotated[list[str] | None, typer.Option("--group", "-g", help="A group of the agent; repeatable.")] = None,
    publish: Annotated[
        list[str] | None, typer.Option(help="Topic or pattern that it may publish to; without any, its groups' all.")
    ] = None,
    subscribe: Annotated[
        list[str] | None, typer.Option(help="Topic or pattern that it may read; without any, its groups' all.")
    ] = None,
    nothing: Annotated[bool, typer.Option("--nothing", help="Nothing of its groups but what is given.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="It may read the metrics.")] = False,
    admin: Annotated[bool, typer.Option("--admin", help="It is an operator.")] = False,
    expires: Annotated[str, typer.Option(help="How long it holds: 90s, 24h, 30d.")] = "24h",
    starts: Annotated[str, typer.Option(help="In how long it begins to hold.")] = "0s",
    audience: Annotated[str | None, typer.Option(help="The broker's token_audience.")] = None,
    key_id: KeyId = None,
) -> None:
    """Sign a token for an agent, and print it.

    Examples:
      hubbub token create -k signing.jwk --agent joe --group research --expires 24h
      hubbub token create -k signing.jwk --agent probe --subscribe 'research/conv-42'
      hubbub token create -k signing.jwk --agent prometheus --metrics --expires 365d
      hubbub token create -k signing.jwk --agent root --admin --expires 1h
    """
    from hubbub_broker.access.claims import BadClaim, identity_of
    from hubbub_broker.access.token import sign

    key = _only_key(key_file, key_id)
    if not key.signs:
        raise Failure(f"{key_file}: a public key signs nothing: give the one that `hubbub token key` made")
    groups = list(dict.fromkeys(group or []))
    whole = [] if nothing else [f"{name}/**" for name in groups]
    now = int(time.time())
    begin = now + int(_seconds("--starts", starts))
    claims: dict[str, Any] = {
        "sub": agent,
        "groups": groups,
        "pub": publish or whole,
        "subscribe": subscribe or whole,
        "iat": now,
        "exp": begin + max(1, int(_seconds("--expires", expires))),
    }
    claims |= {"nbf": begin} if begin > now else {}
    claims |= {name: True for name, given in (("metrics", metrics), ("admin", admin)) if given}
    claims |= {"aud": audience} if audience is not None else {}
    try:
        identity_of(claims, "")
    except (BadClaim, BadName) as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    emit(sign(key, claims))


@ends_well
def token_inspect(
    token: Annotated[str, typer.Argument(help="The token; - reads it from stdin.")] = "-",  # noqa: S107 - no token
    key_file: Annotated[
        Path | None, typer.Option("--key-file", "-k", help="The key, or the broker's directory of keys.")
    ] = None,
    audience: Annotated[str, typer.Option(help="The broker's token_audience.")] = "",
    leeway: Annotated[str, typer.Option(help="The broker's token_leeway.")] = "5s",
) -> None:
    """Say what a token says, and whether it is good. Exit code 0 only if it is.

    Without a key nothing can be verified, and that is said.

    Examples:
      hubbub token inspect -k keys "$TOKEN"
      pbpaste | hubbub token inspect
    """
    text = (sys.stdin.read() if token == "-" else token).strip()  # noqa: S105 - likewise
    _show(_read(text))
    verdict = _verdict(text, key_file, audience, _seconds("--leeway", leeway))
    emit(f"verdict    {verdict or 'valid'}")
    if verdict is not None:
        raise typer.Exit(ExitCode.FAILED)


def _verdict(text: str, key_file: Path | None, audience: str, leeway: float) -> str | None:
    """Why the token is not good, or None."""
    from hubbub_broker.access.token import BadToken, verify

    if key_file is None:
        return "NOT VERIFIED: no key was given, so anybody could have written this (--key-file)"
    keys = {key.id: key for key in _keys(key_file)}
    try:
        verify(text, keys, now=time.time(), leeway=leeway, audience=audience, max_bytes=len(text))
    except BadToken as bad:
        return f"{'EXPIRED' if bad.expired else 'INVALID'}: {bad}"
    return None


def _read(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, as they stand there."""
    import jwt

    try:
        found = jwt.decode_complete(text, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise Failure("this is no JSON Web Token") from None
    return found["header"], found["payload"]


def _show(parts: Iterable[Mapping[str, Any]]) -> None:
    for part in parts:
        for name, value in part.items():
            shown = json.dumps(value, ensure_ascii=False)
            if name in ("exp", "nbf", "iat") and isinstance(value, int | float) and not isinstance(value, bool):
                shown += _when(value)
            emit(f"{printable(name).ljust(10)} {printable(shown)}")


def _when(seconds: float) -> str:
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    left = int(seconds - time.time())
    distance = timedelta(seconds=abs(left))
    return f"   {date:%Y-%m-%d %H:%M:%S} UTC, {f'in {distance}' if left >= 0 else f'{distance} ago'}"


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Failure(f"{option} {text}: {error}", ExitCode.USAGE) from None


def _keys(path: Path) -> list[Key]:
    from hubbub_broker.access.key import BadKey, read_keys

    try:
        return read_keys(path)
    except BadKey as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"{path}: can't read it: {error.strerror or error}") from None


def _only_key(path: Path, id: str | None) -> Key:
    """The key that is meant."""
    keys = [key for key in _keys(path) if id is None or key.id == id]
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise Failure(f"{path}: holds no key" + (f" with the id {id}" if id is not None else ""))
    names = ", ".join(str(key.id) for key in keys)
    raise Failure(f"{path}: holds several keys ({names}): say which (--key-id)", ExitCode.USAGE)
