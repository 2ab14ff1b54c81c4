"""The count of the demonstration: whatever is lost, doubled or swapped, it must say so."""

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.cli.demonstration.audit import EVIDENCE_MAX, REPLAY, Anomalies, audit, describe, examine
from hubbub_broker.cli.demonstration.tamper import TAMPERS
from hubbub_broker.cli.demonstration.witness import Claims, Statement, Witness

AGENTS = ("ann", "bob", "cyd")

heads = st.integers(1, 40)


@given(heads)
def test_every_seq_once_and_in_order_is_right(head: int) -> None:
    assert examine(range(1, head + 1), head) == Anomalies()
    assert not examine([], 0)


@given(heads, st.data())
def test_any_missing_seqs_are_lost(head: int, data: st.DataObject) -> None:
    missing = data.draw(st.sets(st.integers(1, head)))
    assert examine([seq for seq in range(1, head + 1) if seq not in missing], head) == Anomalies(lost=len(missing))


@given(heads, st.data())
def test_any_further_copies_are_duplicates_wherever_they_come(head: int, data: st.DataObject) -> None:
    seqs = list(range(1, head + 1))
    copies = data.draw(st.lists(st.integers(1, head), max_size=10))
    for seq in copies:
        seqs.insert(data.draw(st.integers(seqs.index(seq) + 1, len(seqs))), seq)
    assert examine(seqs, head) == Anomalies(duplicated=len(copies))


@given(st.integers(2, 40), st.data())
def test_two_neighbours_that_changed_places_are_one_out_of_order(head: int, data: st.DataObject) -> None:
    seqs = list(range(1, head + 1))
    at = data.draw(st.integers(1, head - 1))
    seqs[at - 1], seqs[at] = seqs[at], seqs[at - 1]
    assert examine(seqs, head) == Anomalies(out_of_order=1)


@given(st.permutations(range(1, 12)))
def test_order_is_right_only_in_order(seqs: list[int]) -> None:
    found = examine(seqs, 11)
    assert (found.lost, found.duplicated) == (0, 0)
    assert (found.out_of_order > 0) == (seqs != sorted(seqs))


@given(st.lists(st.integers(-3, 15), max_size=25), st.integers(0, 15))
def test_nothing_else_counts_as_right(seqs: list[int], head: int) -> None:
    largest = max([head, *seqs])
    assert (not examine(seqs, largest)) == (seqs == list(range(1, largest + 1)))


def test_a_message_without_a_seq_is_no_message_of_the_log() -> None:
    assert examine([1, 0, 2], 2) == Anomalies(conflicting=1)


def test_the_first_place_that_is_wrong_is_described() -> None:
    assert describe([1, 2, 4], 4) == "where 3 should be there is 4"
    assert describe([1, 2], 4) == "it ends at 2 of 4"
    assert describe([1, 2], 2) == "its seqs are in order"


# All records together


class Run:
    """The records of a run in which nothing was wrong."""

    def __init__(self, topics: int, messages: int, chance: random.Random) -> None:
        self.statements: list[Statement] = []
        self.claims: list[Claims] = []
        self.replay: list[Statement] = []
        self.expected = [(agent, f"desk/t{topic}") for topic in range(topics) for agent in AGENTS]
        for number in range(topics):
            self._add(f"desk/t{number}", messages, chance)

    def _add(self, topic: str, messages: int, chance: random.Random) -> None:
        published: dict[str, Claims] = {
            agent: {"agent": agent, "topic": topic, "ids": [], "seqs": []} for agent in AGENTS
        }
        for seq in range(1, messages + 1):
            claim = published[chance.choice(AGENTS)]
            claim["ids"].append(f"{claim['agent']}.{len(claim['ids']) + 1}")
            claim["seqs"].append(seq)
        self.claims += published.values()
        pairs = sorted((seq, id) for claim in published.values() for seq, id in zip(claim["seqs"], claim["ids"]))  # noqa: B905
        for agent in (*AGENTS, REPLAY):
            witness = Witness(agent, topic)
            for seq, id in pairs:
                witness.see(seq, id)
            assert witness.odd == 0
            (self.replay if agent == REPLAY else self.statements).append(copy.deepcopy(witness.statement()))

    def count(self) -> Anomalies:
        return audit(self.statements, self.claims, self.replay, self.expected).anomalies


runs = st.builds(Run, st.integers(1, 3), st.integers(2, 20), st.randoms(use_true_random=False))


