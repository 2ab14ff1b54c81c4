"""What a broker says of its log, from its metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from hubbub_bench.measurement import LogUse

from .address import Address

TIMEOUT_SECONDS = 10.0
_LINE = re.compile(r"^([a-z_]+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_WANTED = {
    "hubbub_log_written_bytes_total": "bytes",
    "hubbub_log_records_total": "records",
    "hubbub_log_sync_seconds_count": "syncs",
    "hubbub_log_batch_records_count": "batches",
    "hubbub_log_batch_records_sum": "in_batches",
}


@dataclass(frozen=True)
class LogCounters:
    """Sums over all shards, since the broker started."""

    bytes: float = 0.0
    records: float = 0.0
    syncs: float = 0.0
    batches: float = 0.0
    in_batches: float = 0.0

    @classmethod
    def parse(cls, text: str) -> LogCounters:
        """From the metrics as text."""
        sums = dict.fromkeys(_WANTED.values(), 0.0)
        for name, value in _LINE.findall(text):
            if name in _WANTED:
                sums[_WANTED[name]] += float(value)
        return cls(**sums)

    def until(self, later: LogCounters) -> LogUse:
        """What was used in between."""
        batches = later.batches - self.batches
        return LogUse(
            bytes=later.bytes - self.bytes,
            records=later.records - self.records,
            syncs=later.syncs - self.syncs,
            batch_mean=(later.in_batches - self.in_batches) / batches if batches else 0.0,
        )


def scrape(address: Address) -> LogCounters | None:
    """The counters now; None if the broker does not tell."""
    kind = HTTPSConnection if address.tls else HTTPConnection
    connection = kind(address.host, address.port, timeout=TIMEOUT_SECONDS)
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return LogCounters.parse(answer.read().decode()) if answer.status == 200 else None
    except (OSError, HTTPException, UnicodeDecodeError):
        return None
    finally:
        connection.close()
