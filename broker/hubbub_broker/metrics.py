"""What the broker counts, and how it looks to Prometheus.

Hot code adds to plain attributes of `Metrics` (`metrics.publishes_durable += 1`): no lock, no label look-up, no call.
Only a scrape pays for names and labels, in `MetricsCollector`. What is a state rather than a count (open connections,
bytes waiting) is not kept here at all: it is asked from the `MetricsSource` at scrape time, so it can't drift.

Counters start at 0 with the process. Times are seconds, sizes bytes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hubbub_broker.refusal import Refusal
from hubbub_broker.refusal_log import RefusalLog
from hubbub_protocol import __version__
from hubbub_protocol.limits import TOPIC_BYTES_MAX

POWERS_OF_TWO = tuple(float(2**power) for power in range(15))
"""1 to 16,384: for messages in a flush or a batch."""

DELAY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds, from what a busy loop shows all the time to what a reader notices."""

GROUPS_MAX = 100
"""Groups that are told apart in the metrics."""

SCHEMAS_MAX = 200
"""Schemas that are told apart in the metrics."""

OTHERS = "(other)"
"""Stands for the groups beyond that: no group has such a name."""


class Histogram:
    """Counts by fixed upper bounds, and the sum. `counts` has one entry more than `bounds`: what is above them all.

    Args:
        bounds: upper bounds, inclusive, in rising order.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


class Metrics:
    """What happened in this process since it started. One for each broker; every part adds to it directly.

    The dictionaries, and the methods that fill them, are for what is rare.
    """

    __slots__ = (
        "access_denied",
        "bytes_in",
        "bytes_out",
        "catch_up_chunks",
        "connections_closed",
        "connections_opened",
        "connections_refused",
        "deliveries_live",
        "deliveries_replay",
        "durable_seconds",
        "ephemeral_dropped",
        "expired_dropped",
        "filtered_out",
        "flush_sizes",
        "frames_in",
        "gaps",
        "guard_events",
        "guard_events_left_out",
        "guard_refusals",
        "held",
        "hold_orphaned",
        "hold_released",
        "http_requests",
        "loop_delay",
        "paused_publishers",
        "publishes_dup",
        "publishes_durable",
        "publishes_ephemeral",
        "publishes_orphan",
        "publishes_refused",
        "reads_cold",
        "refusal_log",
        "requests_refused",
        "schema_misfits",
        "tokens_refused",
    )

    def __init__(self) -> None:  # noqa: PLR0915 - one statement a count
        self.connections_opened = 0
        """WebSocket connections that were accepted."""
        self.connections_closed: dict[int, int] = {}
        """Connections that ended, by close code; 1006 where the socket just went."""
        self.connections_refused: dict[str, int] = {}
        """Connections that were turned away in the handshake or at hello, by the limit or another reason."""

        self.tokens_refused: dict[str, int] = {}
        """Credentials that were not taken, by reason; `missing` where none was shown."""
        self.access_denied: dict[str, int] = {}
        """What was asked for by those who may not, by operation."""

        self.publishes_durable = 0
        """Messages that went to the log, orphans included, duplicates not."""
        self.publishes_ephemeral = 0
        """Ephemeral messages that were taken."""
        self.publishes_dup = 0
        """Publishes answered with the seq that their id had got before."""
        self.publishes_orphan = 0
        """Messages that went out without their parent (also counted as durable or ephemeral)."""
        self.publishes_refused: dict[str, int] = {}
        """Publishes answered `err`, by the setting that was the limit, or by error code where none was."""
        self.requests_refused: dict[str, int] = {}
        """Other requests answered `err`, likewise."""
        self.refusal_log = RefusalLog()
        """Told of those at limits."""
        self.paused_publishers = 0
        """Times that a connection was read no further because a shard's log was behind."""

        self.schema_misfits: dict[tuple[str, str, str], int] = {}
        """Messages that did not fit the schema of their type, by group, type, and whether they were refused."""
        self.guard_refusals: dict[str, int] = {}
        """Messages and requests that a rule of the guard stopped or slowed, by rule (also counted as refused)."""
        self.guard_events = 0
        """Events told to operators."""
        self.guard_events_left_out = 0
        """Denials that no event of their own was told of."""

        self.held = 0
        """Messages held back because their parent had not come."""
        self.hold_released = 0
        """Held-back messages whose parent came in time."""
        self.hold_orphaned = 0
        """Held-back messages that were let go without it."""

        self.deliveries_live = 0
        """Messages handed to a caught-up subscriber's socket: one for each subscriber."""
        self.deliveries_replay = 0
        """Messages handed to a subscriber's socket from the log."""
        self.ephemeral_dropped = 0
        """Ephemeral messages that a subscriber's full socket could not take."""
        self.expired_dropped = 0
        """Messages that were past their time-to-live when their turn came."""
        self.filtered_out = 0
        """Messages that a filter did not let through: once for each filter, however many readers have it."""
        self.gaps: dict[str, int] = {}
        """`gap` frames sent, by reason."""
        self.catch_up_chunks = 0
        """Chunks read from the log for lagging readers."""
        self.reads_cold = 0
        """Chunks that were not in the page cache and had to be fetched from disk first."""

        self.bytes_in = 0  # received on WebSockets
        self.bytes_out = 0  # of messages handed to subscribers' sockets, answers not included
        self.frames_in = 0
        """WebSocket data frames received."""
        self.durable_seconds: dict[str, Histogram] = {}
        """Seconds from a publish until it is on stable storage, by group: see `durable_of`."""
        self.flush_sizes = Histogram(POWERS_OF_TWO)
        """Messages in each flush of a shard: what one group commit made durable and delivered."""
        self.loop_delay = Histogram(DELAY_BOUNDS)
        """Seconds by which the event loop ran a timer too late: what everything in the process had to wait."""
        self.http_requests: dict[tuple[str, str, int], int] = {}
        """HTTP requests answered, by method, route and status."""

    def durable_of(self, group: str) -> Histogram:
        """The histogram of a group's `durable_seconds`; of all those together that come after the first so many."""
        if group not in self.durable_seconds and len(self.durable_seconds) >= GROUPS_MAX:
            group = OTHERS
        return self.durable_seconds.setdefault(group, Histogram(DELAY_BOUNDS))

    def observe_flush(self, messages: int) -> None:
        """A shard flushed so many messages."""
        self.flush_sizes.observe(messages)

    def count_refusal(self, reason: str, amount: int = 1) -> None:
        """A publish was answered `err`."""
        self.publishes_refused[reason] = self.publishes_refused.get(reason, 0) + amount

    def refuse_publish(self, refusal: Refusal, client: str | None, topic: str) -> None:
        """A client's publish was answered with this. At a limit, the broker's log says so."""
        self.count_refusal(refusal.reason)
        if refusal.limit is not None:
            self.refusal_log.note(client, refusal.limit, refusal.message, topic[:TOPIC_BYTES_MAX])

    def refuse_request(self, refusal: Refusal, client: str | None) -> None:
        """The same for any other request."""
        self.count_request_refusal(refusal.reason)
        if refusal.limit is not None:
            self.refusal_log.note(client, refusal.limit, refusal.message)

    def refuse_connection(self, limit: str, client: str | None, message: str) -> None:
        """A limit turned a connection away, or ended it."""
        self.count_connection_refusal(limit)
        self.refusal_log.note(client, limit, message)

    def count_request_refusal(self, reason: str) -> None:
        """A request other than a publish was answered `err`."""
        self.requests_refused[reason] = self.requests_refused.get(reason, 0) + 1

    def count_connection_refusal(self, reason: str) -> None:
        """A connection was turned away before it was welcomed."""
        self.connections_refused[reason] = self.connections_refused.get(reason, 0) + 1

    def count_close(self, code: int) -> None:
        """A connection ended."""
        self.connections_closed[code] = self.connections_closed.get(code, 0) + 1

    def count_misfit(self, group: str, type: str, outcome: str) -> None:
        """A message did not fit its schema. Those beyond so many schemas are counted together."""
        key = (group, type, outcome)
        if key not in self.schema_misfits and len(self.schema_misfits) >= SCHEMAS_MAX:
            key = (OTHERS, OTHERS, outcome)
        self.schema_misfits[key] = self.schema_misfits.get(key, 0) + 1

    def count_guard(self, rule: str) -> None:
        """A rule of the guard said no."""
        self.guard_refusals[rule] = self.guard_refusals.get(rule, 0) + 1

    def count_gap(self, reason: str) -> None:
        """A `gap` was sent."""
        self.gaps[reason] = self.gaps.get(reason, 0) + 1

    def count_http(self, method: str, route: str, status: int) -> None:
        """An HTTP request was answered."""
        key = (method, route, status)
        self.http_requests[key] = self.http_requests.get(key, 0) + 1


