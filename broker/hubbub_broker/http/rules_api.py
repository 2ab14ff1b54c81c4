"""What the routes about policies and schemas need of a broker: what is in force, why, and what would be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hubbub_broker.config import Settings


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """A policy that was set at run time."""

    name: str
    pattern: str
    priority: int
    version: int
    changes: Mapping[str, Any]
    """What it says, by setting: bytes and seconds as numbers."""
    by: str | None
    at: float | None
    note: str | None


@dataclass(frozen=True, slots=True)
class SkippedInfo:
    """What is kept and not in force."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class PoliciesInfo:
    """All policies, in the order in which they are looked at."""

    policies: Sequence[PolicyInfo]
    """Set at run time."""
    rules: Sequence[Mapping[str, Any]]
    """What the broker was started with: each with all its settings."""
    skipped: Sequence[SkippedInfo]


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting of a topic."""

    value: Any
    source: str
    """Where it comes from: `policy NAME`, `rule PATTERN`, or `broker`: what holds for such topics whatever is set."""


@dataclass(frozen=True, slots=True)
class VerdictInfo:
    """What holds for a topic, and why."""

    topic: str
    policy: str | None
    """The name of the run-time policy that matches, if one does."""
    rule: str
    """The pattern of the rule below it."""
    settings: Mapping[str, SettingInfo]


@dataclass(frozen=True, slots=True)
class SchemaInfo:
    """A schema that is in force."""

    group: str
    type: str
    version: int
    document: Any
    by: str | None
    at: float | None
    note: str | None


class RulesApi(Protocol):
    """Policies and schemas of a broker."""

    settings: Settings

    def policies(self) -> PoliciesInfo:
        """What is in force."""

    def verdict(self, topic: str) -> VerdictInfo:
        """What holds for a topic.

        Raises:
            Refused: it is none.
        """

    def try_policy(self, name: str, document: Any, topics: Sequence[str]) -> Sequence[tuple[VerdictInfo, VerdictInfo]]:
        """What holds for some topics now, and what would hold for each if this policy were set. Changes nothing.

        Raises:
            Refused: the document is no policy.
        """

    def schemas(self) -> tuple[Sequence[SchemaInfo], Sequence[SkippedInfo]]:
        """What is in force, by group and type, and what is kept and is not."""

    def try_schema(self, group: str, type: str, document: Any, data: Any) -> str | None:
        """Why some data does not fit, naming the field; None if it does. Changes and counts nothing.

        Args:
            group: whose schema.
            type: for messages of this type.
            document: a schema to be tried; None: the one in force.
            data: any JSON value.

        Raises:
            Refused: the document is no schema; or there is none in force.
        """
