"""`hubbub config`: what is in force, and the reference of every setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exit_code import ends_well
from .options import ConfigFile, Sets
from .settings import load_settings

if TYPE_CHECKING:
    from hubbub_broker.setting import Table
    from hubbub_broker.sources import Loaded

COMMENT_COLUMN = 36


@ends_well
def config(
    config: ConfigFile = None,
    sets: Sets = None,
    reference: Annotated[bool, typer.Option("--reference", help="Explain every setting, as Markdown.")] = False,
) -> None:
    """Print the settings in force, as a TOML file; what is not a default says where it came from.

    Takes the same variables and files as `hubbub serve`, and refuses the same mistakes (exit code 2): a way to
    check a file before a broker is restarted with it.

    Examples:
      hubbub config
      hubbub config --config hubbub.toml
      HUBBUB_PORT=9000 hubbub config > hubbub.toml
      hubbub config --reference
    """
    if reference:
        typer.echo(render_reference(), nl=False)
        return
    typer.echo(render(load_settings(config, sets)), nl=False)


def render(loaded: Loaded) -> str:
    """The settings as TOML that `--config` reads back."""
    from hubbub_broker.config import Settings
    from hubbub_broker.policy_rule import POLICY_FIELDS
    from hubbub_broker.setting import show

    lines = []
    for name, field in Settings.model_fields.items():
        if name != "policy":
            value = show(field, getattr(loaded.settings, name))
            lines.append(_commented(f"{name} = {value}", loaded.sources.get(name)))
    for rule in loaded.settings.policy:
        lines += ["", _commented("[[policy]]", loaded.sources.get("policy"))]
        for name in ("pattern", *POLICY_FIELDS):
            if (value := getattr(rule, name)) is not None:
                lines.append(f"{name} = {show(type(rule).model_fields[name], value)}")
    return "\n".join(lines) + "\n"


def _commented(text: str, source: str | None) -> str:
    return text if source is None else f"{text.ljust(COMMENT_COLUMN)} # {source}"


# The reference ------------------------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Configuration

This page is made by `hubbub config --reference` from the settings themselves, and a test keeps the two equal.

A value is looked up in this order, and the first that has one wins:

1. the command line: `--port 9000`, or for any setting `--set max_frame=2MiB`;
2. the environment: `HUBBUB_PORT=9000`, the name in capitals behind `HUBBUB_`; an empty variable counts as not set;
3. a TOML file, named by `--config` or by `HUBBUB_CONFIG`: `port = 9000`;
4. the default.

A setting that does not exist, and a value that is not allowed, are refused at the start with exit code 2, each with a
line that says what is allowed. `hubbub config` prints what is in force, and where it came from.

Sizes are numbers of bytes or texts such as `"64MiB"` (KiB, MiB, GiB, TiB count in 1024; kB, MB, GB, TB in 1000).
Durations are numbers of seconds or texts such as `"250ms"`, `"90s"`, `"1d12h"`. A relative `data_dir` is looked up from
where the broker is started.

A platform that sets variables for a service called `hubbub` (`HUBBUB_SERVICE_HOST`, `HUBBUB_PORT_8091_TCP`) does no
harm, except that Kubernetes also sets `HUBBUB_PORT` to an address: give the service another name, or turn that off
with `enableServiceLinks: false`.

```toml
port = 9000
data_dir = "/var/lib/hubbub"
log_format = "json"

[[policy]]
pattern = "metrics/**"
durable = false

[[policy]]
pattern = "audit/*"
max_age = "365d"

[[policy]]                     # last: what the rules above leave out, and every other topic
pattern = "**"
max_age = "7d"
max_bytes = "1GiB"
```
"""

