"""A subscription's buffer, its marks and what it remembers."""

import asyncio
from typing import Any

from hubbub.cursor import TopicCursor
from hubbub.feed import size_of
from hubbub.mailbox import HARD_FACTOR, Mailbox
from hubbub.message import Message
from hubbub.recent import Recent
from hubbub.stats import Stats
from hubbub_protocol.frames import Gap, Msg


class Supply:
    """Writes down what the mailbox says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def behind(self, box: Mailbox) -> None:
        self.said.append("behind")

    def brimming(self, box: Mailbox) -> None:
        self.said.append("brimming")

    def drained(self, box: Mailbox) -> None:
        self.said.append("drained")

    def leave(self, box: Mailbox) -> None:
        self.said.append("leave")


def mailbox(supply: Supply | None = None, **options: Any) -> Mailbox:
    values = {"stats": Stats(), "messages": 8, "bytes_soft": 1 << 20, "recent": Recent(100, 60), "heard_max": 100}
    return Mailbox("g/c", TopicCursor("all"), supply or Supply(), **{**values, **options})


def message(seq: int, **fields: Any) -> Message:
    frame = Msg(topic="g/c", id=str(seq), sender="joe", ts=0, lc=1, seq=seq, **fields)
    return Message(frame, None)  # type: ignore[arg-type]


def put(box: Mailbox, *seqs: int, size: int = 100) -> None:
    for seq in seqs:
        box.put(message(seq), size)


async def put_and_wait(box: Mailbox, *seqs: int) -> None:
    """Put, and give readers their turn."""
    put(box, *seqs)
    await asyncio.sleep(0)


async def got(box: Mailbox, count: int) -> list[int | None]:
    return [taken.seq for taken in [await box.get() for _ in range(count)] if taken is not None]


async def test_in_order_and_once() -> None:
    box = mailbox()
    put(box, 1, 2, 2, 1, 3)
    assert await got(box, 3) == [1, 2, 3]
    assert box.duplicates == 2


async def test_the_marks_by_messages() -> None:
    supply = Supply()
    box = mailbox(supply, messages=8)
    await put_and_wait(box, *range(7))
    assert supply.said == []
    await put_and_wait(box, *range(7, 20))
    assert supply.said == ["behind"]
    await got(box, 17)
    assert supply.said == ["behind"]
    await got(box, 1)
    assert supply.said == ["behind", "drained"]
    await put_and_wait(box, *range(20, 28))
    assert supply.said == ["behind", "drained", "behind"]


async def test_the_marks_by_bytes() -> None:
    supply = Supply()
    box = mailbox(supply, messages=10_000, bytes_soft=1000)
    await put_and_wait(box, *range(9))
    assert supply.said == []
    await put_and_wait(box, 9)
    assert supply.said == ["behind"]
    await put_and_wait(box, *range(10, 10 * HARD_FACTOR))
    assert supply.said == ["behind", "brimming"]
    await got(box, 10 * HARD_FACTOR - 2)
    assert supply.said[-1] == "drained"


async def test_a_reader_that_keeps_up_is_never_behind() -> None:
    supply = Supply()
    box = mailbox(supply, messages=8)
    reading = asyncio.create_task(got(box, 100))
    await asyncio.sleep(0)
    for frame in range(5):
        await put_and_wait(box, *range(20 * frame, 20 * frame + 20))
    assert await reading == list(range(100))
    assert supply.said == []


async def test_what_was_heard_from_this_process_is_dropped_once() -> None:
    box = mailbox()
    box.put_local(message(1), 100)
    assert box.has_seen(("g/c", "joe", "1"))
    put(box, 1, 2)
    assert await got(box, 2) == [1, 2]
    assert box.heard == {}
    put(box, 1)
    assert len(box) == 0


async def test_what_was_heard_is_remembered_within_a_bound() -> None:
    box = mailbox(heard_max=3)
    for seq in range(5):
        box.put_local(message(seq), 100)
    assert [key[2] for key in box.heard] == ["2", "3", "4"]


async def test_signals_of_this_process_leave_no_mark() -> None:
    box = mailbox()
    box.put_local(message(1, ephemeral=True), 100)
    assert box.heard == {}
    assert box.had_ephemerals


async def test_the_end_comes_after_what_is_buffered() -> None:
    ended: list[int] = []
    box = mailbox()
    box.on_end = lambda: ended.append(1)
    put(box, 1)
    box.end()
    box.end(ValueError())
    assert await got(box, 1) == [1]
    assert await box.get() is None
    assert await box.get_many(5) == []
    assert ended == [1]
    assert box.ready.is_set()


async def test_leaving_is_told_once() -> None:
    supply = Supply()
    box = mailbox(supply)
    box.leave()
    box.leave()
    assert supply.said == ["leave"]


async def test_get_many() -> None:
    box = mailbox()
    reading = asyncio.create_task(box.get_many(3))
    await asyncio.sleep(0)
    put(box, 1, 2, 3, 4)
    assert [taken.seq for taken in await reading] == [1, 2, 3]
    assert [taken.seq for taken in await box.get_many(3)] == [4]


async def test_a_cancelled_reader_hands_its_turn_on() -> None:
    box = mailbox()
    first, second = asyncio.create_task(box.get()), asyncio.create_task(box.get())
    await asyncio.sleep(0)
    put(box, 1)
    first.cancel()
    taken = await second
    assert taken is not None
    assert taken.seq == 1
    assert first.cancelled()


async def test_a_gap_hook_that_fails_hurts_nobody() -> None:
    def fail(gap: Gap) -> None:
        raise ValueError

    box = mailbox(on_gap=fail)
    box.tell_gap(Gap(topic="g/c", first=1, last=2, reason="retention"))
    assert box.gaps == 1


def test_a_messages_size_counts_its_data() -> None:
    small = size_of(Msg(topic="g/c", id="1", sender="joe", ts=0, lc=1))
    assert small > 0
    from msgspec import Raw

    assert size_of(Msg(topic="g/c", id="1", sender="joe", ts=0, lc=1, data=Raw(b"x" * 1000))) == small + 1000
