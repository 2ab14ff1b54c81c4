"""Hubbub beside its peers: turns, ratios, marks, and what is said when something is missing or wrong."""

import json
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from hubbub_bench.documents import NoSuchPart, write_part
from hubbub_bench.report import Machine
from hubbub_bench.rivals.bout import Bout, Ring, Standing
from hubbub_bench.rivals.driver import DriverFailed, checked, find, run, value
from hubbub_bench.rivals.hubbub import Hubbub
from hubbub_bench.rivals.page import as_json, page, summary
from hubbub_bench.rivals.server import NotThere, Running, program
from hubbub_bench.rivals.work import FOLDER, BadWork, Figure, Side, Work, load, load_all

RATE = Figure(key="deliv_per_s", name="deliveries", unit="deliveries/s")
TAIL = Figure(key="e2e_us.p99", name="p99", unit="ms", better="less", scale=0.001)
OURS = Side(rival="hubbub", label="ours")
THEIRS = Side(rival="nats", label="theirs", marks={"deliv_per_s": 2.0, "e2e_us.p99": 1.1})
WORK = Work(title="work", order=1, figures=[RATE, TAIL], sides=[OURS, THEIRS], name="work")
MACHINE = Machine("Linux 6", "a processor", 2, 8.0, "CPython 3.11", "uvloop 1", "ext4", 0.15)


def report(rate: float, tail: float, **more: Any) -> dict[str, Any]:
    return {"deliv_per_s": rate, "e2e_us": {"p99": tail}, "ok": True, **more}


def fought(ours: tuple[float, float], theirs: tuple[float, float]) -> Bout:
    return Bout(WORK, [Standing(OURS, "H 1", [report(*ours)]), Standing(THEIRS, "N 2", [report(*theirs)])])


