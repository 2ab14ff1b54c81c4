"""A policy as it is written: in the settings file, over HTTP, and in the state that run-time policies are kept in.

One model for all of them, so that what is allowed, and what is said about a mistake, is the same everywhere.
"""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from hubbub_protocol.errors import BadName
from hubbub_protocol.limits import TTL_SECONDS_MAX
from hubbub_protocol.names import check_pattern, check_segment

from .policy import Override, TopicPolicy
from .quantity import DAY, GIB, TIB
from .setting import Table, brief, complaint, setting, show

YEARS = 3650 * DAY


class PolicyRule(Table):
    """A `[[policy]]` table. What it leaves out comes from the last rule, if that is for `**`, else the default."""

    pattern: str = Field(
        description="Topic or pattern that the rule is for: `*` is one whole segment, a last `**` the rest.",
        json_schema_extra={"unit": "a topic such as research/conv-42, or a pattern such as research/* or **"},
    )
    durable: bool | None = setting(
        None, "Whether messages are stored. If not, every message to these topics is ephemeral."
    )
    max_age: float | None = setting(
        None, "How long messages are kept at least.", unit="s", least=1, most=YEARS, off="for ever"
    )
    max_bytes: int | None = setting(
        None, "How much of a topic's history is kept at least.", unit="bytes", least=1, most=1024 * TIB, off="no limit"
    )
    max_count: int | None = setting(
        None, "How many messages of a topic are kept at least.", least=1, most=2**53, off="no limit", unit="messages"
    )
    dedup_window: float | None = setting(
        None,
        "How long a second publish of the same id counts as a duplicate.",
        unit="s",
        least=1,
        most=30 * DAY,
        off="no dedup",
    )
    max_message: int | None = setting(
        None, "Largest message.", unit="bytes", least=128, most=GIB, off="max_frame is the limit"
    )
    max_ttl: float | None = setting(
        None,
        "Longest time-to-live that a publish may ask for.",
        unit="s",
        least=0.001,
        most=TTL_SECONDS_MAX,
        off="no limit",
    )
    max_depth: int | None = setting(
        None,
        "Longest chain of messages of which each was caused by the one before it; a longer one is refused (loop).",
        least=1,
        most=1_000_000,
        off="no limit",
    )
    pingpong_messages: int | None = setting(
        None,
        "Messages that two agents may exchange in one chain within pingpong_window before they are slowed.",
        least=2,
        most=1_000_000,
        off="no limit",
    )
    pingpong_window: float | None = setting(
        None, "The window of pingpong_messages. As long a silence ends the matter.", unit="s", least=0.1, most=DAY
    )
    pingpong_stop: int | None = setting(
        None, "How many more are let by, slowed, before the chain is stopped (loop).", least=0, most=1_000_000
    )
    pingpong_gap: float | None = setting(
        None,
        "A message without parent that follows another agent's within this time counts as an answer to it.",
        unit="s",
        least=0.001,
        most=3600,
        off="only a parent counts",
    )
    echo_messages: int | None = setting(
        None,
        "How often the same content may come round within echo_window, deeper in its chain, before it is slowed.",
        least=2,
        most=1_000_000,
        off="no limit",
    )
    echo_window: float | None = setting(
        None, "The window of echo_messages and of repeat_messages.", unit="s", least=0.1, most=DAY
    )
    echo_stop: int | None = setting(
        None, "How many more are let by, slowed, before the content is stopped (loop).", least=0, most=1_000_000
    )
    repeat_messages: int | None = setting(
        None,
        "How often the same content may be published within echo_window, by whomever, before it is slowed.",
        least=1,
        most=1_000_000,
        off="no limit",
    )
    sender_rate: float | None = setting(
        None,
        "Messages that one sender may publish to one topic in the long run.",
        unit="per second",
        least=0.001,
        most=1e9,
        off="no limit",
    )
    sender_burst: int | None = setting(
        None, "Messages that one sender may publish to one topic at once.", least=1, most=1_000_000_000
    )
    schemas: Literal["refuse", "count", "off"] | None = setting(
        None, "What becomes of a message that does not fit the schema of its type: refused, or only counted."
    )
    budget_messages: int | None = setting(
        None, "Messages of one conversation in all.", least=1, most=2**53, off="no budget", unit="messages"
    )
    budget_bytes: int | None = setting(
        None, "Data and headers of one conversation in all.", unit="bytes", least=1, most=1024 * TIB, off="no budget"
    )
    budget_cost: float | None = setting(
        None,
        "Sum of the header cost over one conversation, in whatever unit its agents mean.",
        unit="of cost",
        least=1e-6,
        most=1e15,
        off="no budget",
    )

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            return check_pattern(value)
        except BadName as error:
            raise ValueError(str(error)) from None

    def given(self) -> dict[str, Any]:
        """What the rule says, by field; what it leaves out is left out."""
        return {name: value for name in POLICY_FIELDS if (value := getattr(self, name)) is not None}

    def over(self, base: TopicPolicy, max_frame: int) -> TopicPolicy:
        """The policy that this rule makes, `base` filling in what it leaves out."""
        policy = replace(base, pattern=self.pattern, **self.given())
        return policy if policy.max_message else replace(policy, max_message=max_frame)


