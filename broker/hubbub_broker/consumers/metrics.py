"""What consumers count and measure, and its form on /metrics."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from hubbub_broker.metrics import Histogram
from hubbub_protocol.names import group_of

from .latency import Latency


class ConsumerFigures:
    """Counts since the start, over all consumers of a process."""

    __slots__ = (
        "acks",
        "conflicts",
        "dead_letters",
        "deliveries",
        "extends",
        "failures",
        "lost",
        "redeliveries",
    )

    def __init__(self) -> None:
        self.deliveries = 0
        """Messages given to members."""
        self.redeliveries = 0
        """Of those: not for the first time."""
        self.acks = 0
        """Messages that consumers are done with."""
        self.extends = 0
        """Times that a member said it is still at work."""
        self.conflicts = 0
        """Requests about a lease that was another's by then."""
        self.lost = 0
        """Messages that retention took before a consumer was done with them."""
        self.failures: dict[str, int] = {}
        """Deliveries that failed: `nack`, `term`, `timeout` (ack_wait ran out) or `dropped` (the connection ended)."""
        self.dead_letters: dict[str, int] = {}
        """Messages that consumers gave up: `failed` or `expired`."""

    def count_failure(self, kind: str) -> None:
        """A delivery failed."""
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def count_dead_letter(self, kind: str) -> None:
        """A message went to the dead letters."""
        self.dead_letters[kind] = self.dead_letters.get(kind, 0) + 1


class ConsumerCollector(Collector):
    """Turns them into Prometheus families, at each scrape."""

    def __init__(self, figures: ConsumerFigures, latency: Latency) -> None:
        self._figures = figures
        self._latency = latency

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Counters first, then the latencies."""
        figures = self._figures
        for name, text, value in (
            ("deliveries", "Messages given to consumers.", figures.deliveries),
            ("redeliveries", "Of those: given again.", figures.redeliveries),
            ("acks", "Messages that consumers are done with.", figures.acks),
            ("extends", "Times that a lease was extended.", figures.extends),
            ("conflicts", "Requests about another's lease.", figures.conflicts),
            ("lost", "Messages that retention took before they were done.", figures.lost),
        ):
            yield CounterMetricFamily(f"hubbub_consumer_{name}", text, value=value)
        yield _by_reason("hubbub_consumer_failures", "Deliveries that failed, by how.", figures.failures)
        yield _by_reason("hubbub_dead_letters", "Messages that were given up, by why.", figures.dead_letters)
        yield from self._latencies()

    def _latencies(self) -> Iterator[Metric]:
        waits = HistogramMetricFamily(
            "hubbub_consumer_wait_seconds", "From sequenced to sent.", labels=("consumer", "group", "topic")
        )
        for consumer, topic, histogram in self._latency.waits():
            _add(waits, (consumer, group_of(topic), topic), histogram)
        yield waits
        labels = ("consumer", "group", "topic", "agent")
        work = HistogramMetricFamily("hubbub_consumer_work_seconds", "From sent to acked.", labels=labels)
        total = HistogramMetricFamily("hubbub_consumer_total_seconds", "From sequenced to acked.", labels=labels)
        for each, pace in self._latency.paces():
            key = (each.consumer, group_of(each.topic), each.topic, each.agent)
            _add(work, key, pace.work)
            _add(total, key, pace.total)
        yield work
        yield total


def _by_reason(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=("reason",))
    for reason, amount in values.items():
        family.add_metric((reason,), amount)
    return family


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    ends = [*(f"{bound:.6g}" for bound in histogram.bounds), "+Inf"]
    counts = [float(count) for count in accumulate(histogram.counts)]
    family.add_metric(labels, list(zip(ends, counts, strict=True)), sum_value=histogram.sum)
