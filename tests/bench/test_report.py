"""The report: medians, spread, limits, and what is said when something is wrong."""

import json
from dataclasses import replace

import pytest

from hubbub_bench.drivers.load import Verdict
from hubbub_bench.histogram import Latencies
from hubbub_bench.measurement import Limit, Reading, Run, limit_of
from hubbub_bench.report import Machine, Report, Result, summarize
from hubbub_bench.report.table import number, render
from hubbub_bench.scenario import FOLDER, load
from hubbub_bench.usage import Sample, Usage

MACHINE = Machine("Linux 6", "a processor", 2, 8.0, "CPython 3.11", "uvloop 1", "ext4", 0.15)
USAGE = Usage(seconds=4.0, driver_cores=0.5, broker_cores=0.95, other_cores=0.1, broker_rss=1, cores=2)


def run(value: float, verdict: Verdict | None = None, usage: Usage | None = USAGE) -> Run:
    readings = [Reading("deliveries", value, "deliveries/s"), Reading("ack p50", value / 1e6, "ms", shown=False)]
    return Run(readings, verdict or Verdict(), usage)


def report(*results: Result) -> Report:
    return Report("1.2.3", "2026-01-01T00:00:00+00:00", MACHINE, list(results))


def result(*runs: Run, **reasons: str) -> Result:
    return Result(load(FOLDER / "fan-out-durable.toml"), list(runs), **reasons)


def test_a_figure_is_the_median_with_its_range() -> None:
    figure, _ = summarize([run(300), run(100), run(200)])
    assert (figure.median, figure.low, figure.high, figure.unit) == (200, 100, 300, "deliveries/s")
    assert figure.spread == pytest.approx(1.0)


def test_no_runs_are_no_figures() -> None:
    assert summarize([]) == []


@pytest.mark.parametrize(
    ("broker", "driver", "other", "limit"),
    [
        (0.95, 0.5, 0.0, Limit.BROKER),
        (1.4, 0.5, 0.0, Limit.BROKER),
        (0.5, 0.95, 0.0, Limit.DRIVER),
        (0.95, 0.95, 0.0, Limit.BOTH),
        (0.5, 0.5, 0.0, Limit.NEITHER),
        (0.5, 0.5, 0.9, Limit.MACHINE),
        (0.85, 0.89, 0.06, Limit.NEITHER),
        (None, 0.95, 0.0, Limit.DRIVER),
        (None, 0.5, 0.0, Limit.UNKNOWN),
    ],
)
def test_what_held_a_run_back(broker: float | None, driver: float, other: float, limit: Limit) -> None:
    usage = replace(USAGE, broker_cores=broker, driver_cores=driver, other_cores=other)
    assert limit_of(usage) is limit


def test_a_load_that_was_fixed_beforehand_was_held_back_by_nothing() -> None:
    assert Run([Reading("end to end p50", 0.1, "ms")], usage=USAGE, paced=True).limit is None


def test_a_paced_load_that_had_no_time_to_spare_is_told() -> None:
    busy = replace(USAGE, driver_cores=0.99, broker_cores=0.3)
    assert Run([Reading("end to end p50", 0.1, "ms")], usage=busy, paced=True).limit is Limit.DRIVER


def test_of_several_load_processes_the_busiest_counts() -> None:
    idle = replace(USAGE, driver_cores=1.2, broker_cores=0.5, other_cores=0.0, busiest_cores=0.6)
    assert limit_of(idle) is Limit.NEITHER
    assert limit_of(replace(idle, busiest_cores=0.95)) is Limit.DRIVER
    before = Sample(at=0.0, driver=0.0, machine=0.0, broker=0.0, broker_rss=1, each=(0.0, 1.0))
    after = Sample(at=2.0, driver=3.0, machine=4.0, broker=0.5, broker_rss=1, each=(1.0, 2.9))
    assert Usage.between(before, after).busiest_cores == pytest.approx(0.95)


def test_usage_is_what_was_used_between_two_samples() -> None:
    before = Sample(at=10.0, driver=1.0, machine=100.0, broker=5.0, broker_rss=1000)
    after = Sample(at=14.0, driver=3.0, machine=107.0, broker=9.0, broker_rss=3000)
    usage = Usage.between(before, after)
    assert (usage.driver_cores, usage.broker_cores, usage.other_cores, usage.broker_rss) == (0.5, 1.0, 0.25, 3000)
    unknown = Usage.between(replace(before, broker=None), after)
    assert (unknown.broker_cores, unknown.other_cores) == (None, 1.25)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_567, "deliveries/s", "1.23 M deliveries/s"),
        (999_990, "deliveries/s", "1.00 M deliveries/s"),
        (34_249, "publishes/s", "34.2 k publishes/s"),
        (99_960, "publishes/s", "100 k publishes/s"),
        (12, "publishes/s", "12.0 publishes/s"),
        (0.1234, "ms", "0.12 ms"),
        (123.4, "ms", "123 ms"),
    ],
)
def test_numbers_have_three_digits_that_count(value: float, unit: str, text: str) -> None:
    assert number(value, unit) == text


