"""The bounds that are part of the wire contract: another value is another protocol."""

import json

from hubbub_protocol import limits


def test_names_fit_into_their_topic() -> None:
    assert limits.SEGMENT_CHARS_MAX == 128
    assert limits.TOPIC_BYTES_MAX == 512
    assert limits.AGENT_CHARS_MAX + len("@") == limits.SEGMENT_CHARS_MAX, "an inbox is one segment: `@` and the name"


def test_lamport_max_is_the_largest_integer_that_a_float_keeps_exact() -> None:
    assert json.loads(json.dumps(float(limits.LAMPORT_MAX))) == limits.LAMPORT_MAX
    assert float(limits.LAMPORT_MAX) - 1 == limits.LAMPORT_MAX - 1
    assert float(limits.LAMPORT_MAX + 1) + 1 != limits.LAMPORT_MAX + 2


def test_a_frame_holds_the_largest_names() -> None:
    fixed = 2 * limits.TOPIC_BYTES_MAX + 2 * limits.ID_BYTES_MAX + limits.TYPE_CHARS_MAX + limits.AGENT_CHARS_MAX
    assert fixed * 100 < limits.FRAME_BYTES_MAX, "names are a small part of the largest frame"


def test_heartbeats_come_before_a_common_proxy_gives_up() -> None:
    assert 0 < limits.HEARTBEAT_SECONDS < 60
