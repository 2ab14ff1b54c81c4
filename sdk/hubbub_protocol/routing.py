"""Where a group lives: the arithmetic that brokers and clients share."""

from xxhash import xxh3_64_intdigest


def shard_of(group: str, shards: int) -> int:
    """The shard that owns a group: stable across processes, machines and versions."""
    return xxh3_64_intdigest(group.encode()) % shards


def worker_of(group: str, shards: int, workers: int) -> int:
    """The worker that owns a group, where `workers` of them own `shards` shards."""
    return shard_of(group, shards) % workers