def test_the_table_shows_the_figure_with_its_range_use_and_limit() -> None:
    text = render(report(result(run(1_000_000), run(1_200_000), run(1_100_000))))
    (row,) = [line for line in text.splitlines() if line.startswith("| Fan-out")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["deliveries", "1.10 M deliveries/s", "1.00 M to 1.20 M of 3", "0.95", "0.50", "0.10", "broker"]
    assert "ack p50" not in text
    assert "is on stable storage before it is delivered" in text
    assert "WRONG" not in text
    assert "NOTE" not in text


def test_what_was_wrong_is_said_and_makes_the_report_bad() -> None:
    bad = report(result(run(1), run(1, Verdict(lost=3, duplicated=1))))
    assert not bad.good
    assert "WRONG: fan-out-durable, run 2: lost 3, duplicated 1" in render(bad)


def test_a_driver_without_time_to_spare_is_told() -> None:
    busy = replace(USAGE, driver_cores=0.98, broker_cores=0.6)
    text = render(report(result(run(1, usage=busy))))
    assert "NOTE: fan-out-durable: the driver had no time to spare" in text


def test_a_busy_machine_is_told() -> None:
    text = render(report(result(run(1, usage=replace(USAGE, other_cores=0.9)))))
    assert "other processes used the machine too, in cores: fan-out-durable 0.9." in text


def test_a_late_driver_is_told() -> None:
    readings = [Reading("end to end p99", 1.0, "ms"), Reading("driver late p99", 0.5, "ms", shown=False)]
    assert "the driver itself was late" in render(report(result(Run(readings, usage=USAGE, paced=True))))
    readings[1] = Reading("driver late p99", 0.1, "ms", shown=False)
    assert "late" not in render(report(result(Run(readings, usage=USAGE, paced=True)))).split("Others")[1]


def test_a_sync_that_costs_nothing_is_told() -> None:
    text = render(Report("1", "now", replace(MACHINE, file_system="tmpfs"), [result(run(1))]))
    assert "WARNING: tmpfs is memory" in text


def test_a_failure_makes_the_report_bad_and_a_skipped_scenario_does_not() -> None:
    failed, skipped = report(result(failed="the broker hung up")), report(result(skipped="needs a broker of its own"))
    assert not failed.good
    assert skipped.good
    assert "NOT MEASURED: the broker hung up" in render(failed)
    assert "NOT MEASURED: needs a broker of its own" in render(skipped)


def test_the_json_has_everything() -> None:
    content = json.loads(report(result(run(100), run(300, Verdict(lost=1)))).json())
    (scenario,) = content["scenarios"]
    assert content["machine"]["sync_ms"] == 0.15
    assert scenario["name"] == "fan-out-durable"
    assert scenario["scenario"]["subscribers"] == 1000
    assert scenario["good"] is False
    assert scenario["limits"] == ["broker"]
    assert [figure["median"] for figure in scenario["figures"]] == pytest.approx([200, 0.0002])
    assert [one["verdict"]["lost"] for one in scenario["runs"]] == [0, 1]
    assert scenario["runs"][0]["usage"]["broker_cores"] == 0.95


def test_this_machine_can_be_described(tmp_path: object) -> None:
    from pathlib import Path

    here = Machine.here(Path(str(tmp_path)), "a loop")
    assert here.cores >= 1
    assert here.sync_ms > 0
    assert "a loop" in str(here)


def test_a_histogram_keeps_three_digits_over_the_whole_range() -> None:
    latencies = Latencies(range(1_000_000, 101_000_000, 1_000_000))
    assert latencies.count == 100
    assert latencies.percentile(50) == pytest.approx(50, rel=0.002)
    assert latencies.percentile(99) == pytest.approx(99, rel=0.002)
    assert latencies.max_ms == pytest.approx(100, rel=0.002)


def test_histograms_can_be_merged() -> None:
    fast, slow = Latencies([1_000_000] * 99), Latencies([9_000_000_000])
    fast.merge(slow)
    assert fast.count == 100
    assert fast.percentile(50) == pytest.approx(1, rel=0.002)
    assert fast.max_ms == pytest.approx(9000, rel=0.002)


def test_a_histogram_takes_no_time_at_all_and_refuses_more_than_an_hour() -> None:
    assert Latencies([0]).max_ms == pytest.approx(1e-6)
    assert Latencies().percentile(99) == 0.0
    with pytest.raises(ValueError, match="an hour"):
        Latencies([2 * 3600 * 10**9])
