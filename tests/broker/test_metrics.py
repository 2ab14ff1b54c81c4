"""What is counted, as a scraper reads it."""

from collections.abc import Iterable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from hubbub_broker.log import LogStats
from hubbub_broker.metrics import BrokerGauges, Exposition, Histogram, Metrics, ShardGauges


def log_stats() -> LogStats:
    stats = LogStats()
    stats.damaged = 1
    stats.wrote(0.000_003)
    stats.synced(records=10, size=2000, seconds=0.000_2)
    return stats


class FakeSource:
    def __init__(self, shards: int = 2) -> None:
        self.metrics = Metrics()
        self._shards = shards

    def gauges(self) -> BrokerGauges:
        return BrokerGauges(connections=3, subscriptions=4, held=5, lagging=6, largest_lag=7)

    def shard_gauges(self) -> Iterable[ShardGauges]:
        for number in range(self._shards):
            failed = "disk full" if number == 1 else None
            yield ShardGauges(number, topics=8, pending_bytes=100, log_bytes=4096, failed=failed, log=log_stats())


def samples(source: FakeSource) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text, content_type = Exposition(source).render()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_prometheus(text.decode())
        for sample in family.samples
    }


def test_counts_reach_the_scraper() -> None:
    source = FakeSource()
    metrics = source.metrics
    metrics.publishes_durable += 3
    metrics.publishes_dup += 2
    metrics.bytes_in += 1234
    metrics.deliveries_live += 50
    metrics.count_refusal("overloaded")
    metrics.count_refusal("read_only", 4)
    metrics.count_gap("slow")
    metrics.count_gap("slow")
    metrics.count_close(4008)
    metrics.count_connection_refusal("limit")
    metrics.count_request_refusal("conflict")
    metrics.count_http("GET", "/v1/topics", 200)
    found = samples(source)
    assert found["hubbub_publishes_total", (("outcome", "durable"),)] == 3
    assert found["hubbub_publishes_total", (("outcome", "duplicate"),)] == 2
    assert found["hubbub_publishes_total", (("outcome", "refused"),)] == 5
    assert found["hubbub_publishes_refused_total", (("reason", "read_only"),)] == 4
    assert found["hubbub_received_bytes_total", ()] == 1234
    assert found["hubbub_deliveries_total", (("source", "live"),)] == 50
    assert found["hubbub_gaps_total", (("reason", "slow"),)] == 2
    assert found["hubbub_connections_closed_total", (("code", "4008"),)] == 1
    assert found["hubbub_connections_refused_total", (("reason", "limit"),)] == 1
    assert found["hubbub_requests_refused_total", (("reason", "conflict"),)] == 1
    assert found["hubbub_http_requests_total", (("method", "GET"), ("route", "/v1/topics"), ("status", "200"))] == 1


def test_states_are_asked_at_the_scrape() -> None:
    found = samples(FakeSource())
    assert found["hubbub_connections", ()] == 3
    assert found["hubbub_largest_lag_messages", ()] == 7
    assert found["hubbub_topics", (("shard", "0"),)] == 8
    assert found["hubbub_read_only", (("shard", "0"),)] == 0
    assert found["hubbub_read_only", (("shard", "1"),)] == 1
    assert found["hubbub_log_bytes", (("shard", "1"),)] == 4096
    assert found["hubbub_log_damaged_records_total", (("shard", "0"),)] == 1


def test_the_process_is_measured_too() -> None:
    names = {name for name, _ in samples(FakeSource())}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info", "hubbub_info"} <= names


def test_histograms_are_cumulative() -> None:
    source = FakeSource()
    for messages in (1, 2, 2, 100, 10**6):
        source.metrics.observe_flush(messages)
    found = samples(source)
    assert found["hubbub_flush_messages_bucket", (("le", "1"),)] == 1
    assert found["hubbub_flush_messages_bucket", (("le", "2"),)] == 3
    assert found["hubbub_flush_messages_bucket", (("le", "128"),)] == 4
    assert found["hubbub_flush_messages_bucket", (("le", "+Inf"),)] == 5
    assert found["hubbub_flush_messages_count", ()] == 5
    assert found["hubbub_flush_messages_sum", ()] == 1 + 2 + 2 + 100 + 10**6


def test_the_logs_of_all_shards_are_added_up() -> None:
    found = samples(FakeSource(shards=3))
    assert found["hubbub_log_batch_records_bucket", (("le", "8"),)] == 0
    assert found["hubbub_log_batch_records_bucket", (("le", "16"),)] == 3
    assert found["hubbub_log_batch_records_sum", ()] == 30
    assert found["hubbub_log_write_seconds_bucket", (("le", "2e-06"),)] == 0
    assert found["hubbub_log_write_seconds_bucket", (("le", "4e-06"),)] == 3
    assert found["hubbub_log_sync_seconds_count", ()] == 3
    assert found["hubbub_log_sync_seconds_sum", ()] == pytest.approx(0.0006)


def test_a_broker_without_shards_can_be_scraped() -> None:
    assert samples(FakeSource(shards=0))["hubbub_log_sync_seconds_count", ()] == 0


def test_openmetrics_is_spoken_when_asked_for() -> None:
    text, content_type = Exposition(FakeSource()).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = list(parse_openmetrics(text.decode()))
    assert any(family.name == "hubbub_publishes" for family in families)


def test_every_family_has_a_help_text_and_our_prefix() -> None:
    text, _ = Exposition(FakeSource()).render()
    for family in parse_prometheus(text.decode()):
        assert family.documentation, family.name
        assert family.name.startswith(("hubbub", "process_", "python_")), family.name


def test_nothing_can_be_counted_under_a_misspelt_name() -> None:
    with pytest.raises(AttributeError):
        Metrics().publishs_durable = 1  # type: ignore[attr-defined]


def test_a_bound_is_inclusive() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert (histogram.count, histogram.sum) == (5, 7.5)
