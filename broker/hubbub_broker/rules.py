"""What is set at run time and kept in the state of the broker's own group: policies, and schemas of message types.

    key in the state of `_hubbub`    value
    policy/NAME                      {"policy": {"pattern": …, "max_age": …}, "by": WHO, "at": WHEN, "note": WHY}
    schema/GROUP/TYPE                {"schema": {…}, "by": WHO, "at": WHEN, "note": WHY}

Promises:

- A change is looked at before it is made. If one document in it is wrong, the whole change is refused, with the field
  and what is allowed, and nothing is different.
- What was changed is in force before the change is answered: the next message anywhere goes by it.
- What is there when the broker starts is in force before its first message. It needs nobody else for that.
- A document that this program does not understand (another version wrote it) is reported and passed over; it stays
  where it is.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from hubbub_protocol.codec import decode_value
from hubbub_protocol.errors import BadFrame, ErrorCode
from hubbub_protocol.frames import Change

from .config import Settings
from .logs import get_logger
from .policy import Override, Policies
from .policy_rule import BadPolicy, PolicyLimits, read_policy
from .refusal import Refusal
from .schema import BadSchema, Schema, SchemaLimits, Schemas, read_schema
from .state import StateChange, States

log = get_logger(__name__)

KEPT_IN = "_hubbub"
"""The group in whose state they are."""

POLICY, SCHEMA = "policy", "schema"
"""The first segment of a key."""

NOTE_CHARS_MAX = 1000
"""Characters in which somebody may say why."""


class _Kept(msgspec.Struct):
    """A value. What a newer program adds beside these is passed over."""

    policy: Any = None
    schema: Any = None
    by: str | None = None
    at: float | None = None
    note: str | None = None


class Kept(NamedTuple):
    """A document that is in force, as it was written, and who wrote it."""

    document: Any
    version: int
    by: str | None
    at: float | None
    note: str | None


class Document(NamedTuple):
    """One key of the state, as it is kept."""

    version: int
    value: bytes


Follow = Callable[[Iterable[Override], Schemas], None]
"""Lets these hold from the next message on, and no others."""


class Rules:
    """What is set at run time, in this process.

    Args:
        base: the rules that the broker was started with.
        follow: called whenever something else is to hold.
    """

    def __init__(self, settings: Settings, base: Policies, follow: Follow) -> None:
        windows = [settings.dedup_window, *(rule.dedup_window for rule in base.rules)]
        self._policy_limits = PolicyLimits(settings.max_frame, max(windows))
        self._schema_limits = SchemaLimits(settings.max_schema_bytes)
        self._most = {POLICY: settings.max_policies, SCHEMA: settings.max_schemas}
        self._follow = follow
        self._policies: dict[str, Override] = {}
        self._schemas: dict[str, Schema] = {}
        self._keys = dict[str, None]()
        """Every key that there is, those that were passed over too: they count against the limits."""
        self.kept: dict[str, Kept] = {}
        """By key: what is in force."""
        self.skipped: dict[str, str] = {}
        """By key: what is there and not in force, and why not."""

    def serve(self, states: States) -> None:
        """Read what the log has, and go by its changes from now on."""
        self.load({key: Document(held.version, held.value) for key, held in states.held(KEPT_IN).items()})
        states.check(KEPT_IN, self.check)
        states.on_change(KEPT_IN, self.take)

    def load(self, documents: Mapping[str, Document]) -> None:
        """Let these hold, and nothing that held before."""
        for table in (self._policies, self._schemas, self._keys, self.kept, self.skipped):
            table.clear()
        for key, document in documents.items():
            self._put(key, document.version, document.value)
        self._apply()

    def take(self, change: StateChange) -> None:
        """A change is on stable storage."""
        keys = [key for key in (*change.set, *change.delete) if _kind(key)]
        for key in keys:
            self._drop(key)
            if key in change.set:
                self._put(key, change.version, msgspec.json.encode(change.set[key]))
        if keys:
            self._apply()

    def check(self, change: Change) -> None:
        """Look at a change that somebody wants to make.

        Raises:
            Refusal: what is wrong with it.
        """
        for key, value in change.set.items():
            if _kind(key):
                try:
                    self._read(key, 0, bytes(value), strict=True)
                except (BadPolicy, BadSchema) as error:
                    raise Refusal(ErrorCode.BAD_REQUEST, f"{key[:200]}: {error}") from None
        after = (self._keys.keys() - set(change.delete)) | change.set.keys()
        for kind, most in self._most.items():
            count = sum(1 for key in after if _kind(key) == kind)
            if count > most and any(_kind(key) == kind and key not in self._keys for key in change.set):
                plural, setting = ("policies", "max_policies") if kind == POLICY else ("schemas", "max_schemas")
                message = f"there would be {count} {plural}; the limit ({setting}) is {most}: take some out"
                raise Refusal(ErrorCode.TOO_LARGE, message, limit=setting)

    def read_policy(self, name: str, document: Any) -> Override:
        """A policy as it would be if it were set.

        Raises:
            BadPolicy: why it can't be.
        """
        return read_policy(name, document, 0, self._policy_limits)

    def read_schema(self, group: str, type: str, document: Any) -> Schema:
        """A schema as it would be if it were set.

        Raises:
            BadSchema: why it can't be.
        """
        return read_schema(group, type, document, 0, self._schema_limits)

    # ----------------------------------------------------------------------------------------------------------------

    def _put(self, key: str, version: int, value: bytes) -> None:
        if not _kind(key):
            return
        self._keys[key] = None
        try:
            kept, rule = self._read(key, version, value, strict=False)
        except (BadPolicy, BadSchema) as error:
            self.skipped[key] = str(error)
            log.warning("not understood, not in force", key=key, version=version, reason=str(error))
            return
        self.kept[key] = kept
        if isinstance(rule, Override):
            self._policies[key] = rule
        else:
            self._schemas[key] = rule

    def _drop(self, key: str) -> None:
        for table in (self._policies, self._schemas, self._keys, self.kept, self.skipped):
            table.pop(key, None)

    def _read(self, key: str, version: int, value: bytes, *, strict: bool) -> tuple[Kept, Override | Schema]:
        """What a key stands for.

        Raises:
            BadPolicy, BadSchema: why it stands for nothing.
        """
        kind, _, name = key.partition("/")
        try:
            found = msgspec.convert(decode_value(value), _Kept)
        except (BadFrame, msgspec.ValidationError) as error:
            raise BadPolicy(f"not of the form that is kept: {error}") from None
        if strict and len(found.note or "") > NOTE_CHARS_MAX:
            raise BadPolicy(f"`note` has at most {NOTE_CHARS_MAX} characters")
        document = found.policy if kind == POLICY else found.schema
        kept = Kept(document, version, found.by, found.at, found.note)
        if kind == POLICY:
            return kept, read_policy(name, document, version, self._policy_limits, strict=strict)
        group, _, type = name.partition("/")
        return kept, read_schema(group, type, document, version, self._schema_limits)

    def _apply(self) -> None:
        self._follow(self._policies.values(), Schemas(self._schemas.values()))


def _kind(key: str) -> str:
    """`policy`, `schema`, or nothing: the key is somebody else's."""
    kind, slash, _ = key.partition("/")
    return kind if slash and kind in (POLICY, SCHEMA) else ""
