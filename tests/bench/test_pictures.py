"""Pictures and lines of account, and what is read of a broker's metrics."""

import xml.etree.ElementTree as ET
from pathlib import Path

from hubbub_bench.drivers.load import Verdict
from hubbub_bench.measurement import LogUse, Reading, Run
from hubbub_bench.peers.scrape import LogCounters
from hubbub_bench.report import Machine, Report, Result
from hubbub_bench.report.account import accounts
from hubbub_bench.report.plot import plot
from hubbub_bench.report.svg import HEIGHT, WIDTH, Axis, chart
from hubbub_bench.scenario import FOLDER, load

METRICS = """# HELP hubbub_log_written_bytes_total Bytes written.
hubbub_log_written_bytes_total{shard="0"} 100.0
hubbub_log_written_bytes_total{shard="1"} 50.0
hubbub_log_records_total{shard="0"} 4.0
hubbub_log_batch_records_bucket{le="1.0"} 1.0
hubbub_log_batch_records_count 2.0
hubbub_log_batch_records_sum 6.0
hubbub_log_sync_seconds_count 3.0
hubbub_something_else 9.0
"""


def run() -> Run:
    return Run(
        [
            Reading("deliveries", 5.0, "deliveries/s"),
            Reading("published", 10, "messages"),
            Reading("delivered", 40, "messages"),
            Reading("missed", 2, "messages"),
        ],
        Verdict(lost=3),
        log=LogUse(bytes=2**20, records=10, syncs=7, batch_mean=2.5),
        distributions={"end to end": [(0.0, 0.1), (50.0, 0.2), (99.0, 3.0)]},
        timeline=[(0.25, 100.0), (0.5, 120.0)],
    )


def report() -> Report:
    result = Result(load(FOLDER / "teams" / "team-sdk.toml"), [run()])
    return Report("1", "now", Machine("L", "p", 2, 8.0, "C", "u", "ext4", 0.1), [result])


def test_the_metrics_of_all_shards_are_added_up() -> None:
    counters = LogCounters.parse(METRICS)
    assert counters == LogCounters(bytes=150, records=4, syncs=3, batches=2, in_batches=6)
    assert LogCounters().until(counters) == LogUse(bytes=150, records=4, syncs=3, batch_mean=3)


def test_a_line_tells_what_was_counted_and_what_was_wrong() -> None:
    (line,) = accounts(report())
    assert "10 published, 40 delivered" in line
    assert "3 lost, 0 duplicated, 0 out of order" in line
    assert "2 ephemeral ones missed" in line
    assert "1.0 MiB in 7 syncs, 2.5 records a batch" in line


def test_a_chart_is_well_formed_and_its_curves_lie_inside() -> None:
    text = chart("a < b", Axis("x", log=True), Axis("y"), {"one": [(1, 0), (10, 5), (1000, 2)], "two": [(1, 1)]})
    root = ET.fromstring(text)
    lines = [one for one in root.iter() if one.tag.endswith("polyline")]
    assert len(lines) == 2
    points = [tuple(map(float, point.split(","))) for point in lines[0].attrib["points"].split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[0][0] < points[1][0] < points[2][0], "further right is more"
    assert points[1][1] < points[2][1] < points[0][1], "higher up is more"
    assert points[1][0] - points[0][0] < points[2][0] - points[1][0], "a decade is a decade"


def test_a_reports_pictures_are_written(tmp_path: Path) -> None:
    written = plot(report(), tmp_path / "pictures")
    assert [path.name for path in written] == ["team-sdk-latency.svg", "team-sdk-throughput.svg"]
    for path in written:
        ET.fromstring(path.read_text())
