"""What is written to the store can be read again, whatever the clocks say."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub.resilience import BreakerPolicy, BreakerState, Counts
from hubbub.resilience.breaker import Circuit, Slot
from hubbub.resilience.record import (
    BadRecordError,
    Moment,
    decode_circuit,
    decode_report,
    encode_circuit,
    encode_report,
)

POLICY = BreakerPolicy(probe_seconds=5)
circuits = st.builds(
    Circuit,
    state=st.sampled_from(BreakerState),
    epoch=st.integers(0, 2**40),
    since=st.integers(-100, 0).map(float),
    trips=st.integers(0, 99),
    slots=st.lists(st.builds(Slot, st.text(), st.text(), st.integers(-9, 5).map(float)), max_size=3).map(tuple),
    succeeded=st.integers(0, 9),
    lost=st.integers(0, 9),
    reason=st.text(),
    by=st.text(),
)
HERE = Moment(steady=0.0, wall=1e9)


def through_json(circuit: Circuit, now: Moment) -> Any:
    return json.loads(json.dumps(encode_circuit(circuit, now)))


@given(circuits)
def test_a_circuit_survives_and_its_times_move_to_the_readers_clock(circuit: Circuit) -> None:
    there = Moment(steady=777.0, wall=1e9)
    read = decode_circuit(through_json(circuit, HERE), there, POLICY, None)
    assert read.since == circuit.since + 777.0
    assert [slot.deadline for slot in read.slots] == [slot.deadline + 777.0 for slot in circuit.slots]
    assert decode_circuit(through_json(read, there), HERE, POLICY, None) == circuit


@given(circuits, st.floats(-1e6, 1e6))
def test_a_wrong_clock_delays_nobody_for_longer_than_one_wait(circuit: Circuit, skew: float) -> None:
    read = decode_circuit(through_json(circuit, Moment(0.0, 1e9 + skew)), HERE, POLICY, None)
    assert read.since <= HERE.steady
    assert all(slot.deadline <= HERE.steady + 5 for slot in read.slots)


@given(circuits, st.floats(-1e6, 1e6))
def test_and_means_nothing_to_who_was_watching(circuit: Circuit, skew: float) -> None:
    record = through_json(circuit, Moment(0.0, 1e9 + skew))
    seen = Circuit(epoch=circuit.epoch - 1)
    first = decode_circuit(record, HERE, POLICY, seen)
    assert first.since == HERE.steady
    assert all(slot.deadline == HERE.steady + 5 for slot in first.slots)
    later = decode_circuit(record, Moment(3.0, 1e9 + 3.0), POLICY, first)
    assert later == first, "what is known is not put off by being told again"


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=5))
def test_a_report_survives(rows: list[tuple[float, int, int, int]]) -> None:
    ages = [(age, Counts(*counts)) for age, *counts in rows]
    value = json.loads(json.dumps(encode_report(7, ages, HERE)))
    epoch, read = decode_report(value, Moment(50.0, 1e9 + 2.0), live=True)
    assert epoch == 7
    assert [counts for _, counts in read] == [counts for _, counts in ages]
    assert all(math.isclose(one[0], other[0], abs_tol=1e-3) for one, other in zip(read, ages, strict=True))
    _, old = decode_report(value, Moment(50.0, 1e9 + 2.0), live=False)
    assert [age for age, _ in old] == [age + 2.0 for age, _ in read]


@pytest.mark.parametrize(
    "value", [1, "x", [], {}, {"state": "ajar", "epoch": 1}, {"state": "open", "epoch": None}, {"epoch": 1, "at": "x"}]
)
def test_what_is_no_record_is_refused_by_name(value) -> None:
    with pytest.raises(BadRecordError, match="can't be read"):
        decode_circuit(value, HERE, POLICY, None)
    with pytest.raises(BadRecordError, match="can't be read"):
        decode_report(value, HERE, live=False)