# What is asked at scrape time ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BrokerGauges:
    """The state of a broker at this moment."""

    connections: int
    """WebSocket connections that are open."""
    subscriptions: int
    held: int
    """Messages that wait for their parent."""
    lagging: int
    """Cursors that are not caught up."""
    largest_lag: int
    """Messages that the reader furthest behind has still to get."""
    policies: int = 0
    """Policies in force that were set at run time."""
    schemas: int = 0
    """Schemas in force."""
    rules_skipped: int = 0
    """Policies and schemas that are kept, and not understood."""


class PowerHistogram(Protocol):
    """Counts by powers of two: `buckets[k]` counts what is at most 2**k, the last one everything above."""

    @property
    def buckets(self) -> Sequence[int]:
        """The counts, not cumulative."""

    @property
    def sum(self) -> float:
        """The sum of the values."""


class LogFigures(Protocol):
    """What a shard's log counts: plain numbers since it was opened (`hubbub_broker.log.LogStats` is one)."""

    records: int
    bytes: int
    segments: int
    dropped_segments: int
    damaged: int
    truncated_bytes: int
    dedup_entries: int

    @property
    def batch_records(self) -> PowerHistogram:
        """Records in a group commit."""

    @property
    def write_histogram(self) -> PowerHistogram:
        """Seconds that handing a batch to the operating system took; buckets in microseconds."""

    @property
    def sync_histogram(self) -> PowerHistogram:
        """Seconds until a batch was on stable storage; buckets in microseconds."""


