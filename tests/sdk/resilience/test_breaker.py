"""The pure machine: its table, and any course of events."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hubbub.resilience.breaker import (
    TRANSITIONS,
    BreakerEvent,
    BreakerState,
    Circuit,
    ProbeEnd,
    Ticket,
    admit,
    conclude,
    happen,
    lapse,
)
from hubbub.resilience.breaker_policy import BreakerPolicy

POLICY = BreakerPolicy(wait_seconds=10, wait_factor=2, wait_max=40, probes=2, probe_seconds=5)


def opened(at: float = 0.0) -> Circuit:
    return happen(Circuit(), BreakerEvent.TRIPPED, at, "test")


class TestTable:
    @pytest.mark.parametrize("state", list(BreakerState))
    def test_every_state_can_be_tripped_and_reset_by_hand(self, state: BreakerState) -> None:
        assert TRANSITIONS[state][BreakerEvent.TRIPPED] is BreakerState.OPEN
        assert TRANSITIONS[state][BreakerEvent.RESET] is BreakerState.CLOSED

    def test_an_open_circuit_closes_by_itself_only_through_probes(self) -> None:
        by_itself = {BreakerEvent.WAITED, BreakerEvent.RECOVERED, BreakerEvent.RELAPSED}
        ways = {(state, event): to for state, row in TRANSITIONS.items() for event, to in row.items()}
        assert {key: to for key, to in ways.items() if key[1] in by_itself} == {
            (BreakerState.OPEN, BreakerEvent.WAITED): BreakerState.HALF_OPEN,
            (BreakerState.HALF_OPEN, BreakerEvent.RECOVERED): BreakerState.CLOSED,
            (BreakerState.HALF_OPEN, BreakerEvent.RELAPSED): BreakerState.OPEN,
        }

    def test_what_the_table_does_not_have_can_not_happen(self) -> None:
        with pytest.raises(KeyError):
            happen(Circuit(), BreakerEvent.RECOVERED, 0.0, "test")


def test_closed_lets_everyone_through_and_does_not_change() -> None:
    circuit = Circuit()
    answer = admit(circuit, POLICY, 1.0, "a")
    assert answer.circuit is circuit
    assert answer.ticket == Ticket(0)


def test_open_refuses_until_its_wait_is_over_and_says_for_how_long() -> None:
    circuit = opened()
    answer = admit(circuit, POLICY, 4.0, "a")
    assert answer.circuit is circuit
    assert (answer.ticket, answer.retry_after) == (None, 6.0)
    probe = admit(circuit, POLICY, 10.0, "a")
    assert probe.ticket == Ticket(2, "a")
    assert probe.circuit.state is BreakerState.HALF_OPEN


def test_half_open_has_so_many_slots_and_each_ends_at_its_deadline() -> None:
    one = admit(opened(), POLICY, 10.0, "a").circuit
    two = admit(one, POLICY, 11.0, "b").circuit
    full = admit(two, POLICY, 12.0, "c")
    assert full.circuit is two
    assert (full.ticket, full.retry_after) == (None, 3.0)
    slow = BreakerPolicy(wait_seconds=10, probes=1, probe_seconds=60)
    busy = admit(opened(), slow, 10.0, "a").circuit
    assert admit(busy, slow, 11.0, "b").retry_after == 10.0, "a probe mostly ends long before its deadline"
    third = admit(two, POLICY, 15.0, "c")
    assert third.ticket == Ticket(2, "c")
    assert [slot.id for slot in third.circuit.slots] == ["b", "c"]


def test_a_failure_opens_it_again_for_longer() -> None:
    circuit = opened()
    for wait in (10, 20, 40, 40):
        half = admit(circuit, POLICY, circuit.since + wait, "a")
        assert half.ticket
        assert admit(circuit, POLICY, circuit.since + wait - 0.1, "a").ticket is None
        circuit = conclude(half.circuit, POLICY, half.ticket, ProbeEnd.FAILED, circuit.since + wait)
        assert circuit.state is BreakerState.OPEN


def test_as_many_lost_probes_as_there_are_slots_open_it_again() -> None:
    circuit = admit(opened(), POLICY, 10.0, "a").circuit
    circuit = admit(circuit, POLICY, 10.0, "b").circuit
    circuit = conclude(circuit, POLICY, Ticket(2, "a"), ProbeEnd.LOST, 11.0)
    assert circuit.state is BreakerState.HALF_OPEN
    assert lapse(circuit, POLICY, 15.0).state is BreakerState.OPEN
    assert admit(circuit, POLICY, 15.0, "c").ticket is None


class AnyCourse(RuleBasedStateMachine):
    """Callers come, end and vanish in any order, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.names = 0
        self.out: list[tuple[Ticket, float]] = []
        self.granted: dict[int, int] = {}
        self.succeeded: dict[int, int] = {}

    @initialize(probes=st.integers(1, 4), factor=st.sampled_from([1.0, 2.0]))
    def begin(self, probes: int, factor: float) -> None:
        self.policy = BreakerPolicy(wait_seconds=10, wait_factor=factor, probes=probes, probe_seconds=5)
        self.circuit = Circuit()

    def become(self, after: Circuit) -> None:
        before, self.circuit = self.circuit, after
        assert after.epoch - before.epoch in (0, 1)
        if after.epoch == before.epoch:
            assert after.state is before.state
            return
        if after.state is BreakerState.CLOSED and after.reason != "by hand":
            assert before.state is BreakerState.HALF_OPEN
            assert self.succeeded[before.epoch] == self.policy.probes

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.0, 5.0, 10.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def come(self) -> None:
        self.names += 1
        before = self.circuit
        answer = admit(before, self.policy, self.now, f"{self.names}")
        self.become(answer.circuit)
        if answer.ticket is None:
            assert answer.retry_after > 0
            assert before.state is not BreakerState.CLOSED
        elif answer.ticket.slot:
            assert answer.circuit.state is BreakerState.HALF_OPEN
            self.granted[answer.ticket.epoch] = self.granted.get(answer.ticket.epoch, 0) + 1
            self.out.append((answer.ticket, self.now + 5))
        else:
            assert before.state is BreakerState.CLOSED

    @rule(data=st.data(), end=st.sampled_from(ProbeEnd))
    def end(self, data: st.DataObject, end: ProbeEnd) -> None:
        if not self.out:
            return
        ticket, _ = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.circuit
        is_held = any(slot.id == ticket.slot for slot in before.slots)
        if is_held and end is ProbeEnd.SUCCEEDED:
            self.succeeded[ticket.epoch] = self.succeeded.get(ticket.epoch, 0) + 1
        self.become(conclude(before, self.policy, ticket, end, self.now))
        if is_held and end is ProbeEnd.FAILED:
            assert self.circuit.state is BreakerState.OPEN
        if not is_held:
            assert self.circuit is before, "what is late has no say"

    @rule(event=st.sampled_from([BreakerEvent.TRIPPED, BreakerEvent.RESET]))
    def by_hand(self, event: BreakerEvent) -> None:
        self.become(happen(self.circuit, event, self.now, "by hand"))

    @invariant()
    def probes_are_bounded(self) -> None:
        if not hasattr(self, "circuit"):
            return
        assert len(self.circuit.slots) + self.circuit.succeeded <= self.policy.probes
        assert all(number < 2 * self.policy.probes for number in self.granted.values())

    @invariant()
    def it_is_never_stuck(self) -> None:
        """Whatever has happened, some wait later a call goes through."""
        if not hasattr(self, "circuit"):
            return
        circuit, now = self.circuit, self.now
        for _ in range(3):
            answer = admit(circuit, self.policy, now, "later")
            if answer.ticket is not None:
                return
            circuit, now = answer.circuit, now + answer.retry_after + 1e-6
        raise AssertionError(f"no call goes through: {self.circuit}")


TestAnyCourse = AnyCourse.TestCase
