"""Who owns what, and where clients are told to go."""

import pytest

from hubbub_broker.topology import Topology, bare_host
from hubbub_protocol.routing import shard_of, worker_of


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 16])
def test_every_shard_has_one_owner_and_a_group_is_where_its_shard_is(workers: int) -> None:
    topologies = [Topology(own, workers, 16, tuple(range(workers))) for own in range(workers)]
    for shard in range(16):
        assert sum(topology.owns(shard) for topology in topologies) == 1
    for group in ("a", "research", "_hubbub", "x" * 128):
        owner = worker_of(group, 16, workers)
        assert topologies[owner].owns(shard_of(group, 16))
        assert all(topology.worker_of(group) == owner for topology in topologies)
    assert sum(topology.is_home for topology in topologies) == 1


def test_the_hash_is_the_one_that_clients_are_told() -> None:
    """A change here would lose every group's history, and send every client to the wrong worker."""
    assert [shard_of(group, 16) for group in ("a", "research", "_hubbub", "agents")] == [15, 2, 5, 10]


@pytest.mark.parametrize(
    ("host", "bare"),
    [
        ("example.org:8091", "example.org"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8091", "[::1]"),
        ("", "127.0.0.1"),
        ("[bad", "127.0.0.1"),
    ],
)
def test_the_address_of_a_worker_has_the_host_that_the_client_used(host: str, bare: str) -> None:
    assert bare_host(host) == bare
    topology = Topology(0, 2, 16, (8092, 8093))
    assert topology.url(1, host, secure=False) == f"ws://{bare}:8093/v1/ws"
    assert topology.url(1, host, secure=True) == f"wss://{bare}:8093/v1/ws"


def test_named_addresses_are_told_as_they_are() -> None:
    topology = Topology(0, 2, 16, (8092, 8093), ("wss://a.example.org/v1/ws", "wss://b.example.org/v1/ws"))
    assert topology.url(1, "127.0.0.1", secure=False) == "wss://b.example.org/v1/ws"