@dataclass(frozen=True, slots=True)
class ShardGauges:
    """The state of one shard at this moment."""

    number: int
    topics: int
    """Topics in memory."""
    pending_bytes: int
    """Bytes appended and not yet on stable storage."""
    log_bytes: int
    """Size of its log on disk."""
    failed: str | None
    """Why it is read-only, or None."""
    log: LogFigures
    held_bytes: int = 0
    """Bytes that messages take which wait for their parents."""


class MetricsSource(Protocol):
    """What a scrape needs from the broker."""

    @property
    def metrics(self) -> Metrics:
        """What it counts."""

    def gauges(self) -> BrokerGauges:
        """Its state now."""

    def shard_gauges(self) -> Iterable[ShardGauges]:
        """The state of each of its shards now, by number."""


# Exposition ---------------------------------------------------------------------------------------------------------


class MetricsCollector(Collector):
    """Turns a broker's numbers into Prometheus families, at each scrape."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask a broker that is still starting."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, counters first."""
        metrics = self._source.metrics
        yield InfoMetricFamily("hubbub", "The broker's version.", {"version": __version__})
        yield from _connection_families(metrics)
        yield from _message_families(metrics)
        yield from _gauge_families(self._source.gauges())
        yield from _shard_families(list(self._source.shard_gauges()))


class DoorCollector(Collector):
    """The same for what has doors, and no broker behind them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What came to the doors."""
        yield InfoMetricFamily("hubbub", "The version.", {"version": __version__})
        yield from _connection_families(self._metrics)


