"""Latencies, progress, the table, and what is shown meanwhile."""

import asyncio
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_broker.cli.demonstration.audit import Anomalies
from hubbub_broker.cli.demonstration.display import Lines, Panel, Rates, display_on, print_outcome
from hubbub_broker.cli.demonstration.latency import Outage, Percentiles, by_stretch, percentiles, stretch_of
from hubbub_broker.cli.demonstration.outcome import Crash, Outcome, milliseconds, size_of
from hubbub_broker.cli.demonstration.progress import Progress, total
from hubbub_broker.cli.demonstration.tally import Tally
from hubbub_broker.cli.demonstration.watch import Watch


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# Latencies


@given(st.lists(st.floats(0, 100), min_size=1))
def test_percentiles_are_durations_that_happened(durations: list[float]) -> None:
    found = percentiles(durations)
    assert found is not None
    assert found.count == len(durations)
    assert found.p50 <= found.p90 <= found.p99 <= found.largest == max(durations)
    for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert value in durations
        assert sum(duration <= value for duration in durations) >= share * len(durations)
        assert sum(duration < value for duration in durations) < share * len(durations) or value == min(durations)


def test_percentiles_by_hand() -> None:
    assert percentiles(range(1, 101)) == Percentiles(100, 50, 90, 99, 100)
    assert percentiles([]) is None


@pytest.mark.parametrize(
    ("published", "handled", "stretch"),
    [
        (1.0, 2.0, "before"),
        (9.9, 10.0, "crash"),  # on its way when the broker was killed
        (11.0, 11.1, "crash"),
        (9.0, 16.0, "crash"),
        (14.9, 15.1, "crash"),  # published while some agents were still away
        (15.1, 15.2, "after"),
    ],
)
def test_the_crash_has_what_it_touched(published: float, handled: float, stretch: str) -> None:
    assert stretch_of(published, handled, Outage(10.0, 15.0)) == stretch
    assert stretch_of(published, handled, None) == "whole"


def test_stretches_without_deliveries_are_left_out() -> None:
    assert list(by_stretch([(1.0, 2.0), (20.0, 20.5)], Outage(10.0, 15.0))) == ["before", "after"]
    assert by_stretch([(1.0, 2.0)], None) == {"whole": Percentiles(1, 1.0, 1.0, 1.0, 1.0)}


# Progress


def test_progress_adds_up_and_the_worst_latency_counts() -> None:
    one = Progress(online=3, published=10, confirmed=9, handled=50, reconnects=1, p50=0.1, p99=0.2)
    two = Progress(online=2, published=5, confirmed=5, handled=20, odd=1, p50=0.05, p99=0.4)
    assert total([one, two]) == Progress(
        online=5, published=15, confirmed=14, handled=70, reconnects=1, odd=1, p50=0.1, p99=0.4
    )
    assert total([]) == Progress()


async def test_a_tally_counts_receipts_and_repeats() -> None:
    from hubbub import Receipt

    tally = Tally()
    futures: list[asyncio.Future[Receipt]] = [asyncio.get_running_loop().create_future() for _ in range(4)]
    for future in futures:
        tally.sent(future)
    futures[0].set_result(Receipt(id="1", topic="a/b", seq=1))
    futures[1].set_result(Receipt(id="2", topic="a/b", seq=2, dup=True))
    futures[2].set_exception(RuntimeError("refused"))
    futures[3].cancel()
    await asyncio.wait(futures)
    await asyncio.sleep(0)
    progress = tally.progress(reconnects=2, odd=0)
    assert (progress.published, progress.confirmed, tally.repeated, progress.reconnects) == (4, 2, 1, 2)


def test_a_tally_tells_each_latency_once() -> None:
    from hubbub_broker.cli.demonstration.clock import now

    tally = Tally()
    tally.handled(now() - 5.0)
    first = tally.progress(0, 0)
    assert first.handled == 1
    assert 5.0 <= first.p50 == first.p99 < 60.0
    assert tally.progress(0, 0).p99 == 0.0


class Moving:
    def __init__(self, *steps: Progress) -> None:
        self._steps = list(steps)

    @property
    def progress(self) -> Progress:
        return self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]


async def test_the_watch_waits_and_gives_up_when_nothing_moves() -> None:
    out = io.StringIO()
    display = Lines(out, 5, Clock())
    moving = Moving(Progress(), Progress(confirmed=2, handled=4), Progress(confirmed=6, handled=9))
    watch = Watch(moving, display, 10, stall=0.15)
    assert await watch.until_confirmed(5)
    assert await watch.until_handled(9)
    assert not await watch.until_handled(10)
    assert "0 of 10 messages" in out.getvalue()


# The table


