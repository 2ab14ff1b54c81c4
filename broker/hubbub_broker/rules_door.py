"""Policies and schemas as the HTTP routes see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hubbub_broker.http import (
    PoliciesInfo,
    PolicyInfo,
    Refused,
    SchemaInfo,
    SettingInfo,
    SkippedInfo,
    VerdictInfo,
)
from hubbub_broker.policy import Policies, TopicPolicy
from hubbub_broker.policy_rule import POLICY_FIELDS, BadPolicy
from hubbub_broker.rules import POLICY, SCHEMA
from hubbub_broker.schema import BadSchema
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.names import check_topic, group_of

from .answering import answering
from .broker import Broker

assert set(POLICY_FIELDS) <= {field.name for field in fields(TopicPolicy)}


class RulesDoor:
    """Implements `http.rules_api.RulesApi`."""

    def __init__(self, broker: Broker) -> None:
        self.settings = broker.settings
        self._broker = broker

    def policies(self) -> PoliciesInfo:
        """What is in force."""
        kept = self._broker.rules.kept
        policies = self._broker.policies
        return PoliciesInfo(
            [
                PolicyInfo(
                    each.name,
                    each.pattern,
                    each.priority,
                    each.version,
                    each.changes,
                    *kept[f"{POLICY}/{each.name}"][2:],
                )
                for each in policies.overrides
            ],
            [{"pattern": rule.pattern, **_settings(rule)} for rule in policies.rules],
            self._skipped(POLICY),
        )

    def verdict(self, topic: str) -> VerdictInfo:
        """What holds for a topic."""
        return self._verdict(self._broker.policies, topic)

    def try_policy(self, name: str, document: Any, topics: Sequence[str]) -> Sequence[tuple[VerdictInfo, VerdictInfo]]:
        """What holds now, and what would hold."""
        now = self._broker.policies
        try:
            override = self._broker.rules.read_policy(name, document)
        except BadPolicy as error:
            raise Refused.because(ErrorCode.BAD_REQUEST, str(error)) from None
        then = now.with_overrides([*(each for each in now.overrides if each.name != name), override])
        return [(self._verdict(now, topic), self._verdict(then, topic)) for topic in topics]

    def schemas(self) -> tuple[Sequence[SchemaInfo], Sequence[SkippedInfo]]:
        """What is in force, and what is not."""
        kept = self._broker.rules.kept
        found = [
            SchemaInfo(
                each.group, each.type, each.version, each.document, *kept[f"{SCHEMA}/{each.group}/{each.type}"][2:]
            )
            for each in self._broker.schemas.all()
        ]
        return found, self._skipped(SCHEMA)

    def try_schema(self, group: str, type: str, document: Any, data: Any) -> str | None:
        """Why some data does not fit."""
        if document is None:
            schema = (self._broker.schemas.of(group) or {}).get(type)
            if schema is None:
                raise Refused.because(ErrorCode.NOT_FOUND, f"{group!r} has no schema for messages of type {type!r}")
        else:
            try:
                schema = self._broker.rules.read_schema(group, type, document)
            except BadSchema as error:
                raise Refused.because(ErrorCode.BAD_REQUEST, str(error)) from None
        return schema.misfit(encode_value(data))

    # ----------------------------------------------------------------------------------------------------------------

    def _skipped(self, kind: str) -> list[SkippedInfo]:
        found = self._broker.rules.skipped.items()
        return [SkippedInfo(key, reason) for key, reason in sorted(found) if key.startswith(f"{kind}/")]

    def _verdict(self, policies: Policies, topic: str) -> VerdictInfo:
        with answering():
            check_topic(topic)
        found = policies.explain(topic)
        override = found.override
        said = {} if override is None else override.changes
        actual = _settings(self._broker.shard_of(group_of(topic)).policy_of(topic, policies))
        wanted = _settings(found.policy)
        return VerdictInfo(
            topic,
            None if override is None else override.name,
            found.rule.pattern,
            {
                name: SettingInfo(
                    value,
                    "broker"
                    if value != wanted[name]
                    else f"policy {override.name}"
                    if override is not None and name in said
                    else f"rule {found.rule.pattern}",
                )
                for name, value in actual.items()
            },
        )


def _settings(policy: TopicPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in POLICY_FIELDS}
