"""The settings of a broker: names, units, defaults, bounds.

Sizes may be written `64MiB`, durations `24h` (see `quantity`); bare numbers are bytes and seconds. 0 means "off" or "no
limit" where a setting says so. `Settings(...)` is pure: only `sources.load` reads the environment and a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from hubbub_protocol import DEFAULT_HOST, DEFAULT_PORT
from hubbub_protocol.errors import BadName
from hubbub_protocol.limits import (
    FILTER_BYTES_MAX,
    FILTER_DEPTH_MAX,
    FILTER_TESTS_MAX,
    FRAME_BYTES_MAX,
    HEARTBEAT_SECONDS,
    INFLIGHT_MAX,
)
from hubbub_protocol.names import check_group

from .loopback import is_loopback
from .policy import ANY_TOPIC, Policies, TopicPolicy
from .policy_rule import PolicyRule
from .quantity import DAY, GIB, KIB, MIB, TIB, format_size, parse_duration
from .setting import Table, setting
from .shards import SHARDS_MAX

SECRET_CHARS_MIN = 32
"""Characters of `token_secret`: as many bytes as its hash has."""


class Settings(Table):
    """Every setting of a broker, checked and immutable. Attribute reads are plain; hot code keeps its own copies."""

    # Where it listens and where it keeps things
    host: str = setting(DEFAULT_HOST, "Address to listen on.", unit="a host name or an IP address")
    port: int = setting(DEFAULT_PORT, "Port of HTTP and WebSocket. 0 takes any free one.", least=0, most=65_535)
    insecure: bool = setting(
        False,
        "Listen beyond loopback although authentication is off: whoever reaches the port can read and publish all.",
    )
    tls_certificate: Path | None = setting(
        None, "Certificate chain in PEM form, for TLS. Read again when it changes.", unit="a file"
    )
    tls_key: Path | None = setting(
        None, "Private key of the certificate, in PEM form. Read again when it changes.", unit="a file"
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        "Whose pages browsers may let speak to the broker, besides those of this machine; `*` is everyone's.",
        unit="a list of origins such as https://app.example.org, in the environment with spaces between",
    )
    data_dir: Path = setting(Path("./hubbub-data"), "Directory of the log. Made when missing.", unit="a directory")
    shards: int = setting(
        16,
        "Number of shards. Fixed when the data directory is made; a group belongs to one shard.",
        least=1,
        most=SHARDS_MAX,
    )

    # Workers
    workers: int = setting(
        1, "Processes that share the shards; with 1 there is no supervisor. See workers.md.", least=1, most=64
    )
    worker_port: int = setting(
        0,
        "First of the workers' own ports, which follow one another; 0: the one after `port`, or any if that is 0.",
        least=0,
        most=65_535,
    )
    worker_urls: tuple[str, ...] = setting(
        (),
        "The workers' own addresses as clients are told them, where `worker_port` is not what they reach.",
        unit="a list of WebSocket addresses, one for each worker, in the environment with spaces between",
    )
    worker_restarts: int = setting(
        10,
        "Deaths of a worker in a row, each soon after its start, after which the broker gives up.",
        least=1,
        most=1_000_000,
    )
    link_timeout: float = setting(
        5.0, "How long a worker waits for another before it refuses what it asked for.", unit="s", least=0.01, most=300
    )
    link_calls: int = setting(
        10_000, "Requests of one worker to another that have no answer yet.", least=1, most=10_000_000
    )

    # The control plane
    role: Literal["all", "data", "control"] = setting(
        "all",
        "What `hubbub serve` runs: the broker with the control plane in it, the broker alone, or the control plane "
        "alone, for the broker at broker_url.",
    )
    broker_url: str = setting(
        "", "With role = control: the broker that it is for.", unit="an address such as ws://127.0.0.1:8091"
    )
    broker_token: SecretStr = setting(
        SecretStr(""),
        "With role = control: what it shows there, an operator's token.",
        unit="text without spaces",
        secret=True,
    )

    agent_silent: float = setting(
        45.0, "An agent that reports how it is, and has not for so long, is asked.", unit="s", least=0.1, most=3600
    )
    agent_deaf: float = setting(
        10.0, "An agent that has not answered for so long when it was asked is deaf.", unit="s", least=0.1, most=3600
    )
    agent_slow: float = setting(
        1.0, "An agent that answers, or runs its own timers, later than this is slow.", unit="s", least=0.01, most=3600
    )
    agent_gone: float = setting(
        15.0, "An agent that has been disconnected for so long is gone.", unit="s", least=0.01, most=DAY
    )
    agent_unseen: float = setting(
        600.0, "An agent that has no socket, and was not seen for so long, is gone.", unit="s", least=1, most=30 * DAY
    )

    commands_kept: int = setting(
        1000, "Commands that the control plane has at hand; the log has all of them.", least=1, most=100_000
    )
    command_agents: int = setting(10_000, "Agents that one command may be for.", least=1, most=1_000_000)

    # Who may do what
    bus_token: SecretStr = setting(
        SecretStr(""), "Shared token: whoever shows it is whom it says.", unit="text without spaces", secret=True
    )
    bus_token_file: Path | None = setting(
        None, "File of shared tokens, one a line. Read again when it changes.", unit="a file"
    )
    bus_token_admin: bool = setting(False, "Whether whoever shows a shared token is an operator too.")
    token_keys: Path | None = setting(
        None,
        "Keys of signed tokens: a key file (JWK, JWKS, PEM, secret), or a directory of them. Read again on change.",
        unit="a file or directory",
    )
    token_secret: SecretStr = setting(
        SecretStr(""), "A key of signed tokens as a text (HS256).", unit="32 characters or more", secret=True
    )
    token_audience: str = setting("", "What the `aud` of signed tokens has to name; empty: it does not matter.")
    token_leeway: float = setting(
        5.0, "How far the clock of whoever signs tokens may differ.", unit="s", least=0.001, most=600, off="not at all"
    )
    max_token_bytes: int = setting(8 * KIB, "Longest token that is looked at.", unit="bytes", least=256, most=64 * KIB)

    # What it says
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", "Form of the log on stderr; auto is text on a terminal, else JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least level that is logged.")

    # Connections
    heartbeat: float = setting(
        HEARTBEAT_SECONDS, "Interval of the pings to a silent connection.", unit="s", least=0.01, most=3600, off="off"
    )
    heartbeat_misses: int = setting(
        3, "Heartbeats in a row without a sign of life before a connection is closed (4012).", least=1, most=100
    )
    hello_timeout: float = setting(
        10.0, "How long a new connection may take to say hello.", unit="s", least=0.01, most=300
    )
    handshake_seconds: float = setting(
        10.0,
        "How long a new connection may take for TLS, and again until its first request is read; and for the rest of a "
        "request that was answered before it was all there.",
        unit="s",
        least=0.01,
        most=300,
    )
    max_header_bytes: int = setting(
        32 * KIB, "Largest head of an HTTP request: its address and headers.", unit="bytes", least=1 * KIB, most=MIB
    )
    max_pipelined: int = setting(
        100, "Requests of one connection that may wait for the answers to those before them.", least=1, most=100_000
    )
    max_connections_per_address: int = setting(
        10_000,
        "Connections from one IP address at a time, of HTTP and WebSocket together.",
        least=1,
        most=10_000_000,
        off="no limit",
    )
    max_frame: int = setting(
        FRAME_BYTES_MAX, "Largest frame and HTTP request body.", unit="bytes", least=4 * KIB, most=GIB
    )
    max_connections: int = setting(
        20_000,
        "WebSocket connections at a time; fewer where the limit of open files (`ulimit -n`) has no room for them.",
        least=1,
        most=10_000_000,
    )
    max_subscriptions: int = setting(1000, "Subscriptions of one connection.", least=1, most=10_000_000)
    max_filters: int = setting(
        64,
        "Different filters (where, select) through which one topic is read by its name, and as many through which a "
        "shard's topics are by patterns; the same again of consumers.",
        least=1,
        most=100_000,
    )
    max_filter_bytes: int = setting(
        FILTER_BYTES_MAX, "Largest filter of a subscription, as JSON.", unit="bytes", least=64, most=MIB
    )
    max_filter_tests: int = setting(
        FILTER_TESTS_MAX, "Tests in a filter; a list of values (`in`) is one.", least=1, most=100_000
    )
    max_filter_depth: int = setting(
        FILTER_DEPTH_MAX, "Levels of all, any and not in a filter, and steps of a path in it.", least=1, most=64
    )
    max_ancestors: int = setting(
        100, "Messages that led to one, which may be asked for together with it.", least=1, most=100_000
    )
    max_lookups: int = setting(
        16, "Messages of one connection that are being looked up by id or seq at a time.", least=1, most=100_000
    )
    max_inflight: int = setting(
        INFLIGHT_MAX, "Publishes of one connection that have no answer yet.", least=1, most=10_000_000
    )
    write_buffer: int = setting(
        256 * KIB,
        "What a connection's socket may hold unsent before its cursors stay behind and catch up from the log.",
        unit="bytes",
        least=4 * KIB,
        most=GIB,
    )
    slow_timeout: float = setting(
        600.0, "A reader that takes nothing for so long is closed (4008).", unit="s", least=0.01, most=DAY, off="never"
    )

    # The guard
    publish_rate: float = setting(
        0.0,
        "Publishes that an agent may make in the long run; joins, leaves and wills are among them.",
        unit="per second",
        least=0.001,
        most=1e9,
        off="no limit",
    )
    publish_burst: int = setting(
        1000, "Publishes that an agent may make at once, above publish_rate.", least=1, most=1_000_000_000
    )
    publish_bytes_rate: float = setting(
        0.0,
        "Bytes of data and headers that an agent may publish in the long run.",
        unit="per second",
        least=1,
        most=1e15,
        off="no limit",
    )
    group_publish_rate: float = setting(
        0.0,
        "Publishes that all agents together may make to the topics of one group, inboxes included, in the long run.",
        unit="per second",
        least=0.001,
        most=1e9,
        off="no limit",
    )
    group_bytes_rate: float = setting(
        0.0,
        "Bytes of data and headers that all agents together may publish to the topics of one group, inboxes included, "
        "in the long run.",
        unit="per second",
        least=1,
        most=1e15,
        off="no limit",
    )
    send_rate: float = setting(
        0.0,
        "Messages that an agent may publish to inboxes in the long run, by whichever name and door; mail to ALL is not "
        "among them.",
        unit="per second",
        least=0.001,
        most=1e9,
        off="no limit",
    )
    broadcast_rate: int = setting(
        10, "Messages to all that an agent may send in any minute.", least=1, most=10_000, off="no limit"
    )
    broadcast_depth: int = setting(
        2,
        "Messages to all in one chain, each caused by the one before it; one more is refused (loop).",
        least=1,
        most=1000,
        off="no limit",
    )
    burst_seconds: float = setting(
        10.0,
        "How much of publish_bytes_rate, send_rate and groups' rates may be used at once, in seconds of that rate.",
        unit="s",
        least=0.001,
        most=3600,
    )
    rate_entries: int = setting(
        10_000, "Agents, and groups, whose rates are remembered; the least recently used go.", least=1, most=100_000_000
    )
    chain_topics: int = setting(
        1000, "Conversations of each shard in which causes are remembered.", least=1, most=100_000_000
    )
    chain_ids: int = setting(
        256, "Messages of one conversation whose place in a chain is remembered.", least=1, most=10_000_000
    )
    mail_window: float = setting(
        3600.0,
        "How long after a mail another one counts as its answer because of its subject (`Re:`), or because it says the "
        "same, where its sender does not say what it answers.",
        unit="s",
        least=0.1,
        most=30 * DAY,
    )
    mail_entries: int = setting(
        5000, "Mails whose place in a chain is remembered, over all inboxes.", least=1, most=10_000_000
    )
    budget_interval: float = setting(
        1.0, "How often what conversations have used is written to the log.", unit="s", least=0.01, most=3600
    )
    event_interval: float = setting(
        60.0,
        "How often the same trouble (rule, topic, sender) is told again on _hubbub/events.",
        unit="s",
        least=0.001,
        most=DAY,
        off="each time",
    )
    event_rate: int = setting(
        60, "Events that the guard publishes on _hubbub/events in a minute.", least=1, most=1_000_000, off="none"
    )

    # Topics
    hold_seconds: float = setting(
        5.0,
        "How long a message waits for its parent before it goes out as an orphan.",
        unit="s",
        least=0.001,
        most=3600,
        off="not at all",
    )
    hold_messages: int = setting(
        1024, "Messages of one topic that wait for their parents.", least=1, most=1_000_000, off="none waits"
    )
    hold_bytes: int = setting(
        16 * MIB,
        "Bytes of a shard's messages that wait for their parents; beyond, those that would have to wait are refused "
        "(overloaded).",
        unit="bytes",
        least=4 * KIB,
        most=TIB,
    )
    topics_in_memory: int = setting(
        100_000, "Topics that each shard keeps in memory; idle ones beyond are let go.", least=1, most=100_000_000
    )
    dedup_window: float = setting(
        DAY,
        "How long a second publish of the same id counts as a duplicate.",
        unit="s",
        least=1,
        most=30 * DAY,
    )
    dedup_entries: int = setting(
        200_000, "Ids that each shard remembers for dedup, about 130 bytes of memory each.", least=1, most=100_000_000
    )
    policy: tuple[PolicyRule, ...] = Field(
        default=(),
        description="Rules by pattern: [[policy]] tables, or a JSON list in HUBBUB_POLICY. First match wins.",
        json_schema_extra={"unit": "a list of [[policy]] tables"},
    )

    # What is set at run time
    max_policies: int = setting(256, "Policies that may be set at run time.", least=1, most=10_000)
    max_schemas: int = setting(1000, "Schemas of message types, in all groups together.", least=1, most=1_000_000)
    max_schema_bytes: int = setting(
        64 * KIB, "Size of one schema, as JSON without white space.", unit="bytes", least=256, most=MIB
    )

    # Consumers
    ack_wait: float = setting(
        30.0,
        "How long a member of a consumer may take for a message before it says something of it, if it names no time.",
        unit="s",
        least=0.01,
        most=DAY,
    )
    max_unacked: int = setting(
        64, "Messages that a member of a consumer has out at a time, if it names no number.", least=1, most=100_000
    )
    max_deliver: int = setting(
        5,
        "Deliveries after which a message that fails goes to the dead letters, if the consumer names no number.",
        least=1,
        most=1_000_000,
        off="never",
    )
    backoff: str = Field(
        default="1s 5s 30s 2m 10m",
        description="Waits before a message that failed is delivered again, if the consumer names none: after the "
        "first failure, the second, and so on; the last goes on.",
        json_schema_extra={"unit": "durations in rising order, such as 1s 5s 30s"},
    )
    consumer_window: int = setting(
        10_000,
        "Messages of a topic that a consumer may have out or waiting; it takes no new ones beyond that.",
        least=1,
        most=10_000_000,
    )
    max_reason: int = setting(
        KIB,
        "What is kept of the reason that a member gives for a message that failed; the rest is cut off.",
        unit="bytes",
        least=16,
        most=64 * KIB,
    )
    expiries_kept: int = setting(
        100_000,
        "Messages with a time to live, of topics with consumers, of which each shard notices that it is over although "
        "nobody asks for them; about 150 bytes of memory each.",
        least=1,
        most=100_000_000,
        off="none: it is noticed when they are to be delivered",
    )
    max_consumers: int = setting(100_000, "Consumers of each shard.", least=1, most=100_000_000)
    position_interval: float = setting(
        0.1,
        "How often positions of consumers are written: what a crash may bring back although it was acked.",
        unit="s",
        least=0.001,
        most=60,
    )
    receipt_window: float = setting(
        DAY, "How long receipts of tracked messages can be asked for.", unit="s", least=1, most=30 * DAY
    )
    receipts_kept: int = setting(10_000, "Receipts that each shard keeps.", least=1, most=100_000_000)
    receipts_retold: int = setting(
        1000,
        "Receipts of each publisher, of how its newest messages ended, that each shard tells again when that is back: "
        "they may have been lost with its connection.",
        least=1,
        most=100_000_000,
        off="none",
    )
    latency_series: int = setting(
        1000, "Consumers and agents whose latencies are told apart in the metrics.", least=1, most=1_000_000
    )
    slow_factor: float = setting(
        5.0,
        "An agent counts as slow when nine in ten of its messages take it more than so many times what its consumer's "
        "agents usually take.",
        least=1,
        most=1_000_000,
        unit="times",
    )
    deaf_seconds: float = setting(
        10.0,
        "A connected agent counts as deaf when its socket takes nothing, or a ping is unanswered, for so long.",
        unit="s",
        least=0.001,
        most=DAY,
    )

    # Shared state
    state_value: int = setting(256 * KIB, "Largest value of a key of a state.", unit="bytes", least=1, most=GIB)
    state_keys: int = setting(10_000, "Keys of one state.", least=1, most=100_000_000)
    state_bytes: int = setting(
        64 * MIB, "Keys and values of one state together.", unit="bytes", least=KIB, most=1024 * TIB
    )
    state_change_keys: int = setting(
        256, "Keys that one change of a state may set, or delete, and messages that it may publish.", least=1, most=1000
    )
    state_leases: int = setting(
        100_000, "Keys of each shard that go by themselves unless they are renewed (leases).", least=1, most=100_000_000
    )

    # The simple bus
    default_group: str = Field(
        default="agents",
        description="Group of an agent that names none when it is first heard of: where its inbox is.",
        json_schema_extra={"unit": "a group"},
    )
    max_agents: int = setting(100_000, "Agents that may be registered.", least=1, most=100_000_000)
    max_wait: float = setting(
        60.0, "How long a request may wait for mail (`wait`).", unit="s", least=0.1, most=3600, off="not at all"
    )
    max_blob: int = setting(
        GIB, "Largest body that is stored as a blob over HTTP.", unit="bytes", least=1, most=1024 * TIB
    )
    max_blob_uploads: int = setting(
        8, "Blobs that are stored over HTTP at a time; each takes its size on disk meanwhile.", least=1, most=10_000
    )
    max_streams: int = setting(1000, "Event streams over HTTP at a time.", least=1, most=1_000_000)

    # The log
    pending_soft: int = setting(
        8 * MIB,
        "Bytes waiting for a shard's log at which its publishers are read no further.",
        unit="bytes",
        least=4 * KIB,
        most=TIB,
    )
    pending_hard: int = setting(
        64 * MIB,
        "Bytes waiting for a shard's log at which a publish is refused (overloaded).",
        unit="bytes",
        least=4 * KIB,
        most=TIB,
    )
    segment_bytes: int = setting(
        16 * MIB,
        "Size at which a segment file of the log is sealed. What is not sealed is read again after a crash.",
        unit="bytes",
        least=4 * KIB,
        most=4 * GIB,
    )
    segment_topics: int = setting(
        50_000,
        "Topics in a segment file at which it is sealed: each takes 650 bytes of memory until then.",
        least=1,
        most=100_000_000,
    )
    unsealed_segments: int = setting(
        4,
        "Full segments of a shard that may wait to be sealed; while there are more, it confirms nothing further.",
        least=1,
        most=1000,
    )
    retention_bytes: int = setting(
        0,
        "Size of one shard's log beyond which its oldest segments go.",
        unit="bytes",
        least=4 * KIB,
        most=1024 * TIB,
        off="no limit",
    )
    retention_interval: float = setting(
        30.0, "How often retention is enforced.", unit="s", least=0.01, most=DAY, off="never"
    )
    min_free_bytes: int = setting(
        64 * MIB,
        "Free disk space below which a shard stays read-only after a full disk.",
        unit="bytes",
        least=1,
        most=1024 * TIB,
        off="any",
    )
    sync_threads: int = setting(
        8,
        "Threads that bring the log to stable storage: shards synced at one time share the file system's own commit.",
        least=1,
        most=64,
    )

    # The process
    shutdown_grace: float = setting(
        5.0,
        "How long a stopping broker waits for its connections to go.",
        unit="s",
        least=0.01,
        most=600,
        off="not at all",
    )
    reconnect_spread: float = setting(
        5.0,
        "Clients are told to come back after 0 to so many seconds when the broker stops.",
        unit="s",
        least=0.01,
        most=3600,
        off="at once",
    )
    switch_interval: float = setting(
        0.0005, "Python's thread switch interval.", unit="s", least=0.00001, most=1, off="Python's own"
    )
    uvloop: Literal["auto", "on", "off"] = setting(
        "auto", "The faster event loop: auto takes it where it is installed, on refuses to start without it."
    )

    def policies(self) -> Policies:
        """The topic policies in force. The last rule is always one for `**`."""
        *rules, last = self.policy or (PolicyRule(pattern=ANY_TOPIC),)
        base = TopicPolicy(dedup_window=self.dedup_window, max_message=self.max_frame)
        if last.pattern == ANY_TOPIC:
            base = last.over(base, self.max_frame)
        else:
            rules.append(last)
        return Policies([*(rule.over(base, self.max_frame) for rule in rules), base])

    @property
    def authenticates(self) -> bool:
        """Whether anybody has to show who it is: whether there is any key."""
        return bool(self.bus_token or self.bus_token_file or self.token_keys or self.token_secret)

    @field_validator("allowed_origins", "worker_urls", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("allowed_origins")
    @classmethod
    def _each_origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment):
                raise ValueError("not an origin")
        return value

    @field_validator("worker_urls")
    @classmethod
    def _each_worker_url(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(url)
            if parts.scheme not in ("ws", "wss") or not parts.netloc:
                raise ValueError("not a WebSocket address")
        return value

    @field_validator("bus_token")
    @classmethod
    def _bus_token(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text.isprintable() or " " in text or not text.isascii():
            raise ValueError("not a token")
        return value

    @field_validator("token_secret")
    @classmethod
    def _token_secret(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SECRET_CHARS_MIN:
            raise ValueError("too short")
        return value

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        if not value or value != value.strip() or "/" in value:
            raise ValueError("not a host")
        return value

    @field_validator("default_group")
    @classmethod
    def _default_group(cls, value: str) -> str:
        try:
            return check_group(value)
        except BadName as error:
            raise ValueError(str(error)) from None

    @field_validator("backoff")
    @classmethod
    def _backoff(cls, value: str) -> str:
        waits = [parse_duration(part) for part in value.split()]
        if not waits or waits != sorted(waits) or not 0 <= waits[0] <= waits[-1] <= DAY:
            raise ValueError("not durations in rising order")
        return value

    def backoff_seconds(self) -> tuple[float, ...]:
        """`backoff` in seconds."""
        return tuple(parse_duration(part) for part in self.backoff.split())

    @field_validator("data_dir")
    @classmethod
    def _data_dir(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _together(self) -> Self:
        for name, message in self._contradictions():
            raise PydanticCustomError("together", "{message}", {"setting": name, "message": message})
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        if self.pending_soft > self.pending_hard:
            yield "pending_soft", f"must be at most pending_hard, which is {format_size(self.pending_hard)}"
        if not self.insecure and not self.authenticates and not is_loopback(self.host):
            yield "host", _OPEN_HOST
        if (self.tls_certificate is None) != (self.tls_key is None):
            names = ("tls_certificate", "tls_key")
            given, missing = names if self.tls_key is None else names[::-1]
            yield given, f"takes {missing} with it"
        if self.workers > self.shards:
            yield "workers", f"must be at most shards, which is {self.shards}: a worker without a shard does nothing"
        if self.worker_urls and len(self.worker_urls) != self.workers:
            yield "worker_urls", f"takes one address for each of the {self.workers} workers"
        seen: set[str] = set()
        for number, rule in enumerate(self.policy, 1):
            if {rule.pattern, ANY_TOPIC} & seen:
                yield f"policy #{number} pattern", _NEVER_REACHED.format(rule.pattern)
            if (rule.max_message or 0) > self.max_frame:
                limit = format_size(self.max_frame)
                yield f"policy #{number} max_message", f"must be at most max_frame, which is {limit}"
            seen.add(rule.pattern)


_OPEN_HOST = (
    "authentication is off, so the broker listens on loopback only (127.0.0.1, ::1 or localhost); "
    "set bus_token or token_keys to turn it on, or "
    "insecure = true lets it listen elsewhere, open to whoever reaches it"
)
_NEVER_REACHED = "{!r} is never reached: an earlier rule has this pattern, or `**`, and the first match wins"
