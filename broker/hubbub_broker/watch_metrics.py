"""How far behind consumers are, and how their agents do, on /metrics."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from hubbub_broker.http import ConsumerRow

from .watch import Watch

_LABELS = ("topic", "consumer")


class WatchCollector(Collector):
    """Turns what `Watch` sees into Prometheus families, at each scrape.

    What is behind is as of the last count: a scrape sets the next one going, and does not wait for it.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Consumers, then agents."""
        self._watch.refresh()
        now = time.time()
        rows = self._watch.consumers(times=False)

        def gauge(name: str, text: str, value: Callable[[ConsumerRow], float | None]) -> Metric:
            return _gauge(rows, f"hubbub_consumer_{name}", text, value)

        yield gauge("lag_messages", "Messages that are not settled, up to the head.", lambda row: row.lag)
        yield gauge("outstanding_messages", "Messages that members have out.", lambda row: row.outstanding)
        yield gauge("waiting_messages", "Messages that failed and come again.", lambda row: row.waiting)
        yield gauge("members", "Connections that share a consumer.", lambda row: row.members)
        yield gauge("paused", "1 while the consumer is paused.", lambda row: row.paused)
        yield gauge(
            "oldest_seconds",
            "Age of the oldest message that is not settled.",
            lambda row: None if row.lag is None else max(0.0, now - row.oldest) if row.oldest is not None else 0.0,
        )
        agents = GaugeMetricFamily("hubbub_agents", "Agents that serve consumers, by state.", labels=("state",))
        for state, count in self._watch.states().items():
            agents.add_metric((state,), count)
        yield agents


def _gauge(
    rows: Sequence[ConsumerRow], name: str, text: str, value: Callable[[ConsumerRow], float | None]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=_LABELS)
    for row in rows:
        figure = value(row)
        if figure is not None:
            family.add_metric((row.topic, row.name), figure)
    return family
