"""The JSON of what is asked and answered about policies and schemas."""

from typing import Any

from pydantic import Field

from .models import TOPIC, Model


class PolicyItem(Model):
    """A policy that was set at run time."""

    name: str = Field(description="What it is called.", examples=["keep-research"])
    pattern: str = Field(description="Topics that it is for.", examples=["research/**"])
    priority: int = Field(description="Of those that match a topic the one of highest priority wins, then by name.")
    version: int = Field(description="Grows with each change of it.")
    settings: dict[str, Any] = Field(description="What it says: bytes and seconds as numbers.")
    by: str | None = Field(None, description="Who set it.")
    at: float | None = Field(None, description="When.")
    note: str | None = Field(None, description="Why.")


class SkippedItem(Model):
    """What is kept, and is not in force."""

    key: str = Field(description="Where it is kept.", examples=["policy/keep-research"])
    reason: str = Field(description="Why this broker does not understand it.")


class PoliciesInForce(Model):
    """Every policy, in the order in which they are looked at."""

    policies: list[PolicyItem] = Field(description="Set at run time: they lie over the rules.")
    rules: list[dict[str, Any]] = Field(description="What the broker was started with.")
    skipped: list[SkippedItem] = Field(description="What is kept, and was written by another version.")


class SettingItem(Model):
    """One setting of a topic."""

    value: Any = Field(description="What holds.")
    source: str = Field(description="`policy NAME`, `rule PATTERN`, or `broker`: it is so for all such topics.")


class VerdictItem(Model):
    """What holds for a topic, and why."""

    topic: str = Field(examples=[TOPIC])
    policy: str | None = Field(description="The run-time policy that matches, if any.")
    rule: str = Field(description="The pattern of the rule below it.")
    settings: dict[str, SettingItem] = Field(description="Each setting, and where it comes from.")


class PolicyTrial(Model):
    """A policy that is not set yet."""

    name: str = Field(description="One that exists is thought to be replaced.", examples=["keep-research"])
    policy: dict[str, Any] = Field(examples=[{"pattern": "research/**", "max_age": "30d"}])
    topics: list[str] = Field(description="What to look at.", max_length=1000, examples=[[TOPIC]])


class TrialItem(Model):
    """What a policy would change for a topic."""

    before: VerdictItem
    after: VerdictItem
    changed: list[str] = Field(description="Settings that would have another value.")


class PolicyOutcome(Model):
    """What a policy would change."""

    topics: list[TrialItem]


class SchemaItem(Model):
    """A schema that is in force."""

    group: str = Field(examples=["research"])
    type: str = Field(description="The `type` of the messages that it is about.", examples=["task"])
    version: int = Field(description="Grows with each change of it.")
    schema_: dict[str, Any] = Field(alias="schema", description="The JSON Schema.")
    by: str | None = Field(None, description="Who set it.")
    at: float | None = Field(None, description="When.")
    note: str | None = Field(None, description="Why.")


class SchemasInForce(Model):
    """Every schema, by group and type."""

    schemas: list[SchemaItem]
    skipped: list[SkippedItem] = Field(description="What is kept, and was written by another version.")


class SchemaTrial(Model):
    """Some data, and the schema that it is held to."""

    group: str = Field(examples=["research"])
    type: str = Field(examples=["task"])
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="Left out: the one in force.")
    data: Any = Field(description="What a message would carry.")


class SchemaOutcome(Model):
    """Whether it fits."""

    fits: bool
    reason: str | None = Field(None, description="If not: the field, as a JSON pointer, and what is wrong with it.")
