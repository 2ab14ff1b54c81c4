"""Growth: costs are measured at each size, history is added to what is there, tables and pictures are written."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from hubbub_bench.documents import write_part
from hubbub_bench.growth import points
from hubbub_bench.growth.page import draw, page
from hubbub_bench.growth.points import Cost, Opened
from hubbub_bench.report import Machine

MACHINE = Machine("Linux 6", "a processor", 2, 8.0, "CPython 3.11", "uvloop 1", "ext4", 0.15)
COSTS = [Cost(10, 11.0, 0.1, 0.5, 50.0), Cost(100, 12.5, 0.1, 0.5, 51.0)]
OPENED = [Opened(1000, 0.5, 1.0, 1.1, 60.0, 7.5), Opened(10_000, 5.0, 1.2, 1.3, 70.0, 7.6)]


def test_the_tables_have_every_size_and_the_pictures_are_there(tmp_path: Path) -> None:
    text = page(COSTS, COSTS, OPENED, MACHINE, "today")
    assert text.count("| 100 | 12.5 | 0.10 ms | 0.50 ms | 51 MiB |") == 2
    assert "| 10,000 | 5.00 GiB | 1.20 s | 1.30 s | 70 MiB | 7.60 |" in text
    draw(COSTS, COSTS, OPENED, tmp_path)
    for path in tmp_path.iterdir():
        assert path.name in text
        ET.fromstring(path.read_text())
    assert len(list(tmp_path.iterdir())) == text.count("](pictures/") == 4


def test_what_was_left_out_is_not_in_it(tmp_path: Path) -> None:
    text = page([], COSTS, [], MACHINE, "today")
    assert "Topics" not in text
    assert "History" not in text
    draw([], COSTS, [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["growth-connections.svg"]


@pytest.mark.soak
@pytest.mark.timeout(180)  # it starts seven brokers, one after the other
def test_costs_and_starts_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "SECONDS", 0.5)
    monkeypatch.setattr(points, "TOPICS_RATE", 200.0)
    monkeypatch.setattr(points, "PROBE", 500)
    monkeypatch.setattr(points, "HISTORY_TOPICS", 4)
    monkeypatch.setattr(points, "HISTORY_GROUPS", 2)
    told: list[str] = []
    (cost,) = points.by_topics(tmp_path, [20], told.append)
    first, second = points.by_history(tmp_path, [500, 2000], told.append)
    assert 1 < cost.microseconds < 20_000
    assert 0 < cost.latency_p50 <= cost.latency_p99
    assert second.directory > first.directory > 0, "the second is on what the first left"
    assert second.microseconds > 1
    assert min(first.start_clean, first.start_killed) > 0.1
    assert len(told) == 3
    assert list(tmp_path.iterdir()) == [], "the directories are removed"


def test_the_page_has_the_part_that_is_written(tmp_path: Path) -> None:
    copy = tmp_path / "copy.md"
    copy.write_text((Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md").read_text())
    write_part(copy, "growth", "measured")
    assert "measured" in copy.read_text()
