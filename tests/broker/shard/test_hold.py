"""Hold-back's bookkeeping, alone."""

from typing import Any, cast

from msgspec import Raw

from hubbub_broker.shard.hold import Held, HoldBack
from hubbub_broker.shard.publisher import Publisher
from hubbub_protocol.frames import Pub


class Someone:
    """As much of a publisher as hold-back looks at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = name.encode()


def held(id: str, parent: str | None, n: int | None = None, who: str = "joe", deadline: float = 10.0) -> Held:
    pub = Pub(topic="g/c", id=id, data=Raw(b"1"), parent=parent, n=n)
    return Held(cast(Publisher, Someone(who)), pub, None, cast(Any, object()), parent, deadline)


def ids(items: list[Held]) -> list[str]:
    return [item.pub.id for item in items]


def test_a_parent_frees_all_that_wait_for_it_in_the_order_they_came() -> None:
    hold = HoldBack()
    for id, parent in (("a", "p"), ("b", "q"), ("c", "p")):
        hold.add(held(id, parent))
    assert ids(hold.freed_by("nobody's parent")) == []
    assert ids(hold.freed_by("p")) == ["a", "c"]
    assert ids(hold.freed_by("p")) == []
    assert ids(hold.freed_by("q")) == ["b"]
    assert (len(hold), hold.bytes) == (0, 0)


def test_a_numbered_one_waits_behind_its_publisher_s_own() -> None:
    hold = HoldBack()
    hold.add(held("1", "p", n=1))
    hold.add(held("2", "q", n=2))
    hold.add(held("x", "q", who="ann", n=1))
    assert hold.last_n(b"joe") == 2
    assert ids(hold.freed_by("q")) == ["x"]
    assert ids(hold.freed_by("p")) == ["1", "2"]
    assert hold.last_n(b"joe") is None


def test_what_is_overdue_comes_one_at_a_time_oldest_first() -> None:
    hold = HoldBack()
    hold.add(held("a", "p", deadline=1))
    hold.add(held("b", "a", deadline=2))
    assert hold.overdue(0.5) is None
    first = hold.overdue(5)
    assert first is not None
    assert first.pub.id == "a"
    assert ids(hold.freed_by("a")) == ["b"]
    assert hold.overdue(5) is None


def test_what_only_waited_behind_another_is_ready_when_that_has_gone() -> None:
    hold = HoldBack()
    hold.add(held("1", "p", n=1))
    hold.add(held("2", None, n=2))
    assert ids(hold.ready()) == []
    assert hold.evict().pub.id == "1"
    assert ids(hold.ready()) == ["2"]


def test_a_held_message_is_found_by_publisher_and_id() -> None:
    hold = HoldBack()
    message = held("a", "p")
    hold.add(message)
    assert hold.find(message.publisher, message.pub) is message
    assert hold.find(held("a", "p", who="ann").publisher, message.pub) is None
    signal = Pub(topic="g/c", id="a", data=Raw(b"1"), ephemeral=True)
    assert hold.find(message.publisher, signal) is None


def test_a_count_that_begins_again_waits_behind_the_one_before() -> None:
    hold = HoldBack()
    for id, n in (("1", 1), ("2", 2), ("1 again", 1)):
        hold.add(held(id, "p", n=n))
    assert hold.evict().pub.id == "1"
    assert hold.last_n(b"joe") == 1
    assert hold.evict().pub.id == "2"
    assert hold.last_n(b"joe") == 1
    assert hold.evict().pub.id == "1 again"
    assert hold.last_n(b"joe") is None