def outcome(**changes: object) -> Outcome:
    figures = Percentiles(1000, 0.002, 0.004, 0.0123, 1.5)
    good = Outcome(
        agents=1000,
        conversations=200,
        files=743,
        text_bytes=12_300_000,
        pieces=15_000,
        planned=36_000,
        messages=36_000,
        deliveries=216_000,
        replayed=36_000,
        work=36.0,
        total=44.0,
        latency={"before": figures, "crash": figures, "after": figures},
        crash=Crash(16.0, 17.5, 19.0),
        reconnects=1001,
        resent=30,
        suppressed=4,
        dropped_copies=0,
        anomalies=Anomalies(),
        transitions=4,
        astray=0,
        unfinished=0,
        report="report.md",
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def printed(one: Outcome, *evidence: str) -> str:
    out = io.StringIO()
    print_outcome(one, evidence, out)
    return out.getvalue()


def test_the_table_has_the_figures() -> None:
    text = printed(outcome())
    for part in (
        "1,000  in 200 conversations",
        "36,000  published, 36,000 planned; 1,000 a second",
        "216,000  to handlers; 6,000 a second",
        "at 16.0 s",
        "1.50 s later",
        "3.00 s later",
        "before the crash",
        "2.0 ms",
        "1,500 ms",
        "The report: report.md",
    ):
        assert part in text
    rows = [line.split() for line in text.splitlines()]
    assert ["lost", "0"] in rows
    assert ["duplicated", "0"] in rows
    assert ["out", "of", "order", "0"] in rows
    assert "\x1b" not in text
    assert "conflicting" not in text


def test_the_table_shows_what_is_wrong() -> None:
    text = printed(outcome(anomalies=Anomalies(1, 2, 3, 4), unfinished=5), "ann in desk/a: 1 lost [bold]")
    rows = [line.split() for line in text.splitlines()]
    assert [row for row in rows if row and row[0] in ("lost", "duplicated", "conflicting", "unfinished")] == [
        ["lost", "1"],
        ["duplicated", "2"],
        ["conflicting", "4"],
        ["unfinished", "5"],
    ]
    assert "ann in desk/a: 1 lost [bold]" in text


def test_a_run_without_a_crash_says_nothing_of_one() -> None:
    figures = Percentiles(1, 0.1, 0.1, 0.1, 0.1)
    text = printed(outcome(crash=None, latency={"whole": figures}))
    assert "killed" not in text
    assert "the whole run" in text


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"anomalies": Anomalies(lost=1)}, False),
        ({"anomalies": Anomalies(duplicated=1)}, False),
        ({"anomalies": Anomalies(out_of_order=1)}, False),
        ({"anomalies": Anomalies(conflicting=1)}, False),
        ({"unfinished": 1}, False),
        ({"astray": 1}, False),
        ({"messages": 35_999}, False),
    ],
)
def test_good_is_only_what_is_whole(changes: dict[str, object], good: bool) -> None:
    assert outcome(**changes).good is good
    assert outcome(**changes).as_dict()["ok"] is good


def test_the_figures_are_json() -> None:
    figures = json.loads(json.dumps(outcome().as_dict()))
    assert figures["anomalies"] == {"lost": 0, "duplicated": 0, "out_of_order": 0, "conflicting": 0}
    assert figures["latency"]["crash"]["p99"] == 0.0123
    assert figures["crash"]["recovered"] == 19.0


def test_units() -> None:
    assert (milliseconds(0.00123), milliseconds(2.5)) == ("1.2 ms", "2,500 ms")
    assert (size_of(2_500), size_of(12_340_000)) == ("2.5 kB", "12.3 MB")


# Meanwhile


def test_off_a_terminal_progress_is_a_line_now_and_then() -> None:
    clock, out = Clock(), io.StringIO()
    with Lines(out, 10, clock) as display:
        display.tell("it begins")
        for _ in range(20):
            display.show(Progress(online=9, confirmed=5, handled=25, p99=0.5), 100)
            clock.now += 1.0
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("it begins")
    assert len(lines) == 1 + 4
    assert "5 of 100 messages, 25 deliveries, 9 of 10 online" in lines[1]


def test_on_a_terminal_it_is_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    display = display_on(out, 10, Clock())
    assert isinstance(display, Panel)
    with display:
        display.tell("it begins [not markup]")
        display.show(Progress(online=9, published=7, handled=25, odd=1), 100)
    assert "it begins [not markup]" in out.getvalue()
    assert "9 of 10" in out.getvalue()
    assert isinstance(display_on(io.StringIO(), 10), Lines)


def test_rates_are_of_the_last_seconds() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert rates.of(Progress(published=1000, handled=5000)) == (0.0, 0.0)
    clock.now += 1.0
    assert rates.of(Progress(published=1100, handled=5500)) == (100.0, 500.0)
    clock.now += 60.0
    assert rates.of(Progress(published=1100, handled=5500)) == (0.0, 0.0)
