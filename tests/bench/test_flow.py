"""A flow keeps its window full, and no fuller."""

import json
import re

import pytest

from hubbub_bench.drivers.flow import Flow
from hubbub_bench.drivers.load import Load


class Wire:
    """Takes frames, unmasks them, and keeps the sequence numbers."""

    def __init__(self) -> None:
        self.frames: list[list[dict[str, str]]] = []

    def write(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            size, begin = data[at + 1] & 127, at + 2
            if size == 126:
                size, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
            key = data[begin : begin + 4]
            begin += 4
            text = bytes(byte ^ key[index % 4] for index, byte in enumerate(data[begin : begin + size]))
            self.frames.append([json.loads(line) for line in text.split(b"\n")])
            at = begin + size

    def sequences(self) -> list[int]:
        return [int(line["id"][6:]) for lines in self.frames for line in lines]


def flow(wire: Wire, **options: object) -> Flow:
    settings: dict[str, object] = {"payload": 64, "durable": True, "window": 4, **options}
    return Flow(Load(sending=True), 3, "g/t", write=wire.write, **settings)  # type: ignore[arg-type]


def test_it_says_what_a_publish_must() -> None:
    wire = Wire()
    flow(wire, window=1, durable=False).fill()
    ((line,),) = wire.frames
    assert (line["op"], line["topic"], len(line["data"])) == ("pub", "g/t", 64)
    assert line["ephemeral"]
    assert line["id"] == "0000030000000001"
    assert re.match(r"~0000030000000001\d{19}~", line["data"])


def test_until_acked_it_sends_one_for_each_answer() -> None:
    wire = Wire()
    one = flow(wire, until="acked", readers=2)
    one.fill()
    assert wire.sequences() == [1, 2, 3, 4]
    one.reader_moved(1, 5)
    one.reader_moved(1, 5)
    assert one.published == 4
    one.take_answers([(3, 1, 3)])
    assert wire.sequences() == [1, 2, 3, 4, 5, 6, 7]
    assert one.load.acked == 3


def test_until_delivered_it_waits_for_the_slowest_reader() -> None:
    wire = Wire()
    one = flow(wire, until="delivered", readers=2)
    one.fill()
    one.take_answers([(3, 1, 4)])
    one.reader_moved(1, 5)
    assert one.published == 4
    one.reader_moved(1, 3)
    assert wire.sequences() == [1, 2, 3, 4, 5, 6]


def test_until_both_it_waits_for_the_later() -> None:
    wire = Wire()
    one = flow(wire, until="both", readers=1)
    one.fill()
    one.reader_moved(1, 5)
    assert one.published == 4
    one.take_answers([(3, 1, 2)])
    assert one.published == 6
    one.take_answers([(3, 3, 4)])
    assert one.published == 8, "5 and 6 are answered, and not delivered"


def test_it_stops_when_the_load_does_or_its_limit_is_reached() -> None:
    wire = Wire()
    limited = flow(wire, limit=6)
    limited.fill()
    limited.take_answers([(3, 1, 4)])
    assert limited.published == 6
    stopped = flow(wire)
    stopped.fill()
    stopped.load.sending = False
    stopped.take_answers([(3, 1, 4)])
    assert stopped.published == 4


@pytest.mark.parametrize(("lines_per_frame", "frames"), [(1, [1, 1, 1, 1]), (3, [3, 1]), (64, [4])])
def test_lines_are_joined_into_frames_up_to_the_limit(lines_per_frame: int, frames: list[int]) -> None:
    wire = Wire()
    flow(wire, lines_per_frame=lines_per_frame).fill()
    assert [len(frame) for frame in wire.frames] == frames


def test_ack_latencies_are_of_what_was_due_in_the_window_however_late() -> None:
    wire = Wire()
    one = flow(wire, window=0)
    for due in (10, 20, 30):
        one.publish(1, due)
    one.load.record_from, one.load.record_to = 20, 30
    one.take_answers([(3, 1, 3)])
    assert len(one.load.ack_latencies) == 1
