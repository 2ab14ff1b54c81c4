"""Access: from a credential to an identity, and the one way in for every door."""

import hmac
import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256
from time import time
from urllib.parse import parse_qsl

from hubbub_broker.config import Settings
from hubbub_broker.logs import get_logger
from hubbub_broker.metrics import Metrics

from .decision import passes, why_not
from .identity import CONTROL, OPEN, Identity, KnownBy
from .key import BadKey
from .keyring import Keyring
from .operation import Operation
from .token import BadToken, verify

log = get_logger(__name__)

KNOWN_KEPT = 4096
"""Tokens that are remembered as good, about 600 bytes each: verifying one costs a hundred times as much as that."""

TOKEN_PARAMETER = "access_token"  # noqa: S105 - the name of a parameter


class Denied(Exception):
    """The credential is not taken, or there is none. The message says why, and holds nothing of it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """One of a few fixed words, as the metric has it."""

    @property
    def expired(self) -> bool:
        """Whether a fresh token would be taken."""
        return self.reason == "expired"


class Access:
    """Who may do what, for one broker.

    Args:
        settings: the broker's.
        metrics: where refusals are counted.
        clock: seconds since the epoch.
        own: what the control plane is to show, where it is another process's too; made up if not given.

    Raises:
        BadKey: from `Access(...)`, if a key file can't be used.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time, own: str | None = None
    ) -> None:
        self.enabled = settings.authenticates
        """Whether anybody has to show a credential. Never changes, whatever becomes of the files."""
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._keyring = Keyring(settings)
        self.own = own or secrets.token_urlsafe(32)
        """What the control plane shows that runs inside this process. Nobody else is ever told."""
        self._own_digest = _digest(self.own)
        self._known: dict[bytes, Identity] = {}
        """Who showed good tokens, by the tokens' digests; until the keys change."""
        if self.enabled and not (self._keyring.keys or settings.bus_token or settings.bus_token_file):
            raise BadKey(f"{settings.token_keys}: holds no key, so nobody could ever connect")

    # Who is it ------------------------------------------------------------------------------------------------------

    def identify(self, credential: str | None, *, counted: bool = True) -> Identity:
        """Who shows this credential. A refusal is counted, unless somebody else is asked who counts it.

        Raises:
            Denied: if nobody that is known.
        """
        if credential and hmac.compare_digest(_digest(credential), self._own_digest):
            return CONTROL
        if not self.enabled:
            return OPEN
        try:
            if not credential:
                raise BadToken("missing", "a token is wanted: `Authorization: Bearer TOKEN`, or `token` in `hello`")
            return self._identify(credential)
        except BadToken as bad:
            if counted:
                refused = self._metrics.tokens_refused
                refused[bad.reason] = refused.get(bad.reason, 0) + 1
            raise Denied(bad.reason, str(bad)) from None

    def _identify(self, credential: str) -> Identity:
        bus_key = self._keyring.is_bus_token(credential) if len(credential) <= self._settings.max_token_bytes else None
        if bus_key is not None:
            admin = self._settings.bus_token_admin
            return Identity(KnownBy.BUS_TOKEN, metrics=True, admin=admin, key=bus_key)
        if not self._keyring.keys:
            raise BadToken("unknown", "the token is not this broker's")
        digest = _digest(credential)
        known = self._known.get(digest)
        if known is not None and self.ends_in(known) != 0:
            return known
        identity = self._verify(credential)
        if len(self._known) >= KNOWN_KEPT:
            self._known.clear()
        self._known[digest] = identity
        return identity

    def _verify(self, credential: str) -> Identity:
        return verify(
            credential,
            self._keyring.keys,
            now=self._clock(),
            leeway=self._settings.token_leeway,
            audience=self._settings.token_audience,
            max_bytes=self._settings.max_token_bytes,
        )

    def ends_in(self, identity: Identity) -> float | None:
        """Seconds until the identity ends, at least 0; None: never."""
        return None if identity.expires is None else max(0.0, identity.expires - self._clock())

    # May it ---------------------------------------------------------------------------------------------------------

    def why_not(self, identity: Identity, operation: Operation, target: str = "") -> str | None:
        """Why `identity` may not do that, None if it may. A refusal is counted."""
        why = why_not(identity, operation, target)
        if why is not None:
            denied = self._metrics.access_denied
            denied[operation] = denied.get(operation, 0) + 1
        return why

    def may(self, identity: Identity, operation: Operation, target: str = "") -> bool:
        """Whether `identity` may do that: for lists, which show what may be seen. Nothing is counted."""
        return why_not(identity, operation, target) is None

    def passes(self, identity: Identity, pattern: str) -> Callable[[str], bool] | None:
        """Which of the topics that match `pattern` may be delivered to `identity`; None: all of them."""
        return passes(identity, pattern)

    # Keys that change -----------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read key files again if they have changed. True if other keys are in force now."""
        try:
            changed = self._keyring.refresh()
        except BadKey as error:
            log.error("keys not read again", reason=str(error), in_force="those before")  # noqa: TRY400 - no bug
            return False
        if changed:
            self._known.clear()
            log.info("keys read again", keys=len(self._keyring.keys))
        return changed

    def in_force(self, identity: Identity) -> bool:
        """Whether what vouched for the identity still does."""
        return identity.known_by in (KnownBy.WORD, KnownBy.SELF) or self._keyring.vouches(identity.key)


def credential_of(authorization: Iterable[str], bus_token: Iterable[str], query: str) -> str | None:
    """The credential of a request: the first of `Authorization: Bearer`, `X-Bus-Token`, `?access_token=`.

    Args:
        authorization: the values of that header. Other schemes than Bearer are somebody else's business.
        bus_token: the values of `X-Bus-Token`.
        query: the query of the address, without `?`.
    """
    for value in authorization:
        scheme, _, rest = value.strip().partition(" ")
        if scheme.lower() == "bearer" and rest.strip():
            return rest.strip()
    for value in bus_token:
        if value.strip():
            return value.strip()
    if TOKEN_PARAMETER in query:
        for name, value in parse_qsl(query):
            if name == TOKEN_PARAMETER:
                return value
    return None


def _digest(credential: str) -> bytes:
    return sha256(credential.encode(errors="surrogatepass")).digest()