class Exposition:
    """A registry with a broker's metrics and the process's own, ready to be scraped."""

    def __init__(self, source: MetricsSource | Metrics, *others: Collector) -> None:
        """`source` is a broker, or the counts of what has none behind it."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(DoorCollector(source) if isinstance(source, Metrics) else MetricsCollector(source))
        for collector in others:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its content type: OpenMetrics if `accept` asks for it, else Prometheus' own."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _connection_families(metrics: Metrics) -> Iterator[Metric]:
    yield _counter("hubbub_connections_opened", "WebSocket connections accepted.", metrics.connections_opened)
    yield _by(
        "hubbub_connections_closed", "WebSocket connections ended, by close code.", "code", metrics.connections_closed
    )
    yield _by(
        "hubbub_connections_refused", "Connections turned away, by reason.", "reason", metrics.connections_refused
    )
    yield _by("hubbub_tokens_refused", "Credentials that were not taken, by reason.", "reason", metrics.tokens_refused)
    yield _by("hubbub_access_denied", "What was denied to those who asked.", "operation", metrics.access_denied)
    yield _counter("hubbub_received_bytes", "Bytes read from WebSocket connections.", metrics.bytes_in)
    yield _counter("hubbub_sent_bytes", "Bytes of messages handed to subscribers' sockets.", metrics.bytes_out)
    yield _counter("hubbub_received_frames", "WebSocket data frames read.", metrics.frames_in)
    requests = CounterMetricFamily(
        "hubbub_http_requests", "HTTP requests answered.", labels=("method", "route", "status")
    )
    for (method, route, status), amount in metrics.http_requests.items():
        requests.add_metric((method, route, str(status)), amount)
    yield requests
    yield _histogram(
        "hubbub_loop_delay_seconds", "How late the event loop ran a timer, in seconds.", metrics.loop_delay
    )


def _message_families(metrics: Metrics) -> Iterator[Metric]:
    yield _by(
        "hubbub_publishes",
        "Publishes, by what became of them.",
        "outcome",
        {
            "durable": metrics.publishes_durable,
            "ephemeral": metrics.publishes_ephemeral,
            "duplicate": metrics.publishes_dup,
            "refused": sum(metrics.publishes_refused.values()),
        },
    )
    yield _by("hubbub_publishes_refused", "Publishes refused, by reason.", "reason", metrics.publishes_refused)
    yield _by("hubbub_requests_refused", "Other requests refused, by reason.", "reason", metrics.requests_refused)
    misfits = CounterMetricFamily(
        "hubbub_schema_misfits",
        "Messages that did not fit the schema of their type, refused or only counted.",
        labels=("group", "type", "outcome"),
    )
    for key, amount in metrics.schema_misfits.items():
        misfits.add_metric(key, amount)
    yield misfits
    yield _by("hubbub_guard_refusals", "Refusals of the guard, by rule.", "rule", metrics.guard_refusals)
    yield _by(
        "hubbub_guard_events",
        "Refusals of the guard, by whether operators were told in an event of its own.",
        "outcome",
        {"told": metrics.guard_events, "left_out": metrics.guard_events_left_out},
    )
    yield _counter(
        "hubbub_publishers_paused", "Times that a connection was read no further.", metrics.paused_publishers
    )
    yield _counter("hubbub_messages_held", "Messages held back for their parent.", metrics.held)
    yield _by(
        "hubbub_messages_unheld",
        "Held-back messages that went out, by whether the parent had come.",
        "outcome",
        {"parent": metrics.hold_released, "orphan": metrics.hold_orphaned},
    )
    yield _counter("hubbub_orphans", "Messages that went out without their parent.", metrics.publishes_orphan)
    yield _by(
        "hubbub_deliveries",
        "Messages handed to subscribers' sockets.",
        "source",
        {"live": metrics.deliveries_live, "log": metrics.deliveries_replay},
    )
    yield _by(
        "hubbub_messages_dropped",
        "Messages not delivered: ephemeral ones that a full socket could not take, and expired ones.",
        "reason",
        {"slow": metrics.ephemeral_dropped, "expired": metrics.expired_dropped},
    )
    yield _counter("hubbub_messages_filtered_out", "Messages that a filter did not let through.", metrics.filtered_out)
    yield _by("hubbub_gaps", "Gaps told to subscribers, by reason.", "reason", metrics.gaps)
    yield _counter("hubbub_catch_up_reads", "Chunks read from the log for lagging readers.", metrics.catch_up_chunks)
    yield _counter("hubbub_cold_reads", "Chunks that came from disk, not from the page cache.", metrics.reads_cold)
    durable = HistogramMetricFamily(
        "hubbub_durable_seconds",
        "From published to stable storage: for each run of a topic's messages, how long the first of them took.",
        labels=("group",),
    )
    for group, histogram in metrics.durable_seconds.items():
        ends = [*(f"{bound:.6g}" for bound in histogram.bounds), "+Inf"]
        counts = [float(count) for count in accumulate(histogram.counts)]
        durable.add_metric((group,), list(zip(ends, counts, strict=True)), sum_value=histogram.sum)
    yield durable
    yield _histogram("hubbub_flush_messages", "Messages in a flush.", metrics.flush_sizes)


def _gauge_families(gauges: BrokerGauges) -> Iterator[Metric]:
    yield _gauge("hubbub_connections", "WebSocket connections open.", gauges.connections)
    yield _gauge("hubbub_subscriptions", "Subscriptions open.", gauges.subscriptions)
    yield _gauge("hubbub_held_messages", "Messages waiting for their parent.", gauges.held)
    yield _gauge("hubbub_lagging_subscriptions", "Subscriptions that are not caught up.", gauges.lagging)
    yield _gauge(
        "hubbub_largest_lag_messages", "Messages that the reader furthest behind has still to get.", gauges.largest_lag
    )
    yield _gauge("hubbub_policies", "Policies in force that were set at run time.", gauges.policies)
    yield _gauge("hubbub_schemas", "Schemas of message types in force.", gauges.schemas)
    yield _gauge(
        "hubbub_rules_skipped",
        "Policies and schemas that are kept, and not in force: another version wrote them.",
        gauges.rules_skipped,
    )


def _shard_families(shards: Sequence[ShardGauges]) -> Iterator[Metric]:
    def gauge(name: str, text: str, pick: Callable[[ShardGauges], float]) -> Metric:
        return _by_shard(GaugeMetricFamily(name, text, labels=("shard",)), shards, pick)

    def counter(name: str, text: str, pick: Callable[[ShardGauges], float]) -> Metric:
        return _by_shard(CounterMetricFamily(name, text, labels=("shard",)), shards, pick)

    yield gauge("hubbub_topics", "Topics in memory.", lambda shard: shard.topics)
    yield gauge("hubbub_pending_bytes", "Bytes not yet on stable storage.", lambda shard: shard.pending_bytes)
    yield gauge("hubbub_held_bytes", "Bytes of messages waiting for their parent.", lambda shard: shard.held_bytes)
    yield gauge("hubbub_read_only", "1 while the shard takes nothing.", lambda shard: shard.failed is not None)
    yield gauge("hubbub_log_bytes", "Size of the log on disk.", lambda shard: shard.log_bytes)
    yield gauge("hubbub_log_segments", "Segment files of the log.", lambda shard: shard.log.segments)
    yield gauge("hubbub_dedup_entries", "Ids remembered for dedup.", lambda shard: shard.log.dedup_entries)
    yield counter("hubbub_log_damaged_records", "Damaged records found.", lambda shard: shard.log.damaged)
    yield counter("hubbub_log_records", "Records written.", lambda shard: shard.log.records)
    yield counter("hubbub_log_written_bytes", "Bytes written.", lambda shard: shard.log.bytes)
    yield counter(
        "hubbub_log_dropped_segments", "Segments that retention took.", lambda shard: shard.log.dropped_segments
    )
    yield counter("hubbub_log_truncated_bytes", "Torn tails cut off.", lambda shard: shard.log.truncated_bytes)
    logs = [shard.log for shard in shards]
    yield _powers("hubbub_log_batch_records", "Records in a group commit.", [log.batch_records for log in logs], 1)
    yield _powers(
        "hubbub_log_write_seconds", "Time of a write to the log.", [log.write_histogram for log in logs], 1e-6
    )
    yield _powers("hubbub_log_sync_seconds", "Time of a sync of the log.", [log.sync_histogram for log in logs], 1e-6)


def _by_shard(
    family: GaugeMetricFamily | CounterMetricFamily,
    shards: Iterable[ShardGauges],
    pick: Callable[[ShardGauges], float],
) -> Metric:
    for shard in shards:
        family.add_metric((str(shard.number),), pick(shard))
    return family


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((str(key),), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return _buckets(name, text, histogram.bounds, histogram.counts, histogram.sum)


def _powers(name: str, text: str, histograms: Sequence[PowerHistogram], scale: float) -> Metric:
    """The sum of histograms by powers of two; 2**k in their buckets is 2**k × `scale` here."""
    counts = [sum(counts) for counts in zip(*(histogram.buckets for histogram in histograms), strict=True)] or [0]
    bounds = [2**power * scale for power in range(len(counts) - 1)]
    return _buckets(name, text, bounds, counts, sum(histogram.sum for histogram in histograms))


def _buckets(name: str, text: str, bounds: Sequence[float], counts: Sequence[int], total: float) -> Metric:
    ends = [*(f"{bound:.6g}" for bound in bounds), "+Inf"]
    cumulative = [(end, float(count)) for end, count in zip(ends, accumulate(counts), strict=True)]
    return HistogramMetricFamily(name, text, buckets=cumulative, sum_value=total)