_SECTIONS = {
    "Where it listens and where it keeps things": (
        "host",
        "port",
        "insecure",
        "tls_certificate",
        "tls_key",
        "allowed_origins",
        "data_dir",
        "shards",
    ),
    "Workers": ("workers", "worker_port", "worker_urls", "worker_restarts", "link_timeout", "link_calls"),
    "The control plane": (
        "role",
        "broker_url",
        "broker_token",
        "agent_silent",
        "agent_deaf",
        "agent_slow",
        "agent_gone",
        "agent_unseen",
        "commands_kept",
        "command_agents",
    ),
    "Who may do what": (
        "bus_token",
        "bus_token_file",
        "bus_token_admin",
        "token_keys",
        "token_secret",
        "token_audience",
        "token_leeway",
        "max_token_bytes",
    ),
    "What it says": ("log_format", "log_level"),
    "Connections": (
        "heartbeat",
        "heartbeat_misses",
        "handshake_seconds",
        "max_header_bytes",
        "max_pipelined",
        "max_connections_per_address",
        "hello_timeout",
        "max_frame",
        "max_connections",
        "max_subscriptions",
        "max_filters",
        "max_filter_bytes",
        "max_filter_tests",
        "max_filter_depth",
        "max_ancestors",
        "max_lookups",
        "max_inflight",
        "write_buffer",
        "slow_timeout",
    ),
    "The guard": (
        "publish_rate",
        "publish_burst",
        "publish_bytes_rate",
        "group_publish_rate",
        "group_bytes_rate",
        "send_rate",
        "broadcast_rate",
        "broadcast_depth",
        "burst_seconds",
        "rate_entries",
        "chain_topics",
        "chain_ids",
        "mail_window",
        "mail_entries",
        "budget_interval",
        "event_interval",
        "event_rate",
    ),
    "Topics": (
        "hold_seconds",
        "hold_messages",
        "hold_bytes",
        "topics_in_memory",
        "dedup_window",
        "dedup_entries",
        "policy",
    ),
    "What is set at run time": ("max_policies", "max_schemas", "max_schema_bytes"),
    "Consumers": (
        "ack_wait",
        "max_unacked",
        "max_deliver",
        "backoff",
        "consumer_window",
        "max_reason",
        "expiries_kept",
        "max_consumers",
        "position_interval",
        "receipt_window",
        "receipts_kept",
        "receipts_retold",
        "latency_series",
        "slow_factor",
        "deaf_seconds",
    ),
    "Shared state": ("state_value", "state_keys", "state_bytes", "state_change_keys", "state_leases"),
    "The simple bus": ("default_group", "max_agents", "max_wait", "max_streams"),
    "Large bodies": ("max_blob", "max_blob_uploads"),
    "The log": (
        "pending_soft",
        "pending_hard",
        "segment_bytes",
        "segment_topics",
        "unsealed_segments",
        "retention_bytes",
        "retention_interval",
        "min_free_bytes",
        "sync_threads",
    ),
    "The process": ("shutdown_grace", "reconnect_spread", "switch_interval", "uvloop"),
}

_POLICY_INTRODUCTION = """\
## Topic policies

`[[policy]]` tables, in order: the first whose pattern matches a topic wins. What a rule leaves out comes from the last
rule if that one's pattern is `**`, and otherwise from the default. In the environment the rules are a JSON list:
`HUBBUB_POLICY='[{"pattern": "metrics/**", "durable": false}]'`.

Retention drops whole segments of the log, so a limit says what is kept at least; a reader who asks for what is gone
gets a `gap`.

What `max_depth` and the settings after it do is told in docs/guard.md. Over these rules lie the policies that are set
while the broker runs, and `schemas` is about the JSON Schemas of message types: docs/policies.md.
"""


def render_reference() -> str:
    """Every setting, as Markdown."""
    from hubbub_broker.config import Settings
    from hubbub_broker.policy import TopicPolicy
    from hubbub_broker.policy_rule import PolicyRule

    parts = [_INTRODUCTION]
    for title, names in _SECTIONS.items():
        parts.append(f"## {title}\n\n{_table(_rows(Settings, names))}")
    defaults = TopicPolicy()
    inherited = {"dedup_window": "`dedup_window`", "max_message": "`max_frame`"}
    rows = [
        (name, inherited.get(name) or _default(PolicyRule, name, getattr(defaults, name)), allowed, text)
        for name, _, allowed, text in _rows(PolicyRule, PolicyRule.model_fields)
    ]
    parts.append(f"{_POLICY_INTRODUCTION}\n{_table(rows)}")
    return "\n".join(parts)


def _rows(table: type[Table], names: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    from hubbub_broker.setting import allowed

    for name in names:
        field = table.model_fields[name]
        yield name, _default(table, name, field.default), allowed(field), str(field.description)


def _default(table: type[Table], name: str, value: Any) -> str:
    from hubbub_broker.setting import show

    if name == "policy":
        return "none"
    if name == "pattern":
        return "required"
    return f"`{show(table.model_fields[name], value)}`"


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = ["| setting | default | allowed | what it is |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {default} | {allowed} | {text} |" for name, default, allowed, text in rows]
    return "\n".join(lines) + "\n"
