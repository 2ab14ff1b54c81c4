"""What is counted of workers, on /metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hubbub_broker.peers import Peers


class WorkerFigures(Collector):
    """One worker's figures."""

    def __init__(self, peers: Peers, restarts: int) -> None:
        self._peers = peers
        self._restarts = restarts
        self.forwarded = 0
        """Requests that were sent on to another worker."""

    def count_forwarded(self) -> None:
        """One more."""
        self.forwarded += 1

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield CounterMetricFamily("hubbub_worker_restarts", "How often it was started again.", self._restarts)
        yield CounterMetricFamily(
            "hubbub_http_forwarded", "HTTP requests that were sent on to another worker.", self.forwarded
        )
        links = self._peers.links.items()
        there = GaugeMetricFamily("hubbub_link_up", "1 while another worker can be reached.", labels=("to",))
        waiting = GaugeMetricFamily(
            "hubbub_link_waiting", "Requests to another worker that have no answer yet.", labels=("to",)
        )
        for worker in self._peers.topology.others:
            there.add_metric((str(worker),), float(self._peers.is_here(worker)))
        for worker, link in links:
            waiting.add_metric((str(worker),), link.waiting)
        yield there
        yield waiting
