"""Bounds that are part of the wire contract, each with its unit and its reason.

What an operator may set lives in the broker's settings; these are what no setting changes, and the defaults that both
ends start from.
"""

SEGMENT_CHARS_MAX = 128
"""Characters in one segment of a topic. Long enough for two UUIDs and a label."""

TOPIC_BYTES_MAX = 512
"""Bytes in a whole topic. A topic is kept in memory while it is active, and stands in every message."""

AGENT_CHARS_MAX = SEGMENT_CHARS_MAX - 1
"""Characters in an agent's name: with the `@` in front it is one segment (the inbox)."""

ID_BYTES_MAX = 256
"""UTF-8 bytes in a message id. A UUID takes 36; the rest is room for keys of other systems."""

TYPE_CHARS_MAX = 256
"""Characters in a message's `type`."""

FRAME_BYTES_MAX = 1 << 20
"""Default for the largest frame, in bytes, in either direction: what most WebSocket clients accept as they come."""

INFLIGHT_MAX = 4096
"""Default for the publishes of one connection that have no answer yet."""

HEARTBEAT_SECONDS = 30.0
"""Default interval of heartbeats: below the idle time-outs of common proxies (60 s), above what drains a battery."""

LAMPORT_MAX = (1 << 53) - 1
"""Largest Lamport timestamp and seq: the largest integer that every JSON reader keeps exact (RFC 8259, section 6)."""

TTL_SECONDS_MAX = 10 * 365 * 86400.0
"""Longest time-to-live, in seconds. Whoever wants longer wants none."""

GROUPS_MAX = 1000
"""Groups that a `hello` names."""

CAPABILITIES_MAX = 100
"""Capabilities that an agent may name."""

CAPABILITY_CHARS_MAX = 128
"""Characters of one."""

DESCRIPTION_CHARS_MAX = 4096
"""Characters in which an agent may describe itself."""

FILTER_BYTES_MAX = 4096
"""Default for the size of a filter (`where` and `select`), in bytes: room for a list of a hundred ids."""

FILTER_TESTS_MAX = 32
"""Default for the tests in one: each costs every message of a topic 2 or 3 microseconds."""

FILTER_DEPTH_MAX = 8
"""Default for the levels of `all`, `any` and `not` in a filter, and for the steps of a path in it."""
KEY_BYTES_MAX = 512
"""Bytes in a key of a state: as long as a topic."""

STATE_KEYS_MAX = 1000
"""Keys that one request about a state may name, or get."""

STATE_TTL_SECONDS_MAX = 86_400.0
"""Longest life of a key that goes by itself unless it is renewed, in seconds."""
