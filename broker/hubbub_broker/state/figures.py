"""What states count, and its form on /metrics."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class StateFigures:
    """Counts since the start, over all states of a process."""

    __slots__ = ("changes", "conflicts", "expired", "leases", "reads", "renewals", "repeats")

    def __init__(self) -> None:
        self.changes = 0
        """Changes that were made, those of keys that went by themselves not included."""
        self.repeats = 0
        """Changes that were asked for again, and answered as the first time."""
        self.conflicts = 0
        """Changes and renewals that expected another version."""
        self.reads = 0
        """Requests that read a state."""
        self.renewals = 0
        """Keys whose life was renewed."""
        self.expired = 0
        """Keys that went by themselves."""
        self.leases = 0
        """Keys that will, now."""


class StateCollector(Collector):
    """Turns them into Prometheus families, at each scrape."""

    def __init__(self, figures: StateFigures) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """A family each."""
        figures = self._figures
        for name, text, value in (
            ("changes", "Changes of states.", figures.changes),
            ("repeats", "Changes that were asked for again.", figures.repeats),
            ("conflicts", "Changes and renewals that expected another version.", figures.conflicts),
            ("reads", "Requests that read a state.", figures.reads),
            ("renewals", "Keys whose life was renewed.", figures.renewals),
            ("expired", "Keys that went by themselves.", figures.expired),
        ):
            yield CounterMetricFamily(f"hubbub_state_{name}", text, value=value)
        yield GaugeMetricFamily("hubbub_state_leases", "Keys that go by themselves.", value=figures.leases)
