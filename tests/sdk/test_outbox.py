"""The outbox against a model of the broker: whatever is answered, lost or refused, each topic's order holds."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hubbub.outbox import Entry, Outbox, OutboxLimits
from hubbub_protocol import codec
from hubbub_protocol.frames import Pub

WINDOW = 5


def entry(id: str, topic: str = "g/c", *, ephemeral: bool = False, expires_at: float | None = None) -> Entry:
    loop = asyncio.new_event_loop()
    future: Any = loop.create_future()
    loop.close()
    line = codec.encode(Pub(topic=topic, id=id, ephemeral=ephemeral))
    return Entry(topic, id, line, future, ephemeral=ephemeral, expires_at=expires_at)


def outbox(**limits: int) -> Outbox:
    return Outbox(OutboxLimits(**{"messages": 1000, "bytes": 1 << 20, **limits}))


def ids(entries: Any) -> list[str]:
    return [one.id for one in entries]


class TestTake:
    def test_in_order_of_acceptance_up_to_the_window(self) -> None:
        box = outbox()
        for number in range(5):
            box.accept(entry(str(number), f"g/{number % 2}", ephemeral=number == 2))
        assert ids(box.take(3, 0)[0]) == ["0", "1", "2"]
        assert ids(box.take(3, 0)[0]) == []
        box.confirm("1")
        assert ids(box.take(3, 0)[0]) == ["3"]

    def test_numbers_count_by_topic_and_leave_out_signals(self) -> None:
        box = outbox()
        for id, topic, ephemeral in [("a", "g/x", False), ("b", "g/y", False), ("c", "g/x", True), ("d", "g/x", False)]:
            box.accept(entry(id, topic, ephemeral=ephemeral))
        batch, _ = box.take(9, 0)
        lines = {one.id: codec.decode_client(one.line_at(0)) for one in batch}
        assert {id: getattr(pub, "n", None) for id, pub in lines.items()} == {"a": 1, "b": 1, "c": None, "d": 2}

    def test_what_expired_is_left_out(self) -> None:
        box = outbox()
        for id, expires in [("a", None), ("b", 5.0), ("c", 50.0)]:
            box.accept(entry(id, expires_at=expires))
        batch, expired = box.take(9, 10.0)
        assert (ids(batch), ids(expired)) == (["a", "c"], ["b"])
        assert [one.n for one in batch] == [1, 2]
        assert len(box) == 2

    def test_what_is_sent_says_what_is_left_of_its_time(self) -> None:
        box = outbox()
        for id, expires, ephemeral in [
            ("a", None, False),
            ("b", 50.0, False),
            ("c", 50.0, True),
            ("d", 10.0001, False),
        ]:
            box.accept(entry(id, expires_at=expires, ephemeral=ephemeral))

        def sent(now: float) -> dict[str, float | None]:
            pubs = [codec.decode_client(one.line_at(now)) for one in box.take(9, now)[0]]
            return {pub.id: pub.ttl for pub in pubs if isinstance(pub, Pub)}

        assert sent(10.0) == {"a": None, "b": 40.0, "c": 40.0, "d": 0.001}
        box.rewind()
        assert sent(30.0) == {"a": None, "b": 20.0, "c": 20.0}

    def test_a_signal_that_expired_is_left_out_too(self) -> None:
        box = outbox()
        box.accept(entry("a", expires_at=5.0, ephemeral=True))
        batch, expired = box.take(9, 5.0)
        assert (ids(batch), ids(expired), len(box)) == ([], ["a"], 0)


class TestRoom:
    def test_messages_and_bytes(self) -> None:
        box = outbox(messages=2, bytes=5000)
        assert box.has_room(10_000)  # the first one always: it could never go otherwise
        box.accept(entry("a"))
        assert not box.has_room(10_000)
        assert box.has_room(100)
        box.accept(entry("b"))
        assert not box.has_room(0)
        box.take(9, 0)
        box.confirm("a")
        assert box.has_room(100)
        box.confirm("b")
        assert (len(box), box.bytes, box.inflight) == (0, 0, 0)

    def test_the_oldest_signal_that_is_not_on_its_way(self) -> None:
        box = outbox()
        for id in "abc":
            box.accept(entry(id, ephemeral=True))
        box.take(1, 0)
        oldest = box.oldest_ephemeral()
        assert oldest is not None
        assert oldest.id == "b"
        box.drop(oldest)
        assert ids(box.take(9, 0)[0]) == ["c"]
        assert ids(box.drop_ephemerals()) == ["a", "c"]
        assert len(box) == 0


class TestAnswers:
    def test_answers_to_nothing_are_ignored(self) -> None:
        box = outbox()
        box.accept(entry("a"))
        assert box.confirm("a") is None  # it was not sent yet
        assert box.refuse("b") is None
        assert box.postpone("b", None, 0) is None
        box.take(9, 0)
        assert box.confirm("a") is not None
        assert box.confirm("a") is None

    def test_a_lane_that_stopped_goes_on_when_all_its_answers_are_in(self) -> None:
        box = outbox()
        for id in "abcd":
            box.accept(entry(id))
        box.accept(entry("other", "g/other"))
        box.take(3, 0)
        lane = box.postpone("a", None, 0).lane  # type: ignore[union-attr]
        assert lane is not None
        assert ids(box.take(9, 0)[0]) == ["other"]
        box.postpone("b", 1, 0)
        box.postpone("c", 1, 0)
        assert lane.outstanding == 0
        box.resume(lane)
        batch, _ = box.take(9, 0)
        assert [(one.id, one.n) for one in batch] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]

    def test_the_broker_says_which_number_it_wants(self) -> None:
        box = outbox()
        box.accept(entry("a"))
        box.take(9, 0)
        lane = box.postpone("a", 40, 0).lane  # type: ignore[union-attr]
        assert lane is not None
        box.resume(lane)
        assert box.take(9, 0)[0][0].n == 40

    def test_a_refused_message_leaves_its_number_to_the_next(self) -> None:
        box = outbox()
        for id in "ab":
            box.accept(entry(id))
        box.take(1, 0)
        lane = box.refuse("a").lane  # type: ignore[union-attr]
        assert lane is not None
        box.resume(lane)
        assert [(one.id, one.n) for one in box.take(9, 0)[0]] == [("b", 1)]

    def test_rewind_sends_all_again_in_order_with_the_same_numbers(self) -> None:
        box = outbox()
        for number in range(6):
            box.accept(entry(str(number), f"g/{number % 2}"))
        box.take(4, 0)
        box.confirm("0")
        box.rewind()
        assert box.inflight == 0
        assert [(one.id, one.n) for one in box.take(9, 0)[0]] == [("1", 1), ("2", 2), ("3", 2), ("4", 3), ("5", 3)]

    def test_before(self) -> None:
        box = outbox()
        first, second, third = (entry(id) for id in "abc")
        signal = entry("s", ephemeral=True)
        for one in (first, second, third):
            box.accept(one)
        box.take(9, 0)
        box.confirm("a", 7)
        assert box.before(third) == (("a", 7), ("b",))
        assert box.before(signal) == (("a", 7), ("b", "c"))
        assert box.before(entry("x", "g/other")) == (None, ())

    def test_clear(self) -> None:
        box = outbox()
        for id in "ab":
            box.accept(entry(id))
        box.take(1, 0)
        assert ids(box.clear()) == ["a", "b"]
        assert (len(box), box.bytes, box.inflight, box.has_ready) == (0, 0, 0, False)


class OutboxAgainstABroker(RuleBasedStateMachine):
    """A broker that keeps `n` in order and ids once, and may refuse, answer late, or be gone at any step."""

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox()
        self.accepted: dict[str, list[str]] = {}
        self.refused: set[str] = set()
        self.confirmed: set[str] = set()
        self.stored: dict[str, list[str]] = {}
        self.count: dict[str, int] = {}
        self.wire: list[tuple[str, str, int]] = []
        self.answers: list[tuple[str, str, int | None]] = []
        self.next = 0
        self.now = 0.0
        self.expired: set[str] = set()

    @rule(topic=st.sampled_from(["g/a", "g/b"]), mortal=st.booleans())
    def accept(self, topic: str, mortal: bool) -> None:
        self.next += 1
        self.accepted.setdefault(topic, []).append(str(self.next))
        self.box.accept(entry(str(self.next), topic, expires_at=self.now + 1 if mortal else None))

    @rule()
    def time_passes(self) -> None:
        self.now += 1

    @rule()
    def send(self) -> None:
        batch, expired = self.box.take(WINDOW, self.now)
        self.expired |= set(ids(expired))
        self.wire += [(one.topic, one.id, one.n) for one in batch]

    @precondition(lambda self: self.wire)
    @rule(mood=st.sampled_from(["store", "store", "store", "overloaded", "refuse"]))
    def broker_reads_one(self, mood: str) -> None:
        topic, id, n = self.wire.pop(0)
        stored = self.stored.setdefault(topic, [])
        expected = self.count.get(topic, 0) + 1
        if id in stored:
            self.answers.append(("ok", id, None))
        elif n not in (expected, 1):
            self.answers.append(("order", id, expected))
        elif mood == "store":
            stored.append(id)
            self.count[topic] = n
            self.answers.append(("ok", id, None))
        else:
            self.answers.append((mood, id, None))

    @precondition(lambda self: self.answers)
    @rule()
    def client_reads_one(self) -> None:
        kind, id, expect = self.answers.pop(0)
        if kind == "ok":
            settled = self.box.confirm(id, 1)
            assert settled is not None
            self.confirmed.add(id)
        elif kind == "refuse":
            settled = self.box.refuse(id)
            self.refused.add(id)
        else:
            settled = self.box.postpone(id, expect, 0.0)
        assert settled is not None, "every answer is to a question"
        lane = settled.lane
        assert lane is not None
        if lane.blocked and not lane.outstanding:
            self.box.resume(lane)

    @rule(read=st.booleans())
    def connection_ends(self, read: bool) -> None:
        """What was on the wire may have been read by the broker, but its answers are lost."""
        while self.wire and read:
            self.broker_reads_one("store")
        self.wire.clear()
        self.answers.clear()
        self.box.rewind()

    @rule()
    def broker_forgets_its_counts(self) -> None:
        self.count.clear()

    @invariant()
    def order_holds(self) -> None:
        for topic, stored in self.stored.items():
            order = [id for id in self.accepted[topic] if id not in self.refused]
            places = [order.index(id) for id in stored if id in order]
            assert places == sorted(places)
            assert len(stored) == len(set(stored))

    @invariant()
    def window_holds(self) -> None:
        assert self.box.inflight <= WINDOW

    def teardown(self) -> None:
        for _ in range(10_000):
            if not len(self.box):
                break
            self.send()
            while self.wire:
                self.broker_reads_one("store")
            while self.answers:
                self.client_reads_one()
        assert len(self.box) == 0, "everything is settled in the end"
        assert self.box.bytes == 0
        for topic, accepted in self.accepted.items():
            # One that was refused, or expired, after an earlier attempt had been stored unseen is both.
            gone = self.refused | self.expired
            kept = [id for id in accepted if id not in gone]
            assert [id for id in self.stored.get(topic, []) if id not in gone] == kept
            assert set(kept) <= self.confirmed


OutboxAgainstABroker.TestCase.settings = settings(stateful_step_count=60)
TestOutboxAgainstABroker = OutboxAgainstABroker.TestCase


@pytest.mark.parametrize("count", [3])
def test_idle_topics_are_not_remembered_without_bound(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubbub.outbox.LANES_MAX", count)
    box = outbox()
    for number in range(10):
        box.accept(entry(str(number), f"g/{number}"))
        box.take(9, 0)
        box.confirm(str(number))
    assert len(box._lanes) <= count
