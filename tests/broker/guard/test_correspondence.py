"""Mail that goes round is slowed and stopped, whether its senders say what they answer or not; honest mail never is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import cycle, islice, pairwise
from typing import Any

import pytest
from msgspec import Raw

from hubbub_broker.config import Settings
from hubbub_broker.guard import ConversationGuard, Denial, Guard, Memory, Rule
from hubbub_broker.metrics import Metrics
from hubbub_broker.policy import TopicPolicy
from hubbub_protocol.codec import encode_value
from hubbub_protocol.errors import ErrorCode
from hubbub_protocol.frames import Pub

THANKS = "Thank you very much for your message, I will look into it!"
MINUTE, HOUR = 60.0, 3600.0


class Inbox:
    """A topic."""

    def __init__(self, name: str, policy: TopicPolicy) -> None:
        self.name = name
        self.policy = policy
        self.memory: Memory | None = None


class Office:
    """Agents that mail one another, at a time that the test sets; their inboxes are in two shards."""

    def __init__(self, rules: dict[str, Any] | None = None, **values: Any) -> None:
        settings = Settings.model_validate({"policy": [{"pattern": "**", **(rules or {})}], **values})
        self.now = 1000.0
        self.metrics = Metrics()
        self.guard = Guard(settings, self.metrics, lambda: self.now, lambda kind, data: None, lambda call: None)
        self._policy = settings.policies().of("g/@a")
        self._shards = [ConversationGuard(settings, self.metrics, lambda key: None) for _ in range(2)]
        for shard in self._shards:
            shard.mail = self.guard.mail
        self._inboxes: dict[str, Inbox] = {}
        self._count = 0
        self.last = ""
        """The id of the newest mail that was taken."""

    def send(
        self,
        sender: str,
        to: str,
        body: Any = None,
        *,
        subject: str = "",
        id: str | None = None,
        type: str | None = "mail",
        **headers: Any,
    ) -> Denial | None:
        self._count += 1
        id = id or f"m{self._count}"
        data = {"to": to, "subject": subject, "body": f"this is about matter {self._count}" if body is None else body}
        pub = Pub(
            topic=f"g/@{to}",
            id=id,
            type=type,
            data=Raw(encode_value(data)),
            headers=Raw(encode_value(headers)) if headers else Raw(),
        )
        if to == "ALL":
            found = self.guard.admit_broadcast(sender, pub, self.now)
            return found if isinstance(found, Denial) else None
        inbox = self._inboxes.get(to) or self._inboxes.setdefault(to, Inbox(pub.topic, self._policy))
        denial = self._shards[ord(to[-1]) % 2].admit(inbox, sender, pub, None, self.now)
        self.last = self.last if denial else id
        return denial


Send = Callable[[str, str], Denial | None]
"""Sends one mail from one agent to another."""


def same(office: Office) -> Send:
    return lambda sender, to: office.send(sender, to, THANKS)


def re_same_subject(office: Office) -> Send:
    return lambda sender, to: office.send(sender, to, subject="Re: hello")


def more_and_more_re(office: Office) -> Send:
    subjects = (f"{'Re: ' * count}hello" for count in range(10_000))
    return lambda sender, to: office.send(sender, to, subject=next(subjects))


def naming(office: Office) -> Send:
    return lambda sender, to: office.send(sender, to, in_reply_to=office.last)


def by_hops(office: Office) -> Send:
    hops = iter(range(10_000))
    return lambda sender, to: office.send(sender, to, hops=next(hops))


def naming_the_first_by_mistake(office: Office) -> Send:
    return lambda sender, to: office.send(sender, to, subject="re: hello", in_reply_to="m1")


def ring(names: str) -> Iterator[tuple[str, str]]:
    return pairwise(cycle(names))


def storm(office: Office, names: str, send: Send, gap: float, most: int = 400) -> tuple[int, list[Denial]]:
    """So many mails in a circle of agents that each take so long, and wait as they are told. How many went by, and each
    refusal, until one can't be cured by waiting.
    """
    refusals: list[Denial] = []
    for taken, (sender, to) in enumerate(islice(ring(names), most)):
        office.now += gap
        while (denial := send(sender, to)) is not None:
            refusals.append(denial)
            if denial.retry_after is None:
                return taken, refusals
            office.now += denial.retry_after
    return most, refusals


@pytest.mark.parametrize("names", ["ab", "abc", "abcdefg"])
@pytest.mark.parametrize("how", [same, re_same_subject, more_and_more_re, naming, by_hops, naming_the_first_by_mistake])
def test_the_mails_of_a_night_end(names: str, how: Callable[[Office], Send]) -> None:
    """398 of them, by agents that poll: slower than any rate would notice."""
    office = Office()
    taken, refusals = storm(office, names, how(office), gap=90.0, most=398)
    assert 64 <= taken <= 67
    assert [(denial.rule, denial.code) for denial in refusals] == [(Rule.DEPTH, ErrorCode.LOOP)]
    assert "max_depth" in refusals[0].message
    assert "hops 0" in refusals[0].message
    assert office.metrics.guard_refusals == {"max_depth": 1}


@pytest.mark.parametrize(
    ("names", "how", "rule"),
    [
        ("ab", same, Rule.ECHO),
        ("ab", re_same_subject, Rule.PINGPONG),
        ("ab", naming, Rule.PINGPONG),
        ("abc", same, Rule.ECHO),
        ("abcdefg", same, Rule.ECHO),
    ],
)
def test_a_fast_storm_is_slowed_more_and_more_and_then_stopped(
    names: str, how: Callable[[Office], Send], rule: Rule
) -> None:
    office = Office()
    taken, refusals = storm(office, names, how(office), gap=0.001)
    assert taken <= 66
    *slowed, stopped = refusals
    assert stopped.code == ErrorCode.LOOP
    first = [denial for denial in slowed if denial.rule == rule]
    assert len(first) > 5
    assert {denial.code for denial in slowed} == {ErrorCode.RATE_LIMITED}
    waits = [denial.retry_after or 0.0 for denial in first]
    assert waits == sorted(waits)
    assert waits[0] < 0.3
    assert waits[-1] > 3


def test_two_that_say_nothing_of_causes_are_slowed_then_stopped_and_a_silence_ends_it() -> None:
    office = Office()

    def send(sender: str, to: str) -> Denial | None:
        return office.send(sender, to)

    taken, refusals = storm(office, "ab", send, gap=0.001)
    assert 100 <= taken <= 110
    assert {denial.rule for denial in refusals} == {Rule.PINGPONG}
    assert [denial.code for denial in refusals[-2:]] == [ErrorCode.RATE_LIMITED, ErrorCode.LOOP]
    assert send("a", "c") is None  # it is between the two
    office.now += MINUTE
    assert storm(office, "ab", send, gap=0.001, most=40) == (40, [])


def test_what_goes_round_is_seen_through_a_mail_to_all() -> None:
    office = Office()
    assert office.send("a", "ALL", THANKS, subject="hello") is None
    for sender, to in islice(ring("ba"), 64):
        office.now += MINUTE
        assert office.send(sender, to, subject="Re: hello") is None
    denial = office.send("b", "a", subject="Re: hello")
    assert denial is not None
    assert denial.rule == Rule.DEPTH


def test_what_was_stopped_can_begin_anew() -> None:
    office = Office()
    storm(office, "ab", re_same_subject(office), gap=MINUTE)
    sender, to = ("a", "b") if office.send("a", "b", subject="Re: hello") is not None else ("b", "a")
    assert office.send(sender, to, subject="RE: hello") is not None
    assert office.send(sender, to, subject="hello, again") is None
    assert office.send(sender, to, subject="Re: hello", hops=0) is None
    assert office.send(to, sender, subject="Re: hello") is None
    office = Office()
    storm(office, "ab", re_same_subject(office), gap=MINUTE)
    office.now += HOUR + 1
    assert office.send("a", "b", subject="Re: hello") is None
    assert office.send("b", "a", subject="Re: hello") is None


def test_what_is_refused_is_not_remembered() -> None:
    office = Office({"max_depth": 4})
    for number in range(5):
        answers = {"in_reply_to": f"x{number - 1}"} if number else {}
        assert office.send("ab"[number % 2], "ba"[number % 2], id=f"x{number}", **answers) is None
    before = len(office.guard.mail)
    assert office.send("b", "a", id="refused", in_reply_to="x4") is not None
    assert len(office.guard.mail) == before
    assert office.send("a", "b", in_reply_to="refused") is None


@pytest.mark.parametrize("id", ["nobody knows", "", "x" * 10_000])
def test_a_name_that_nobody_knows_is_a_first_answer(id: str) -> None:
    assert Office({"max_depth": 1}).send("a", "b", in_reply_to=id) is None


@pytest.mark.parametrize(
    "headers", [{"in_reply_to": 7}, {"cause": []}, {"cause": {"id": 3}}, {"hops": "x"}, {"broadcasts": -1}]
)
def test_headers_that_say_nothing_stop_nothing(headers: Any) -> None:
    assert Office({"max_depth": 1}).send("a", "b", **headers) is None
    assert Office(broadcast_depth=1).send("a", "ALL", **headers) is None


@pytest.mark.parametrize(
    "data", [b'{"subject":7,"body":{}}', b"[1,2]", b'"text"', b"{", b"[" * 100_000, b'{"body":""}']
)
def test_mail_of_any_shape_passes(data: bytes) -> None:
    office = Office()
    inbox = Inbox("g/@b", TopicPolicy())
    for number in range(20):
        pub = Pub(topic="g/@b", id=str(number), type="mail", data=Raw(data))
        assert office._shards[0].admit(inbox, "a", pub, None, office.now) is None


def test_memory_is_bounded() -> None:
    office = Office(mail_entries=10)
    for number in range(1000):
        office.send(f"a{number}", f"b{number}", THANKS, subject=f"s{number}")
    assert len(office.guard.mail) <= 2 * 5 * 10


# Mails to ALL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "name", "subject", "content"])
def test_a_broadcast_may_be_answered_with_broadcasts_and_those_may_not(how: str) -> None:
    office = Office()
    assert office.send("boss", "ALL", THANKS, subject="Who is there?", id="b0") is None

    def answer(sender: str, number: int) -> Denial | None:
        headers: dict[str, Any] = {}
        if how == "header":
            headers = {"broadcasts": number}
        elif how == "name":
            headers = {"in_reply_to": f"b{number - 1}"}
        subject = "Re: Who is there?" if how == "subject" else ""
        office.now += 1
        return office.send(
            sender, "ALL", THANKS if how == "content" else None, subject=subject, id=f"b{number}", **headers
        )

    assert answer("ann", 1) is None
    denial = answer("joe", 2)
    assert denial is not None
    assert (denial.rule, denial.code, denial.retry_after) == (Rule.BROADCAST_DEPTH, ErrorCode.LOOP, None)
    assert "broadcast_depth" in denial.message
    assert office.send("joe", "ann", in_reply_to="b1") is None
    assert office.send("joe", "ALL", subject="Something else") is None
    assert office.metrics.guard_refusals == {"broadcast_depth": 1}


def test_announcements_are_no_chain() -> None:
    """25 agents, each of which tells all something once an hour, for a week."""
    office = Office()
    for _ in range(24 * 7):
        for number in range(25):
            office.now += HOUR / 25
            assert office.send(f"a{number}", "ALL", f"Agent {number} has nothing new", subject="News") is None


def test_with_no_limit_they_go_on() -> None:
    office = Office(broadcast_depth=0, broadcast_rate=0)
    assert all(office.send("ab"[number % 2], "ALL", broadcasts=number) is None for number in range(100))


# Honest mail --------------------------------------------------------------------------------------------------------


def test_the_same_question_to_fifty_agents_round_after_round() -> None:
    office = Office()
    for _ in range(200):
        office.now += 5 * MINUTE
        for number in range(50):
            assert office.send("boss", f"w{number}", "status? please answer until the end of the hour") is None
        for number in range(50):
            assert office.send(f"w{number}", "boss", "All is well, and there is nothing new to report") is None


@pytest.mark.parametrize("subject", ["", "Work"])
def test_two_that_exchange_thirty_mails_an_hour_for_a_week(subject: str) -> None:
    office = Office()
    for sender, to in islice(ring("ab"), 30 * 24 * 7):
        office.now += HOUR / 30
        assert office.send(sender, to, subject=subject) is None


def test_every_task_is_answered_under_its_subject() -> None:
    office = Office()
    for _ in range(1000):
        office.now += MINUTE
        assert office.send("boss", "joe", subject="Task") is None
        assert office.send("joe", "boss", subject="Re: Task") is None


def test_whoever_acknowledges_each_mail_with_ok() -> None:
    office = Office()
    for _ in range(1000):
        office.now += 5.0
        assert office.send("ann", "joe") is None
        assert office.send("joe", "ann", "ok") is None


def test_whoever_acknowledges_each_mail_with_a_long_template() -> None:
    """A day of agents that write to one another at random, and each has the same answer to whatever is new."""
    office, source = Office(), random.Random(7)
    for _ in range(5000):
        office.now += 17.0
        asks, answers = source.sample("abcdefgh", 2)
        assert office.send(asks, answers) is None
        assert office.send(answers, asks, THANKS) is None


def test_questions_at_full_speed_whose_answers_say_so() -> None:
    office = Office()
    for number in range(10_000):
        office.now += 0.001
        assert office.send("ann", "joe", id=f"q{number}") is None
        assert office.send("joe", "ann", in_reply_to=f"q{number}", hops=1) is None


def test_one_that_sends_at_full_speed() -> None:
    office = Office()
    for number in range(10_000):
        assert office.send("ann", "joe", THANKS, subject="Re: all") is None
        assert office.send("ann", f"a{number % 100}", THANKS) is None


def test_what_is_no_mail_is_not_looked_at() -> None:
    office = Office()
    for sender, to in islice(ring("ab"), 10_000):
        assert office.send(sender, to, THANKS, type=None) is None
    assert len(office.guard.mail) == 0


def test_two_agents_that_begin_something_new_each_time_and_say_so() -> None:
    office = Office()
    for sender, to in islice(ring("ab"), 10_000):
        assert office.send(sender, to, THANKS, subject="Re: x", hops=0) is None
