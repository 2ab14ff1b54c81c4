"""Shared states: cases that need two or three things to happen in just this order, from a walk or a doubt."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.shard_site import Line, Peer, ShardSite
from harness.state_model import history

Open = Callable[..., ShardSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Open]:
    sites: list[ShardSite] = []

    def make(**settings: Any) -> ShardSite:
        sites.append(ShardSite(tmp_path / str(len(sites)), **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.loop.settle()
        site.raise_uncaught()
        site.close()


def change(peer: Peer, id: str, *, settle: bool = True, **fields: Any) -> None:
    peer.request("change", topic="g/c", id=id, rid=id, **fields)
    if settle:
        peer.site.settle()


def read(peer: Peer, rid: str = "read") -> None:
    peer.request("state", topic="g/c", rid=rid)


def answer(peer: Peer, rid: str) -> Line | None:
    """The answer, if it has come."""
    found = [line for line in peer.take() if line.get("rid") == rid]
    return found[0] if found else None


def entries(line: Line | None) -> dict[str, tuple[Any, int]]:
    assert line is not None
    return {entry["key"]: (entry["value"], entry["version"]) for entry in line["entries"]}


def test_a_read_waits_until_what_it_saw_is_durable(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    change(joe, "1", set={"k": 1}, settle=False)
    read(ann)
    site.loop.settle()
    assert answer(ann, "read") is None
    assert site.sync()
    site.loop.settle()
    assert entries(answer(ann, "read")) == {"k": (1, 1)}


def test_a_conflict_waits_until_the_version_that_it_names_is_durable(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    change(joe, "1", set={"k": 1}, settle=False)
    change(ann, "2", set={"k": 2}, expect={"k": 0}, settle=False)
    site.loop.settle()
    assert answer(ann, "2") is None
    site.settle()
    conflict = answer(ann, "2")
    assert conflict is not None
    assert (conflict["code"], conflict["current"]) == ("conflict", 1)


def test_a_lost_batch_takes_versions_values_messages_and_leases_back(open_site: Open) -> None:
    site = open_site()
    joe = site.connect("joe")
    change(joe, "1", set={"k": 1, "l": 1}, ttl={"l": 60})
    site.disk.fail("write", errno.ENOSPC)
    part = {"topic": "g/c", "id": "m", "data": 1}
    change(joe, "2", set={"k": 2, "new": 2}, delete=["l"], ttl={"new": 60}, publish=[part])
    refused = answer(joe, "2")
    assert refused is not None
    assert refused["code"] == "read_only"
    read(joe)
    site.settle()
    assert entries(answer(joe, "read")) == {"k": (1, 1), "l": (1, 1)}
    assert (len(history(site, "g/c")), len(history(site, "g/_state/c"))) == (0, 1)
    assert list(site.states._leases._leases) == [("g/_state/c", "l")]
    site.tick(1.0)
    change(joe, "2", set={"k": 2, "new": 2}, delete=["l"], ttl={"new": 60}, publish=[part])
    made = answer(joe, "2")
    assert made is not None
    assert (made["seq"], made.get("dup"), made["published"][0]["seq"]) == (2, None, 1)


def test_whoever_waits_on_a_lost_batch_is_told_so(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    site.disk.fail("write", errno.ENOSPC)
    change(joe, "1", set={"k": 1}, settle=False)
    change(ann, "2", set={"k": 2}, expect={"k": 0}, settle=False)  # a conflict with what is lost
    read(ann)
    site.settle()
    told = {line["rid"]: line for line in ann.take() if "rid" in line}
    assert told["2"]["code"] == "read_only"
    assert entries(told["read"]) == {}, "it came when the batch was lost already"
    site.tick(1.0)
    change(ann, "2", set={"k": 2}, expect={"k": 0})
    made = answer(ann, "2")
    assert made is not None
    assert made["op"] == "ok"


def test_after_a_lost_batch_a_lease_still_ends(open_site: Open) -> None:
    site = open_site()
    joe = site.connect("joe")
    change(joe, "1", set={"l": 1}, ttl={"l": 5.0})
    site.tick(2.0)
    site.disk.fail("write", errno.ENOSPC)
    change(joe, "2", set={"k": 1})
    site.tick(2.9)
    site.settle()
    assert ("g/_state/c", "l") in site.states._leases
    site.tick(0.2)
    site.settle()
    assert ("g/_state/c", "l") not in site.states._leases


def test_after_a_crash_a_lease_has_its_whole_time_again_whatever_was_renewed(open_site: Open) -> None:
    site = open_site()
    joe = site.connect("joe")
    change(joe, "1", set={"l": 1}, ttl={"l": 5.0})
    site.tick(4.0)
    joe.request("renew", topic="g/c", keys={"l": 1}, rid="renew")
    site.settle()
    site.crash()
    site.now += 100.0
    site.reopen()
    site.tick(4.9)
    site.settle()
    assert len(history(site, "g/_state/c")) == 1
    site.tick(0.2)
    site.settle()
    assert history(site, "g/_state/c")[-1]["data"] == {"delete": ["l"], "expired": True}


def test_while_storage_has_failed_nothing_is_renewed(open_site: Open) -> None:
    """The removal may be on the disk, although it was taken back here: after a restart the key may be gone."""
    site = open_site()
    joe = site.connect("joe")
    change(joe, "1", set={"l": 1}, ttl={"l": 5.0})
    site.disk.fail("sync", errno.EIO)
    site.tick(6.0)
    site.settle()
    assert site.shard.log.failed is not None
    joe.request("renew", topic="g/c", keys={"l": 1}, rid="renew")
    site.settle()
    refused = answer(joe, "renew")
    assert refused is not None
    assert refused["code"] == "read_only"


def test_a_lease_that_is_taken_and_left_again_and_again_costs_no_memory_that_grows(open_site: Open) -> None:
    site = open_site()
    joe = site.connect("joe")
    for number in range(300):
        change(joe, f"take {number}", set={"l": number}, ttl={"l": 3600.0})
        change(joe, f"leave {number}", delete=["l"])
    assert len(site.states._leases._due) < 100
