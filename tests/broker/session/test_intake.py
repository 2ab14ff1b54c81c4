"""What a connection sends at once is taken in its order, a turn at a time, and nobody waits for all of it."""

from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.turn_loop import TurnLoop
from hubbub_broker.metrics import Metrics
from hubbub_broker.session import Intake, intake
from hubbub_protocol.frames import Pub


class Source:
    """Writes down what it is given."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.reading = True
        self.stops = 0

    def receive_line(self, line: bytes) -> None:
        self.taken.append(line)

    def receive_publish(self, pub: Pub) -> None:
        self.taken.append(b"read " + bytes(pub.data))

    def receive_binary(self, payload: bytes) -> None:
        self.taken.append(b"binary " + payload)

    def stop_reading(self) -> None:
        assert self.reading
        self.reading = False
        self.stops += 1

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


frames = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from([b"a", b"b", b"", b"cc"]), min_size=1, max_size=60)), max_size=12
)


@given(frames=frames, turn=st.sampled_from([-1.0, 3600.0]))
def test_all_of_it_in_its_order(frames: list[tuple[bool, list[bytes]]], turn: float) -> None:
    """Each frame comes in a read of its own, or (empty) together with the one before."""
    with pytest.MonkeyPatch.context() as patch, closing(TurnLoop()) as loop:
        patch.setattr(intake, "TURN_SECONDS", turn)
        source = Source()
        taker = Intake(source, Metrics(), loop)
        expected: list[bytes] = []
        for binary, lines in frames:
            if source.reading:
                taker.begin()
            payload = b"\n".join(lines)
            if binary:
                taker.binary(payload)
                expected.append(b"binary " + payload)
            else:
                taker.text(payload)
                expected += [line for line in lines if line or len(lines) == 1]
            if lines[0]:
                loop.turn()
        loop.settle()
        assert source.reading
        assert source.taken == expected
        assert turn < 0 or not source.stops


def test_a_turn_ends_in_the_middle_of_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TURN_SECONDS", -1.0)
    loop = TurnLoop()
    source = Source()
    taker = Intake(source, Metrics(), loop)
    taker.begin()
    taker.text(b"\n".join(b"%d" % number for number in range(100)))
    counts = [len(source.taken)]
    while not source.reading:
        loop.turn()
        counts.append(len(source.taken))
    assert counts[-1] == 100
    assert max(after - before for before, after in pairwise(counts)) == intake.LINES
    loop.close()


def test_what_came_before_the_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TURN_SECONDS", -1.0)
    loop = TurnLoop()
    source = Source()
    taker = Intake(source, Metrics(), loop)
    taker.begin()
    taker.text(b"\n".join(b"%d" % number for number in range(100)))
    taker.finish()
    assert len(source.taken) == 100
    loop.turn()
    assert source.reading
    loop.close()


def publishes(count: int) -> list[bytes]:
    return [b'{"op":"pub","topic":"g/c","id":"%d","data":%d}' % (number, number) for number in range(count)]


def taken(payload: bytes) -> list[bytes]:
    with closing(TurnLoop()) as loop:
        source = Source()
        taker = Intake(source, Metrics(), loop)
        taker.begin()
        taker.text(payload)
        loop.settle()
        return source.taken


def test_publishes_that_came_together_are_read_in_one_go() -> None:
    assert taken(b"\n".join(publishes(50))) == [b"read %d" % number for number in range(50)]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b'{"op":"ping"}', id="not a publish"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"op":"pub"', id="not JSON"),
        pytest.param(b'{"op":"pub","topic":"g/c","id":"x","data":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"op":"pub","topic":"g/c","id":"x","data":[1,\n2]}', id="over two lines"),
        pytest.param(b'{"op":"pub","topic":"g/c","id":"x","data":\n\n1}', id="over an empty line"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_with_anything_else_among_them_each_line_is_read_by_itself(other: bytes, place: int) -> None:
    lines = publishes(3)
    lines.insert(place, other)
    payload = b"\n".join(lines)
    assert taken(payload) == [line for line in payload.split(b"\n") if line]


def test_much_at_once_is_not_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "AHEAD_BYTES", 100)
    assert taken(b"\n".join(publishes(3))) == publishes(3)


def test_what_was_read_ahead_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "TURN_SECONDS", -1.0)
    assert taken(b"\n".join(publishes(100))) == [b"read %d" % number for number in range(100)]
