"""What a conversation may use: counted from its beginning, kept over restarts, reset by hand."""

from pathlib import Path
from typing import Any

import pytest

from harness.shard_site import ShardSite
from hubbub_broker.guard import Ledger, Rule, Sums
from hubbub_broker.policy import TopicPolicy
from hubbub_protocol.causal import cost_of


class States:
    """The keyed states of a log."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.appended = 0

    def append(self, kind: int, key: bytes, body: bytes) -> None:
        self.appended += 1
        self.bodies[key] = body


@pytest.mark.parametrize(
    ("policy", "sums", "size", "cost", "rule"),
    [
        (TopicPolicy(budget_messages=3), Sums(2), 1, 0.0, None),
        (TopicPolicy(budget_messages=3), Sums(3), 1, 0.0, Rule.BUDGET_MESSAGES),
        (TopicPolicy(budget_bytes=100), Sums(1, 90), 10, 0.0, None),
        (TopicPolicy(budget_bytes=100), Sums(1, 90), 11, 0.0, Rule.BUDGET_BYTES),
        (TopicPolicy(budget_cost=1.0), Sums(1, 1, 0.5), 1, 0.5, None),
        (TopicPolicy(budget_cost=1.0), Sums(1, 1, 0.5), 1, 0.6, Rule.BUDGET_COST),
        (TopicPolicy(), Sums(10**9, 10**15, 1e12), 10**9, 1e9, None),
    ],
)
def test_a_budget_ends_where_it_says(
    policy: TopicPolicy, sums: Sums, size: int, cost: float, rule: Rule | None
) -> None:
    denial = sums.why_not("g/c", policy, size, cost)
    assert (None if denial is None else denial.rule) == rule
    if denial is not None:
        assert denial.rule in denial.message
        assert denial.retry_after is None


@pytest.mark.parametrize(
    ("header", "cost"),
    [(1, 1.0), (0.25, 0.25), (-1, 0.0), (True, 0.0), ("1", 0.0), (None, 0.0), (1e300, 0.0), (float("nan"), 0.0)],
)
def test_a_cost_is_a_number_or_nothing(header: Any, cost: float) -> None:
    assert cost_of(header) == cost


@pytest.mark.parametrize("body", [None, b"", b"x", Sums(1).encode()[:-1], b"\x09" + Sums(1).encode()[1:]])
def test_what_cannot_be_read_counts_as_nothing_used(body: bytes | None) -> None:
    assert Sums.decode(body).messages == 0


def test_sums_are_written_once_for_many_messages_and_read_back() -> None:
    states = States()
    ledger = Ledger(states.bodies.get, kept=10)
    for _ in range(1000):
        ledger.used("g/c", ledger.of("g/c"), 10, 0.5)
    assert ledger.write(states.append) == 1
    assert ledger.write(states.append) == 0
    again = Ledger(states.bodies.get, kept=10).of("g/c")
    assert (again.messages, again.bytes, again.cost) == (1000, 10_000, 500.0)
    assert ledger.reset("g/c").messages == 1000
    ledger.write(states.append)
    assert states.bodies[b"g/c"] == b""


def test_memory_is_bounded_and_nothing_unwritten_is_let_go() -> None:
    states = States()
    ledger = Ledger(states.bodies.get, kept=4)
    for number in range(100):
        name = f"g/t{number}"
        ledger.used(name, ledger.of(name), 1, 0.0)
        if number % 10 == 9:
            ledger.write(states.append)
    for number in range(100):
        assert ledger.of(f"g/t{number}").messages == 1
    assert len(ledger._sums) <= 5


def publish(site: ShardSite, peer: Any, topic: str, count: int) -> list[str]:
    for _ in range(count):
        peer.request("pub", topic=topic, id=f"m{site.now}-{len(peer.lines)}-{_}", data=1)
    site.settle()
    answers = [line.get("code", line["op"]) for line in peer.take() if line["op"] in ("ok", "err")]
    return sorted(answers, key="budget".__eq__)  # a refusal does not wait for the disk


@pytest.fixture
def site(tmp_path: Path) -> Any:
    site = ShardSite(tmp_path / "data", policy=({"pattern": "paid/**", "budget_messages": 3},))
    yield site
    site.close()


def test_over_a_restart_a_budget_stays_used(site: ShardSite) -> None:
    assert publish(site, site.connect("joe"), "paid/c", 2) == ["ok"] * 2
    site.loop.do(site.shard.keep_budgets)
    joe = site.connect("joe2")
    site.tick(1)
    assert publish(site, joe, "free/c", 1) == ["ok"]  # a commit takes the sums along
    site.crash()
    site.reopen()
    site.tick(1)
    assert publish(site, site.connect("joe"), "paid/c", 2) == ["ok", "budget"]
    site.tick(1)
    site.loop.do(lambda: site.shard.guard.ledger.reset("paid/c"))
    assert publish(site, site.connect("joe3"), "paid/c", 4) == ["ok"] * 3 + ["budget"]


def test_a_crash_forgets_no_more_than_what_was_used_since_the_last_write(site: ShardSite) -> None:
    assert publish(site, site.connect("joe"), "paid/c", 3) == ["ok"] * 3
    site.crash()
    site.reopen()
    site.tick(1)
    assert publish(site, site.connect("joe"), "paid/c", 1) == ["ok"]


def test_sums_of_a_lost_batch_are_written_again(site: ShardSite) -> None:
    assert publish(site, site.connect("joe"), "paid/c", 1) == ["ok"]
    site.loop.do(site.shard.keep_budgets)
    site.shard._batch_lost()
    states: list[bytes] = []
    assert site.shard.guard.ledger.write(lambda kind, key, body: states.append(key)) == 1
    assert states == [b"paid/c"]


def test_a_repeat_is_counted_once(site: ShardSite) -> None:
    joe = site.connect("joe")
    for _ in range(5):
        joe.request("pub", topic="paid/c", id="same", data=1)
    site.settle()
    assert site.shard.guard.ledger.of("paid/c").messages == 1