@given(runs)
def test_a_good_run_is_good(run: Run) -> None:
    verdict = audit(run.statements, run.claims, run.replay, run.expected)
    assert not verdict.anomalies
    assert verdict.evidence == []
    assert verdict.witnesses == len(run.statements)
    assert verdict.deliveries == len(AGENTS) * verdict.claims == len(AGENTS) * verdict.replayed


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("lost", Anomalies(lost=1)), ("duplicated", Anomalies(duplicated=1)), ("out-of-order", Anomalies(out_of_order=1))],
)
@given(run=runs, data=st.data())
def test_one_fault_in_one_record_is_counted_as_what_it_is(
    kind: str, wanted: Anomalies, run: Run, data: st.DataObject
) -> None:
    victim = data.draw(st.sampled_from(run.statements))
    TAMPERS[kind](victim)
    verdict = audit(run.statements, run.claims, run.replay, run.expected)
    assert verdict.anomalies == wanted
    (case,) = verdict.evidence
    assert case.startswith(f"{victim['agent']} in {victim['topic']}: ")


@given(runs, st.data())
def test_a_tail_that_everyone_misses_is_lost_because_its_publisher_has_receipts(run: Run, data: st.DataObject) -> None:
    topic = data.draw(st.sampled_from(run.replay))["topic"]
    for record in (*run.statements, *run.replay):
        if record["topic"] == topic:
            record["seqs"].pop()
            record["ids"].pop()
    assert run.count() == Anomalies(lost=len(AGENTS) + 1)


@given(runs, st.data())
def test_a_publish_without_a_receipt_is_lost(run: Run, data: st.DataObject) -> None:
    claim = data.draw(st.sampled_from([claim for claim in run.claims if claim["ids"]]))
    claim["ids"].append("no-receipt")
    claim["seqs"].append(0)
    assert run.count() == Anomalies(lost=1)


@given(runs, st.data())
def test_a_message_stored_twice_is_a_duplicate_for_everyone(run: Run, data: st.DataObject) -> None:
    topic = data.draw(st.sampled_from(run.replay))["topic"]
    for record in (*run.statements, *run.replay):
        if record["topic"] == topic:
            record["seqs"].append(len(record["seqs"]) + 1)
            record["ids"].append(record["ids"][0])
    assert run.count() == Anomalies(duplicated=len(AGENTS) + 1)


@given(runs, st.data())
def test_a_receipt_for_another_messages_place_is_a_conflict(run: Run, data: st.DataObject) -> None:
    claim = data.draw(st.sampled_from([claim for claim in run.claims if claim["ids"]]))
    at = data.draw(st.integers(0, len(claim["ids"]) - 1))
    claim["ids"][at] = "another"
    assert run.count().conflicting == 2  # the receipt is not true, and nobody published what is stored there


@given(runs, st.data())
def test_members_who_mean_different_messages_by_a_seq_are_a_conflict(run: Run, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(run.statements))
    at = data.draw(st.integers(0, len(victim["ids"]) - 1))
    victim["ids"][at] = "forged"
    assert run.count() == Anomalies(conflicting=1)


@given(runs, st.data())
def test_who_hands_in_no_record_has_lost_everything(run: Run, data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(run.statements))
    run.statements.remove(victim)
    assert run.count() == Anomalies(lost=len(victim["seqs"]))


@given(runs, st.data())
def test_a_conversation_that_can_not_be_replayed_is_lost(run: Run, data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(run.replay))
    run.replay.remove(gone)
    assert run.count() == Anomalies(lost=len(gone["seqs"]))


def test_a_publisher_whose_messages_are_stored_in_another_order_is_noticed() -> None:
    run = Run(1, 6, random.Random(3))
    claim = max(run.claims, key=lambda claim: len(claim["ids"]))
    assert len(claim["ids"]) >= 2
    claim["ids"].reverse()
    claim["seqs"].reverse()
    assert run.count() == Anomalies(out_of_order=len(claim["ids"]) - 1)


def test_cases_are_described_up_to_a_bound_and_counted_beyond() -> None:
    run = Run(20, 4, random.Random(1))
    for statement in run.statements:
        TAMPERS["lost"](statement)
    verdict = audit(run.statements, run.claims, run.replay, run.expected)
    assert verdict.anomalies == Anomalies(lost=60)
    assert len(verdict.evidence) == EVIDENCE_MAX


def test_a_witness_says_at_once_when_something_is_out_of_line() -> None:
    witness = Witness("ann", "desk/a")
    for seq in (1, 2, 2, 3, 5, None, 6):
        witness.see(seq, "id")
    assert witness.odd == 4  # the copy, the hole, the message without a seq, and what follows it
    assert len(witness) == 7
    assert witness.statement()["seqs"] == [1, 2, 2, 3, 5, 0, 6]
