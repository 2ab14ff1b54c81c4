"""Metrics of several workers on one page."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from hubbub_broker.workers.exposition import join

ONE = """# HELP hubbub_a_total Things, of which "some" {are} odd.
# TYPE hubbub_a_total counter
hubbub_a_total 3.0
# HELP hubbub_b Seconds.
# TYPE hubbub_b histogram
hubbub_b_bucket{le="0.1"} 1.0
hubbub_b_bucket{le="+Inf"} 2.0
hubbub_b_sum 1.5
hubbub_b_count 2.0
# HELP hubbub_c By topic.
# TYPE hubbub_c gauge
hubbub_c{topic="a/}b",consumer="x y"} 7.0
"""
OTHER = """# HELP hubbub_a_total Things, of which "some" {are} odd.
# TYPE hubbub_a_total counter
hubbub_a_total 4.0
# HELP hubbub_d Only here.
# TYPE hubbub_d gauge
hubbub_d{} 1.0
"""


def test_each_sample_has_its_worker_and_each_family_one_description() -> None:
    text = join({0: ONE, 2: OTHER}, {0: True, 1: False, 2: True})
    found = {family.name: family for family in families(text)}
    assert {(s.labels["worker"], s.value) for s in found["hubbub_a"].samples} == {("0", 3.0), ("2", 4.0)}
    assert [s.labels for s in found["hubbub_b"].samples if s.name.endswith("_bucket")] == [
        {"worker": "0", "le": "0.1"},
        {"worker": "0", "le": "+Inf"},
    ]
    assert found["hubbub_c"].samples[0].labels == {"worker": "0", "topic": "a/}b", "consumer": "x y"}
    assert found["hubbub_d"].samples[0].labels == {"worker": "2"}
    assert {s.labels["worker"]: s.value for s in found["hubbub_worker_up"].samples} == {"0": 1.0, "1": 0.0, "2": 1.0}
    assert text.count("# TYPE hubbub_a_total ") == 1


def test_openmetrics_ends_once_and_at_the_end() -> None:
    one = '# HELP hubbub_a Things.\n# TYPE hubbub_a gauge\nhubbub_a{x="1"} 3.0\n# EOF\n'
    text = join({0: one, 1: one}, {0: True, 1: True})
    assert text.count("# EOF") == 1
    assert text.endswith("# EOF\n")
    assert {family.name for family in openmetrics(text)} == {"hubbub_a", "hubbub_worker_up"}
