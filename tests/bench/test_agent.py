"""An agent: what a broker's bytes come to."""

import asyncio

import pytest

from hubbub_bench.drivers.agent import Agent, LastFrame
from hubbub_bench.drivers.checker import Checker
from hubbub_bench.drivers.frame import received_text_frame
from hubbub_bench.drivers.load import Load, Verdict, judge
from hubbub_bench.drivers.mark import SEQUENCES, pattern


def message(sequence: int, flow: int = 1, due: int = 0) -> bytes:
    data = pattern(64) % (flow * SEQUENCES + sequence, due)
    return b'{"op":"msg","topic":"g/t","seq":1,"id":"x","from":"p","ts":1.5,"lc":1,"data":"' + data + b'"}'


def frame(*lines: bytes) -> bytes:
    return received_text_frame(b"\n".join(lines))


def agent(load: Load, last: LastFrame | None = None) -> Agent:
    made = Agent(load, "reader", b"", last)
    made.data_received(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert made.upgraded.done()
    made.checkers = {1: Checker()}
    return made


def verdict(load: Load, *agents: Agent, sent: int) -> Verdict:
    return judge(load, ((one.checkers[1], sent) for one in agents), iter(()))


async def test_what_comes_in_order_is_good_for_all_readers_of_a_topic() -> None:
    load, last = Load(), LastFrame()
    one, two = agent(load, last), agent(load, last)
    for part in (frame(message(1), message(2)), frame(message(3))):
        one.data_received(part)
        two.data_received(part)
    assert load.delivered == 6
    assert verdict(load, one, two, sent=3).good


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([[1], [3]], Verdict(lost=1)),
        ([[1, 2], [2, 3]], Verdict(duplicated=1)),
        ([[2], [1], [3]], Verdict(out_of_order=1)),
        ([[1, 2]], Verdict(lost=1)),
    ],
)
async def test_each_reader_is_judged_by_what_it_got_itself(sequences: list[list[int]], expected: Verdict) -> None:
    load, last = Load(), LastFrame()
    good, bad = agent(load, last), agent(load, last)
    for part in ([1], [2], [3]):
        good.data_received(frame(*map(message, part)))
    for part in sequences:
        bad.data_received(frame(*map(message, part)))
    assert verdict(load, good, sent=3).good
    assert verdict(load, good, bad, sent=3) == expected


async def test_the_same_frame_twice_is_a_duplicate_though_it_is_not_read_again() -> None:
    load = Load()
    one = agent(load)
    one.data_received(frame(message(1)))
    one.data_received(frame(message(1)))
    assert verdict(load, one, sent=1) == Verdict(duplicated=1)


async def test_a_frame_that_equals_the_last_may_also_be_the_inside_of_another() -> None:
    load, last = Load(), LastFrame()
    first, second = agent(load, last), agent(load, last)
    inner = frame(message(1))
    first.data_received(inner)
    outer = received_text_frame(inner)
    second.data_received(outer[:4])
    second.data_received(outer[4:])
    assert load.delivered == 1, "the bytes that are a frame's content are not a frame"


async def test_other_lines_in_a_frame_of_messages_are_read_too() -> None:
    load = Load()
    one = agent(load)
    gap = b'{"op":"gap","topic":"g/t","first":2,"last":2,"reason":"slow"}'
    one.data_received(frame(message(1), gap, message(3), b'{"op":"live","topic":"g/t","seq":3}'))
    assert verdict(load, one, sent=3) == Verdict(lost=1, gaps=1)
    assert load.failure is None


async def test_another_publishers_messages_are_strays() -> None:
    load = Load()
    one = agent(load)
    one.data_received(frame(message(1), message(1, flow=9)))
    assert verdict(load, one, sent=1) == Verdict(strays=1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(b'{"op":"err","code":"overloaded","message":"too much","id":"1"}'), "refused .overloaded.: too much"),
        (frame(b'{"op":"goaway","reason":"shutdown","reconnect_after":1}'), "leaving"),
        (frame(b'{"op":"msg","data":"nobody knows me"}'), "BadMark"),
        (frame(b"[]"), "BadFrame"),
        (b"\x82\x01x", "does not read"),
    ],
)
async def test_what_makes_a_measurement_void_ends_it_with_the_reason(data: bytes, reason: str) -> None:
    load = Load()
    agent(load).data_received(data)
    with pytest.raises(Exception, match=reason):
        await load.last(30)


async def test_a_broker_that_hangs_up_ends_the_measurement() -> None:
    load = Load()
    one = agent(load)
    waiting = asyncio.ensure_future(one.settle())
    await asyncio.sleep(0)
    one.data_received(b"\x88\x02\x03\xf5")
    one.connection_lost(None)
    with pytest.raises(Exception, match="1013"):
        await waiting
    with pytest.raises(Exception, match="1013"):
        load.check()


async def test_a_refused_handshake_says_why() -> None:
    one = Agent(Load(), "reader", b"")
    one.data_received(b"HTTP/1.1 404 Not Found\r\n\r\n")
    with pytest.raises(Exception, match="404"):
        await one.greet()


async def test_latencies_are_of_what_was_due_in_the_window_however_late() -> None:
    load = Load(time_deliveries=True, record_from=20, record_to=30)
    one = agent(load)
    one.data_received(frame(*(message(number, due=10 * number) for number in (1, 2, 3))))
    assert len(load.latencies) == 1
    assert load.latencies[0] > 0


async def test_the_goal_ends_the_wait_and_so_does_a_failure() -> None:
    load = Load(goal=2)
    waiting = asyncio.ensure_future(load.goal_met())
    await asyncio.sleep(0)
    agent(load).data_received(frame(message(1), message(2)))
    await asyncio.wait_for(waiting, 5)
    broken = Load(goal=2)
    waiting = asyncio.ensure_future(broken.goal_met())
    await asyncio.sleep(0)
    agent(broken).data_received(frame(b'{"op":"err","code":"internal","message":"oh"}'))
    with pytest.raises(Exception, match="oh"):
        await asyncio.wait_for(waiting, 5)
