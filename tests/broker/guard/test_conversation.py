"""The rules of a conversation: what they stop, and above all what they never stop."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from hubbub_broker.config import Settings
from hubbub_broker.guard import ConversationGuard, Denial, Memory, Rule
from hubbub_broker.metrics import Metrics
from hubbub_broker.policy import TopicPolicy
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub

TOPIC = "g/c"


@dataclass
class Told:
    """A topic."""

    name: str
    policy: TopicPolicy
    memory: Memory | None = None


class Room:
    """A guard and one conversation in it, at a time that the test sets."""

    def __init__(self, rules: dict[str, Any] | None = None, topic: str = TOPIC, **values: Any) -> None:
        config = Settings.model_validate({"policy": [{"pattern": "**", **(rules or {})}], **values})
        self.metrics = Metrics()
        self.guard = ConversationGuard(config, self.metrics, lambda key: None)
        self.told: list[Rule] = []
        self.guard.report = lambda denial, topic, sender: self.told.append(denial.rule)
        self.policies = config.policies()
        self.topic = topic
        self.now = 1000.0
        self._count = 0
        self._conversations: dict[str, Told] = {}

    def say(
        self,
        sender: str,
        data: Any = None,
        *,
        id: str | None = None,
        parent: str | None = None,
        topic: str | None = None,
        payload: bytes | None = None,
        type: str | None = None,
        headers: Any = None,
    ) -> Denial | None:
        self._count += 1
        name = topic or self.topic
        pub = Pub(
            topic=name,
            id=id or f"auto{self._count}",
            data=Raw() if payload is not None else Raw(encode_value(self._count if data is None else data)),
            parent=parent,
            type=type,
            headers=Raw() if headers is None else Raw(encode_value(headers)),
        )
        return self.guard.admit(self.conversation(name), sender, pub, payload, self.now)

    def conversation(self, name: str) -> "Told":
        found = self._conversations.get(name)
        if found is None:
            found = self._conversations[name] = Told(name, self.policies.of(name))
        return found

    def chain(self, senders: str, length: int, gap: float = 100.0, **fields: Any) -> Denial | None:
        """A chain of so many answers, each to the one before; what stopped it. Slow enough to be no ping-pong."""
        for number in range(length + 1):
            self.now += gap
            parent = f"c{number - 1}" if number else None
            denial = self.say(senders[number % len(senders)], id=f"c{number}", parent=parent, **fields)
            if denial is not None:
                return denial
        return None


# Depth --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 64])
@pytest.mark.parametrize("senders", ["a", "ab", "abc"])
def test_a_chain_ends_at_max_depth(limit: int, senders: str) -> None:
    room = Room({"max_depth": limit})
    assert room.chain(senders, limit) is None
    denial = room.say("b", parent=f"c{limit}")
    assert denial is not None
    assert (denial.rule, denial.code, denial.retry_after) == (Rule.DEPTH, ErrorCode.LOOP, None)
    assert "max_depth" in denial.message
    assert room.metrics.guard_refusals == {"max_depth": 1}
    assert room.told == [Rule.DEPTH]


def test_the_default_is_64() -> None:
    assert Room().chain("abc", 64) is None
    assert Room().chain("abc", 65) is not None


def test_without_a_limit_a_chain_goes_on() -> None:
    assert Room({"max_depth": 0}, chain_ids=4).chain("ab", 500) is None


@pytest.mark.parametrize(("hops", "stopped"), [(64, False), (65, True), (10**6, True)])
def test_the_header_counts_where_there_is_no_parent(hops: int, stopped: bool) -> None:
    assert (Room().say("a", headers={"hops": hops}) is not None) is stopped


@pytest.mark.parametrize("hops", [-1, 1.5, "9", None, True, [], {"hops": 99}, 10**6 + 1, 10**40])
def test_a_header_that_is_no_count_says_nothing(hops: Any) -> None:
    assert Room({"max_depth": 1}).say("a", headers={"hops": hops}) is None


@pytest.mark.parametrize(
    "text",
    [b'{"hops":5}', b'{ "hops" : 5 }', b'{"k":{"hops":1},"hops":5}', b'{"hops":5,"cost":1}', b'{"hops":4,"hops":5}'],
)
def test_the_header_is_found_however_it_is_written(text: bytes) -> None:
    for limit, stopped in ((5, False), (4, True)):
        room = Room({"max_depth": limit})
        pub = Pub(topic=TOPIC, id="x", data=Raw(b"1"), headers=Raw(text))
        assert (room.guard.admit(room.conversation(TOPIC), "a", pub, None, 1.0) is not None) is stopped


def test_headers_that_nobody_can_read_say_nothing() -> None:
    room = Room({"max_depth": 1})
    pub = Pub(topic=TOPIC, id="x", data=Raw(b"1"), headers=Raw(b'{"hops":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
    assert room.guard.admit(room.conversation(TOPIC), "a", pub, None, 1.0) is None


def test_parent_and_header_the_larger_counts() -> None:
    room = Room({"max_depth": 10})
    assert room.say("a", id="x", headers={"hops": 9}) is None
    assert room.say("b", id="y", parent="x", headers={"hops": 2}) is None  # 10, by its parent
    assert room.say("a", parent="y") is not None
    assert room.say("a", parent="nobody knows", headers={"hops": 11}) is not None
    assert room.say("a", parent="nobody knows") is None


def test_what_was_refused_is_not_remembered() -> None:
    room = Room({"max_depth": 4})
    room.chain("ab", 4)
    assert room.say("b", id="refused", parent="c4") is not None
    assert room.say("a", parent="refused") is None  # it answers what is not there, as far as the guard knows


def test_memory_is_bounded_and_what_is_forgotten_counts_as_new() -> None:
    room = Room({"max_depth": 10}, chain_ids=8, chain_topics=5)
    for number in range(100):
        assert room.say("a", id=f"m{number}", parent="q", topic=f"g/t{number % 20}") is None
        assert len(room.guard) <= 5
    for number in range(100):
        room.say("a", id=f"n{number}", parent="q")
    memory = room.guard.memory_of(TOPIC, room.policies.of(TOPIC))
    assert len(memory.links) + len(memory.older) <= 16
    assert {f"n{number}" for number in range(92, 100)} <= memory.links.keys() | memory.older.keys()


def test_a_conversation_that_is_used_is_not_the_one_that_is_forgotten() -> None:
    room = Room(chain_topics=2)
    room.say("a", id="x", parent="q", topic="g/used")
    room.say("a", id="x", parent="q", topic="g/idle")
    for number in range(10):
        room.say("b", parent="x", topic="g/used")
        room.say("a", id="x", parent="q", topic=f"g/{number}")
    assert not room.guard.memory_of("g/used", room.policies.of("g/used")).gone
    assert room.guard.memory_of("g/used", room.policies.of("g/used")).links


# Ping-pong ----------------------------------------------------------------------------------------------------------


def rally(room: Room, most: int = 10_000) -> tuple[int, list[Denial]]:
    """Two agents that answer one another as fast as they may; how many messages went by, and each refusal."""
    number, refusals = 0, []
    while number < most:
        denial = room.say("ab"[number % 2], id=f"r{number}", parent=f"r{number - 1}" if number else None)
        if denial is None:
            number += 1
            room.now += 0.01
            continue
        refusals.append(denial)
        if denial.retry_after is None:
            break
        room.now += denial.retry_after
    return number, refusals


def test_two_that_answer_one_another_are_slowed_then_stopped() -> None:
    taken, refusals = rally(Room({"max_depth": 0}))
    slowed, stopped = refusals[:-1], refusals[-1]
    assert 100 <= taken <= 110
    assert {denial.code for denial in slowed} == {ErrorCode.RATE_LIMITED}
    waits = [round(denial.retry_after or 0.0, 6) for denial in slowed]
    assert waits == sorted(waits)
    assert waits[-1] > 20
    assert (stopped.rule, stopped.code) == (Rule.PINGPONG, ErrorCode.LOOP)
    assert "a" in stopped.message
    assert "pingpong_messages" in stopped.message


def test_by_default_they_are_slowed_before_the_depth_stops_them() -> None:
    taken, refusals = rally(Room())
    assert taken == 65
    assert [denial.rule for denial in refusals[:-1]] == [Rule.PINGPONG] * (len(refusals) - 1)
    assert len(refusals) > 5
    assert refusals[-1].rule == Rule.DEPTH


def test_three_that_take_turns_are_no_ping_pong() -> None:
    assert Room({"max_depth": 0}).chain("abc", 1000, gap=0.001) is None


def test_a_slow_exchange_is_none() -> None:
    assert Room({"max_depth": 0}).chain("ab", 500, gap=1.3) is None


def test_with_a_gap_answers_without_parent_count() -> None:
    room = Room({"pingpong_gap": "100ms"})
    stopped = None
    for number in range(300):
        room.now += 0.05
        stopped = stopped or room.say("ab"[number % 2])
    assert stopped is not None
    assert stopped.rule == Rule.PINGPONG
    room = Room({"pingpong_gap": "100ms"})
    for number in range(300):
        room.now += 0.2
        assert room.say("ab"[number % 2]) is None


# What honest traffic looks like: none of it meets a default rule ------------------------------------------------------


def test_ten_thousand_tasks_and_results_in_a_minute_without_parents() -> None:
    room = Room()
    for number in range(10_000):
        room.now += 0.006
        assert room.say("dispatcher", {"task": number}) is None
        assert room.say("worker", {"status": "done", "padding": "x" * 50}) is None


def test_ten_thousand_questions_with_answers_and_thanks() -> None:
    room = Room()
    for number in range(10_000):
        room.now += 0.006
        assert room.say("dispatcher", id=f"q{number}") is None
        assert room.say("worker", {"status": "done", "padding": "x" * 50}, id=f"a{number}", parent=f"q{number}") is None
        assert room.say("dispatcher", {"thanks": "x" * 50}, id=f"t{number}", parent=f"a{number}") is None
        assert room.say("worker", {"bye": "x" * 50}, parent=f"t{number}") is None


def test_ten_thousand_parts_of_one_answer() -> None:
    room = Room()
    room.chain("ab", 6)
    for number in range(10_000):
        assert room.say("b", f"token {number}", parent="c6") is None
        assert room.say("b", "the same token again and again, " * 3, parent="c6") is None


def test_a_metric_that_does_not_change() -> None:
    room = Room()
    for number in range(10_000):
        room.now += 0.001
        assert room.say(f"probe{number % 7}", {"value": 1.0, "unit": "ratio", "name": "up", "x": "y" * 20}) is None
        assert room.say("probe", payload=b"\0" * 64, type="sample") is None


def test_ten_thousand_agents_that_vote_the_same() -> None:
    room = Room()
    assert room.say("chair", id="motion") is None
    for number in range(10_000):
        assert room.say(f"a{number}", {"vote": "yes", "because": "the chair asked for it"}, parent="motion") is None


def test_a_pipeline_of_many_topics_at_full_speed() -> None:
    room = Room()
    for number in range(2_000):
        room.now += 0.0001
        for stage in range(12):
            headers = {"hops": stage} if stage else None
            data = {"status": "passed", "stage": stage, "padding": "x" * 40}
            assert room.say(f"s{stage}", data, topic=f"g/stage{stage}", headers=headers) is None, number


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_shallow_and_says_new_things_passes(data: st.DataObject) -> None:
    room = Room()
    ids: list[tuple[str, int]] = []
    for number in range(data.draw(st.integers(1, 80))):
        room.now += data.draw(st.sampled_from([0.0, 0.001, 1.0]))
        of = data.draw(st.integers(0, len(ids)))
        parent, depth = ids[of] if of < len(ids) and ids[of][1] < 20 else (None, -1)
        assert room.say(data.draw(st.sampled_from("abc")), id=f"m{number}", parent=parent) is None
        ids.append((f"m{number}", depth + 1))


# Echo ---------------------------------------------------------------------------------------------------------------

SAME = {"text": "somebody said something rather long"}


def test_the_same_content_going_round_is_slowed_then_stopped() -> None:
    room = Room({"max_depth": 0})
    refusals, round = [], 0
    while round < 500:
        denial = room.say("abc"[round % 3], SAME, headers={"hops": 3 * round})
        if denial is None:
            round += 1
            continue
        refusals.append(denial)
        if denial.retry_after is None:
            break
        room.now += denial.retry_after
    assert 64 <= round <= 68
    assert {denial.rule for denial in refusals} == {Rule.ECHO}
    assert refusals[0].code == ErrorCode.RATE_LIMITED
    assert refusals[-1].code == ErrorCode.LOOP
    assert room.say("d", {"text": "something new, and also rather long"}, headers={"hops": 3 * round}) is None


def test_an_echo_along_parents_is_seen_too() -> None:
    denial = Room().chain("abc", 64, gap=0.0, data=SAME)
    assert denial is not None
    assert denial.rule == Rule.ECHO


def test_short_content_is_no_echo() -> None:
    assert Room().chain("abc", 64, gap=0.0, data={"ok": True}) is None


def test_type_and_payload_are_content() -> None:
    room = Room({"max_depth": 0})
    for number in range(200):
        assert room.say("a", SAME, type=f"t{number}", headers={"hops": number}) is None
        assert room.say("a", payload=b"%064d" % number, headers={"hops": number}) is None


def test_where_repeats_are_limited_all_count() -> None:
    room = Room({"repeat_messages": 5, "echo_window": "10s"})
    assert [room.say(f"a{number}", 1) for number in range(5)] == [None] * 5
    denial = room.say("b", 1)
    assert denial is not None
    assert (denial.rule, denial.code) == (Rule.REPEAT, ErrorCode.RATE_LIMITED)
    assert room.say("b", 2) is None
    room.now += 10
    assert room.say("b", 1) is None


# A sender's rate ----------------------------------------------------------------------------------------------------


def test_a_sender_s_rate_is_its_own_in_each_topic() -> None:
    room = Room({"sender_rate": 0.5, "sender_burst": 3})
    assert [room.say("a") for _ in range(3)] == [None] * 3
    denial = room.say("a")
    assert denial is not None
    assert denial.rule == Rule.SENDER_RATE
    assert denial.retry_after == pytest.approx(2.0)
    assert room.say("b") is None
    assert room.say("a", topic="g/other") is None
    room.now += 2
    assert room.say("a") is None


def test_what_another_rule_refuses_uses_nothing_up() -> None:
    room = Room({"sender_rate": 0.5, "sender_burst": 1, "budget_messages": 1, "max_depth": 2})
    assert room.say("a", headers={"hops": 3}) is not None
    assert room.say("a") is None