def test_the_work_that_comes_along_can_be_done_and_begins_with_hubbub() -> None:
    works = load_all()
    assert len(works) >= 12
    assert all(work.sides[0].rival == "hubbub" and len(work.sides) > 1 for work in works)
    marks = [(work.name, key, mark) for work in works for side in work.sides for key, mark in side.marks.items()]
    assert ("fan-out", "deliv_per_s", 2.0) in marks
    assert ("publish-64", "acked_per_s", 20.0) in marks
    assert ("latency", "e2e_us.p99", 1.1) in marks


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('key = "published_per_s"', 'key = "something"'), "no figure of it"),
        (('rival = "hubbub"', 'rival = "nats"'), "has to be Hubbub"),
        (('unit = "messages/s"', 'units = "messages/s"'), "units"),
    ],
)
def test_work_that_can_t_be_compared_is_refused(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((FOLDER / "sdk.toml").read_text().replace(*change))
    with pytest.raises(BadWork, match=reason):
        load(path)


def test_ratios_and_whether_marks_are_reached() -> None:
    text = page([fought((300.0, 2000.0), (100.0, 1000.0))], MACHINE, "today", "")
    assert "| 100 deliveries/s | 100 to 100 of 1 | 3.00 × | at least 2 ×: reached |" in text
    assert "| 1.00 ms | 1.00 to 1.00 of 1 | 2.00 × | at most 1.1 ×: not reached |" in text
    assert "Measured: H 1, N 2." in text
    assert "--only work" in text
    short = summary([fought((150.0, 1000.0), (100.0, 1000.0))], MACHINE, "today")
    assert (
        "| work: deliveries | 150 deliveries/s | theirs | 100 deliveries/s | 1.50 × | at least 2 ×: not reached |"
        in short
    )
    assert "1.00 × | at most 1.1 ×: reached |" in short


def test_what_stands_for_a_figure_is_read_instead() -> None:
    side = Side(rival="nats", label="theirs", instead={"e2e_us.p99": "ack_us.p99"}, marks={"e2e_us.p99": 1.0})
    standing = Standing(side, "N", [report(1.0, 50.0, ack_us={"p99": 3000.0})])
    assert standing.figure(TAIL) == 3.0
    one = Bout(msgspec.structs.replace(WORK, figures=[TAIL]), [Standing(OURS, "H", [report(1.0, 1500.0)]), standing])
    assert "0.50 × | at most 1 ×: reached |" in summary([one], MACHINE, "today")


def test_a_mark_of_its_own_needs_no_peer() -> None:
    figure = Figure(key="rss_per_conn_kib", name="memory", unit="KiB", better="less", at_most=10.0)
    work = msgspec.structs.replace(WORK, figures=[figure], sides=[OURS])
    for memory, reached in ((5.0, "reached"), (12.0, "not reached")):
        one = Bout(work, [Standing(OURS, "H", [{"rss_per_conn_kib": memory}])])
        assert f"at most 10 KiB: {reached} |" in summary([one], MACHINE, "today")
        assert f"at most 10 KiB: {reached} |" in page([one], MACHINE, "today", "")


def test_what_is_not_there_or_failed_is_told() -> None:
    one = fought((300.0, 2000.0), (100.0, 1000.0))
    one.standings[1] = Standing(THEIRS, skipped="nats-server is not installed: get it")
    assert "not measured: nats-server is not installed: get it" in page([one], MACHINE, "today", "")
    one.standings[1] = Standing(THEIRS, "N", [report(1.0, 1.0, loadgen_cores=0.97)], failed=["3 | lost"])
    text = page([one], MACHINE, "today", "")
    assert "1 runs came to nothing, last: 3 / lost" in text
    assert "the driver had no time to spare" in text
    assert as_json([one])[0]["sides"][0]["ratios"]["deliv_per_s"] == 1.0


@pytest.mark.parametrize("wrong", [{"missing": 1}, {"dup": 2}, {"ooo": 1}, {"stray": 1}, {"ok": False}, {"lost": 3}])
def test_a_wrong_count_is_no_figure(wrong: dict[str, Any]) -> None:
    assert checked(report(1.0, 1.0))["deliv_per_s"] == 1.0
    with pytest.raises(DriverFailed, match="the count is wrong"):
        checked(report(1.0, 1.0, **wrong))


def test_a_figure_that_is_missing_is_told() -> None:
    assert value(report(1.0, 5.0), "e2e_us.p99") == 5.0
    with pytest.raises(DriverFailed, match=r"no e2e_us\.p50"):
        value(report(1.0, 5.0), "e2e_us.p50")


def driver(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport json, sys\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_driver_is_told_where_the_server_is_and_its_last_line_counts(tmp_path: Path) -> None:
    program = driver(tmp_path / "driver", "print('hm'); print(json.dumps({'ok': True, 'said': sys.argv[1:]}))")
    done = run(program, Running(4711, 99, ("--proto", "x")), ["--topics", "3"])
    assert done["said"] == ["--proto", "x", "--port", "4711", "--server-pid", "99", "--topics", "3"]


def test_a_driver_that_fails_says_why(tmp_path: Path) -> None:
    program = driver(tmp_path / "driver", "sys.exit('no such protocol')")
    with pytest.raises(DriverFailed, match="no such protocol"):
        run(program, Running(1, 1), [])


def test_without_a_driver_it_is_said_how_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBBUB_BENCH_DRIVER", raising=False)
    with pytest.raises(NotThere, match="--driver PATH"):
        find(None)
    (tmp_path / "text").write_text("")
    with pytest.raises(NotThere, match="no program"):
        find(tmp_path / "text")
    with pytest.raises(NotThere, match="not installed: buy it"):
        program("no-such-server-at-all", "buy it")


class Sham:
    """A server that is not one: what a driver says of it is in its options."""

    title = "sham"
    turns: ClassVar[list[str]] = []

    def __init__(self, name: str) -> None:
        self._name = name

    @contextmanager
    def start(self, folder: Path, options: dict[str, str]) -> Any:
        if options.get("missing"):
            raise NotThere("it is not here")
        Sham.turns.append(self._name)
        yield Running(1, 1)


def test_sides_take_turns_and_begin_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(
        driver(tmp_path / "d", f"print({json.dumps(report(5.0, 5.0))!r})"), tmp_path, seconds=1, warmup=0, runs=3
    )
    monkeypatch.setattr(ring, "_rivals", {name: Sham(name) for name in ("hubbub", "nats", "redis")})
    Sham.turns.clear()
    gone = Side(rival="redis", label="gone", options={"missing": "yes"})
    told: list[str] = []
    one = ring.hold(msgspec.structs.replace(WORK, sides=[OURS, THEIRS, gone]), told.append)
    assert Sham.turns == ["hubbub", "nats", "nats", "hubbub", "hubbub", "nats"]
    assert [len(standing.runs) for standing in one.standings] == [3, 3, 0]
    assert one.standings[2].skipped == "it is not here"
    assert any("not measured: it is not here" in line for line in told)
    assert list(tmp_path.glob("hubbub-*")) == [], "their directories are removed"


@pytest.mark.slow
def test_hubbub_and_its_client_are_measured_with_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = msgspec.structs.replace(
        load(FOLDER / "sdk.toml"), sides=[Side(rival="hubbub", label="SDK", flags="500")], runs=1
    )
    one = Ring(None, Path(), seconds=1, warmup=0, runs=1).hold(work, lambda _: None)
    assert one.standings[0].failed == []
    assert all((one.standings[0].figure(figure) or 0) > 100 for figure in work.figures)


def test_every_client_of_the_driver_has_a_token_of_its_own() -> None:
    tokens = Hubbub()._signed().split()
    assert len(set(tokens)) == len(tokens) >= 5000


def test_a_part_of_a_document_is_written_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- measured: a -->\nold\n<!-- end of a -->\nafter\n")
    write_part(path, "a", "new \\1\n")
    assert path.read_text() == "before\n<!-- measured: a -->\n\nnew \\1\n\n<!-- end of a -->\nafter\n"
    with pytest.raises(NoSuchPart, match="measured: b"):
        write_part(path, "b", "text")


@pytest.mark.parametrize(("page_of", "part"), [("README.md", "marks"), ("docs/benchmarks.md", "peers")])
def test_the_pages_have_the_parts_that_are_written(tmp_path: Path, page_of: str, part: str) -> None:
    copy = tmp_path / "copy.md"
    copy.write_text((Path(__file__).resolve().parents[2] / page_of).read_text())
    write_part(copy, part, "measured")
    assert "measured" in copy.read_text()