POLICY_FIELDS = tuple(name for name in PolicyRule.model_fields if name != "pattern")


# At run time --------------------------------------------------------------------------------------------------------


class RuntimePolicy(PolicyRule):
    """A policy that is set while the broker runs. Its name is not in it: that is the key under which it is kept."""

    priority: int = setting(
        0, "Of the run-time policies that match a topic the one of highest priority wins.", least=-1000, most=1000
    )


class PolicyLimits(NamedTuple):
    """What no policy that is set at run time can go beyond: the broker was started with these."""

    max_frame: int
    """Bytes of the largest frame."""
    dedup_window: float
    """Seconds for which the log remembers ids."""


class BadPolicy(ValueError):
    """What was given is no policy. The message names each field that is wrong, what was given, and what is allowed."""


def read_policy(name: str, document: Any, version: int, limits: PolicyLimits, *, strict: bool = True) -> Override:
    """A run-time policy from its document.

    Args:
        name: what it is called: one segment, as of a topic.
        document: its fields, as JSON or TOML has them.
        version: of the key that it is kept under.
        limits: the broker's own.
        strict: refuse what goes beyond `limits`; if not, it is held to them: they may have changed since it was set.

    Raises:
        BadPolicy: saying what is wrong and what is allowed, field by field.
    """
    try:
        check_segment(name, "policy name")
        rule = RuntimePolicy.model_validate(document)
    except BadName as error:
        raise BadPolicy(str(error)) from None
    except ValidationError as error:
        raise BadPolicy("; ".join(map(_wrong, error.errors()))) from None
    given = rule.given()
    if given.get("max_message") == 0:
        given["max_message"] = limits.max_frame
    for field, setting_name, most in (
        ("max_message", "max_frame", limits.max_frame),
        ("dedup_window", "dedup_window", limits.dedup_window),
    ):
        value = given.get(field, 0)
        if value > most:
            if strict:
                shown = show(RuntimePolicy.model_fields[field], most).strip('"')
                raise BadPolicy(f"{field} = {brief(value)}: must be at most {setting_name}, which is {shown}")
            given[field] = most
    if strict and not given:
        raise BadPolicy("it says nothing: besides pattern and priority it needs a field such as max_age or durable")
    return Override(name, rule.pattern, rule.priority, version, given)


def _wrong(detail: Any) -> str:
    path = detail["loc"]
    if not path:
        return "a policy is an object such as " + '{"pattern": "research/**", "max_age": "30d"}'
    name = str(path[0])[:40]
    if detail["type"] == "missing":
        return f"{name}: is missing"
    return f"{name} = {brief(detail['input'])}: {complaint(detail, RuntimePolicy, name)}"
