"""`--from` and its times."""

from datetime import UTC, datetime

import pytest

from hubbub_broker.cli.exit_code import Failure
from hubbub_broker.cli.start import parse_start, parse_time

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("new", "new"),
        ("all", "all"),
        ("seq:1", {"seq": 1}),
        ("last:20", {"last": 20}),
        ("since:10m", {"since": NOW - 600}),
        ("since:90", {"since": NOW - 90}),
        ("since:1d12h", {"since": NOW - 129600}),
        ("since:1700000000.5", {"since": 1700000000.5}),
        ("since:2026-01-31T12:00:00+00:00", {"since": datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()}),
    ],
)
def test_starts(text: str, start: object) -> None:
    assert parse_start(text, lambda: NOW) == start


def test_a_time_without_a_zone_is_local() -> None:
    assert parse_time("2026-01-31 12:00") == datetime(2026, 1, 31, 12).astimezone().timestamp()


@pytest.mark.parametrize(
    "text",
    ["", "old", "new:1", "seq", "seq:", "seq:0", "seq:-1", "seq:x", "last:0", "since:", "since:yesterday", "at:1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="one of new, all, seq:N, last:N, or since:TIME") as caught:
        parse_start(text, lambda: NOW)
    assert caught.value.code == 2
