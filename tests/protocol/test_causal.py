"""Lamport timestamps and vector clocks, by their laws."""

from hypothesis import given
from hypothesis import strategies as st

from hubbub_protocol.causal import Order, VectorClock, compare, merge, next_lamport, tick

agents = st.sampled_from(["ann", "bob", "cy", "dee"])
clocks = st.dictionaries(agents, st.integers(0, 4))
counts = st.integers(0, 2**53)
OPPOSITE = {
    Order.BEFORE: Order.AFTER,
    Order.AFTER: Order.BEFORE,
    Order.EQUAL: Order.EQUAL,
    Order.CONCURRENT: Order.CONCURRENT,
}


class TestLamport:
    @given(counts, counts)
    def test_the_next_is_above_both_and_no_higher_than_needed(self, own: int, seen: int) -> None:
        assert next_lamport(own, seen) == max(own, seen) + 1
        assert next_lamport(own, seen) == next_lamport(seen, own)


class TestCompare:
    @given(clocks, clocks)
    def test_turned_round_it_says_the_opposite(self, one: VectorClock, other: VectorClock) -> None:
        assert compare(other, one) == OPPOSITE[compare(one, other)]

    @given(clocks, clocks)
    def test_is_the_order_of_all_counts(self, one: VectorClock, other: VectorClock) -> None:
        everyone = ["ann", "bob", "cy", "dee"]
        at_most = all(one.get(agent, 0) <= other.get(agent, 0) for agent in everyone)
        at_least = all(one.get(agent, 0) >= other.get(agent, 0) for agent in everyone)
        wanted = {(True, True): Order.EQUAL, (True, False): Order.BEFORE, (False, True): Order.AFTER}
        assert compare(one, other) == wanted.get((at_most, at_least), Order.CONCURRENT)

    @given(clocks, clocks, clocks)
    def test_before_is_transitive(self, one: VectorClock, two: VectorClock, three: VectorClock) -> None:
        if compare(one, two) is Order.BEFORE and compare(two, three) is Order.BEFORE:
            assert compare(one, three) is Order.BEFORE

    @given(clocks)
    def test_an_absent_agent_counts_as_zero(self, clock: VectorClock) -> None:
        assert compare(clock, {**clock, "new": 0}) is Order.EQUAL
        assert compare({}, clock) in (Order.BEFORE, Order.EQUAL)


class TestTick:
    @given(clocks, agents)
    def test_happens_after_and_leaves_the_old_clock_alone(self, clock: VectorClock, agent: str) -> None:
        before = dict(clock)
        after = tick(clock, agent)
        assert compare(clock, after) is Order.BEFORE
        assert after[agent] == clock.get(agent, 0) + 1
        assert clock == before

    @given(clocks, agents, agents)
    def test_two_that_go_on_alone_are_concurrent(self, clock: VectorClock, one: str, other: str) -> None:
        wanted = Order.EQUAL if one == other else Order.CONCURRENT
        assert compare(tick(clock, one), tick(clock, other)) is wanted


class TestMerge:
    @given(clocks, clocks)
    def test_knows_what_both_know_and_no_more(self, one: VectorClock, other: VectorClock) -> None:
        both = merge(one, other)
        assert compare(one, both) in (Order.BEFORE, Order.EQUAL)
        assert compare(other, both) in (Order.BEFORE, Order.EQUAL)
        assert all(count in (one.get(agent, 0), other.get(agent, 0)) for agent, count in both.items())
        assert both.keys() == one.keys() | other.keys()

    @given(clocks, clocks, clocks)
    def test_order_and_repetition_do_not_matter(self, one: VectorClock, two: VectorClock, three: VectorClock) -> None:
        assert merge(one, two) == merge(two, one)
        assert merge(merge(one, two), three) == merge(one, merge(two, three))
        assert merge(one, one) == one


@given(st.lists(st.tuples(agents, agents), max_size=30))
def test_clocks_of_a_conversation_tell_exactly_who_could_know_of_whom(letters: list[tuple[str, str]]) -> None:
    """Agents write letters in turn; a history of sets, plainly right, is the judge of clocks and timestamps."""
    known: dict[str, frozenset[int]] = {}
    clock: dict[str, VectorClock] = {}
    lamport: dict[str, int] = {}
    sent: list[tuple[frozenset[int], VectorClock, int]] = []
    for number, (sender, receiver) in enumerate(letters):
        known[sender] = known.get(sender, frozenset()) | {number}
        clock[sender] = tick(clock.get(sender, {}), sender)
        lamport[sender] = next_lamport(lamport.get(sender, 0), 0)
        sent.append((known[sender], clock[sender], lamport[sender]))
        known[receiver] = known.get(receiver, frozenset()) | known[sender]
        clock[receiver] = merge(clock.get(receiver, {}), clock[sender])
        lamport[receiver] = max(lamport.get(receiver, 0), lamport[sender])
    for one, (one_knows, one_clock, one_lamport) in enumerate(sent):
        for other, (other_knows, other_clock, other_lamport) in enumerate(sent):
            if one == other:
                continue
            happened_before = one in other_knows
            assert (compare(one_clock, other_clock) is Order.BEFORE) == happened_before
            assert (compare(one_clock, other_clock) is Order.CONCURRENT) == (
                not happened_before and other not in one_knows
            )
            if happened_before:
                assert one_lamport < other_lamport
