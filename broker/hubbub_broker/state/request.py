"""What may be asked of a state, checked: names, sizes, and what goes with a change."""

from collections.abc import Iterable
from math import isfinite

from hubbub_broker.config import Settings
from hubbub_broker.refusal import Refusal
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Change, Pub, Renew, With
from hubbub_protocol.limits import LAMPORT_MAX, STATE_KEYS_MAX, STATE_TTL_SECONDS_MAX
from hubbub_protocol.names import check_key, group_of

TTL_SECONDS_MIN = 0.1
"""Below that the broker would look too seldom."""


def check_change(change: Change, settings: Settings) -> None:
    """Check all that can be checked without looking at the state.

    Raises:
        Refusal: naming the limit.
        BadName: a key is none.
    """
    named = (change.set, change.delete, change.publish, change.expect if isinstance(change.expect, dict) else ())
    if not (change.set or change.delete or change.publish):
        raise _bad("a change has at least one of `set`, `delete` and `publish`")
    most = settings.state_change_keys
    if max(map(len, named)) > most or max(len(change.ttl), len(change.keep)) > most:
        raise _bad(f"a change names at most {most} keys, and as many messages (state_change_keys)")
    for key in change.delete:
        check_key(key)
    _check_values(change, settings)
    _check_versions(change.expect.items() if isinstance(change.expect, dict) else (("", change.expect),))
    for part in change.publish:
        if group_of(part.topic) != group_of(change.topic):
            raise _bad(f"{part.topic[:80]} is of another group than the state: publish to it apart from the change")
        if not part.data:
            raise _bad(f"the message to {part.topic[:80]} has no `data`")


def _check_values(change: Change, settings: Settings) -> None:
    if not change.set.keys().isdisjoint(change.delete):
        raise _bad("a key is in `set` and in `delete`")
    for key, value in change.set.items():
        check_key(key)
        if len(value) > settings.state_value:
            message = f"the value of {key} has {len(value)} bytes; the limit (state_value) is {settings.state_value}"
            raise Refusal(ErrorCode.TOO_LARGE, f"{message}: publish it, and keep its id here", limit="state_value")
    for key, seconds in change.ttl.items():
        if key not in change.set:
            raise _bad(f"`ttl` names {key[:80]}, which is not in `set`")
        if not (isfinite(seconds) and TTL_SECONDS_MIN <= seconds <= STATE_TTL_SECONDS_MAX):
            raise _bad(f"`ttl` is {TTL_SECONDS_MIN:g} to {STATE_TTL_SECONDS_MAX:.0f} seconds")
    for key in change.keep:
        if key not in change.set or key in change.ttl:
            raise _bad(f"`keep` names {key[:80]}, which has to be in `set`, and not in `ttl`")


def check_renewal(renew: Renew) -> None:
    """The same for keys that are to live on.

    Raises:
        Refusal: naming the limit.
        BadName: a key is none.
    """
    if not 0 < len(renew.keys) <= STATE_KEYS_MAX:
        raise _bad(f"`keys` are 1 to {STATE_KEYS_MAX}, each with its version")
    _check_versions(renew.keys.items())
    if not all(renew.keys.values()):
        raise _bad("a key at version 0 is not there: there is nothing to renew")


def to_pub(part: With, lc: int) -> Pub:
    """A message of a change, as if it had been published by itself."""
    return Pub(
        topic=part.topic,
        id=part.id,
        data=part.data,
        parent=part.parent,
        type=part.type,
        lc=lc,
        headers=part.headers,
        ttl=part.ttl,
        reply_to=part.reply_to,
        track=part.track,
    )


def _check_versions(versions: Iterable[tuple[str, int | None]]) -> None:
    for key, version in versions:
        if key:
            check_key(key)
        if version is not None and not 0 <= version <= LAMPORT_MAX:
            raise _bad("a version is 0 (nothing there), or what the broker said")


def _bad(message: str) -> Refusal:
    return Refusal(ErrorCode.BAD_REQUEST, message)
