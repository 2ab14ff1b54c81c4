"""Consumers: cases that need two or three things to happen in just this order, each reduced from a walk or a doubt."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.shard_site import Line, Peer, ShardSite
from hubbub_broker.log import LogSettings, Retention

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


def publish(peer: Peer, *ids: str, topic: str = "g/t", **fields: Any) -> None:
    peer.send(*({"op": "pub", "topic": topic, "id": id, "data": id, **fields} for id in ids))
    peer.site.settle()


def keyed(peer: Peer, *keys: str) -> None:
    for number, key in enumerate(keys, 1):
        publish(peer, f"{key}{number}", headers={"key": key})


def join(peer: Peer, topic: str = "g/t", **fields: Any) -> None:
    peer.request("sub", topic=topic, consumer="w", **{"from_": "all", "rid": "join", **fields})
    peer.site.settle()


def settle(peer: Peer, op: str, seq: int, topic: str = "g/t", **fields: Any) -> None:
    peer.request(op, topic=topic, consumer="w", seq=seq, **fields)
    peer.site.settle()


def seqs(peer: Peer) -> list[int]:
    """The messages that have come since the last look."""
    return [line["seq"] for line in peer.take() if line["op"] == "msg" and "seq" in line]


def answer(peer: Peer, rid: Any) -> Line:
    return next(line for line in peer.take() if line.get("rid") == rid)


def read_only(site: ShardSite) -> bool:
    return site.shard.log.failed is not None


# Coming and going -----------------------------------------------------------------------------------------------------


def test_nobody_is_a_member_before_the_consumer_is_durable(open_site: Open) -> None:
    site = open_site()
    ann, bob = site.connect("ann"), site.connect("bob")
    for peer in (ann, bob):
        peer.request("sub", topic="g/t", consumer="w", rid="join")
    site.loop.turn()
    assert not any(line.get("rid") == "join" for line in [*ann.take(), *bob.take()])
    site.settle()
    assert (answer(ann, "join")["op"], answer(bob, "join")["op"]) == ("ok", "ok")


def test_nobody_becomes_a_member_of_a_consumer_that_could_not_be_stored(open_site: Open) -> None:
    site = open_site()
    ann, bob = site.connect("ann"), site.connect("bob")
    site.disk.fail("write", errno.ENOSPC)
    for peer in (ann, bob):
        peer.request("sub", topic="g/t", consumer="w", rid="join")
    site.settle()
    assert (answer(ann, "join")["code"], answer(bob, "join")["code"]) == ("read_only", "read_only")
    site.tick(1.0)
    site.settle()
    assert list(site.consumers) == []
    publish(site.connect("joe"), "a")
    site.stop()
    site.reopen()
    assert list(site.consumers) == [], "what was refused must not be there after a restart"


def test_how_a_consumer_is_shared_does_not_change_while_its_first_member_waits(open_site: Open) -> None:
    site = open_site()
    ann, bob = site.connect("ann"), site.connect("bob")
    ann.request("sub", topic="g/t", consumer="w", rid="join")
    bob.request("sub", topic="g/t", consumer="w", rid="join", exclusive=True)
    site.settle()
    assert answer(ann, "join")["op"] == "ok"
    assert answer(bob, "join")["code"] == "conflict"


def test_who_leaves_before_the_consumer_is_durable_is_answered_and_gets_nothing(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/t", consumer="w", rid="join")
    ann.request("unsub", topic="g/t", consumer="w", rid="leave")
    site.settle()
    publish(joe, "a")
    lines = ann.take()
    assert [line["rid"] for line in lines if line["op"] == "ok"] == ["leave", "join"]
    assert not any(line["op"] == "msg" for line in lines)


def test_a_topic_that_was_let_go_has_one_place_only(open_site: Open) -> None:
    site = open_site(topics_in_memory=1)
    joe, ann = site.connect("joe"), site.connect("ann")
    publish(joe, "a", "b")
    join(ann)
    assert seqs(ann) == [1, 2]
    ann.disconnect()
    site.settle()
    publish(joe, "other", topic="g/other")
    site.tick(1.0)
    site.settle()
    site.tick(61.0)
    assert "g/t" not in site.shard.topics
    bob = site.connect("bob")
    join(bob)
    assert seqs(bob) == [1, 2], "each once"
    settle(bob, "ack", 1, rid=1)
    assert answer(bob, 1)["op"] == "ok"


def test_a_topic_in_which_something_is_out_stays_in_memory(open_site: Open) -> None:
    site = open_site(topics_in_memory=1)
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, "g/*", ack_wait=1000)
    publish(joe, "a")
    site.stop()
    site.reopen()
    ann, joe = site.connect("ann"), site.connect("joe")
    settle(ann, "ack", 9)  # a late one, of a client that was quicker with it than with joining
    join(ann, "g/*", ack_wait=1000)
    assert seqs(ann) == [1]
    publish(joe, "other", topic="g/other")
    site.tick(61.0)
    site.settle()
    site.tick(61.0)
    settle(ann, "ack", 1, rid=1, attempt=1)
    assert answer(ann, 1)["op"] == "ok"


def test_a_clock_that_was_set_back_hides_nothing(open_site: Open) -> None:
    site = open_site()
    ann = site.connect("ann")
    join(ann, from_="new")
    site.stop()
    site.now -= 3600
    site.reopen()
    joe, ann = site.connect("joe"), site.connect("ann")
    publish(joe, "a")
    join(ann, from_="new")
    assert seqs(ann) == [1]


def test_a_plain_pattern_and_a_consumer_of_the_same_pattern_go_together(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/*", rid="plain")
    join(ann, "g/*")
    publish(joe, "a")
    assert sorted(line.get("consumer", "-") for line in ann.take() if line["op"] == "msg") == ["-", "w"]


def test_signals_are_not_kept_for_whoever_comes_next(open_site: Open) -> None:
    site = open_site()
    joe, ann, bob = site.connect("joe"), site.connect("ann"), site.connect("bob")
    join(ann, max_unacked=1)
    publish(joe, "a")
    publish(joe, "psst", ephemeral=True)
    ann.disconnect()
    site.settle()
    site.tick(3600)
    join(bob)
    assert [line["id"] for line in bob.take() if line["op"] == "msg"] == ["a"]


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_message_that_is_acked_while_it_waits_behind_its_key_has_no_turn(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, ordered="key")
    keyed(joe, "x", "x", "x")
    assert seqs(ann) == [1]
    site.stop()
    site.reopen()  # from here on nobody can say whether 2 had been given out
    ann = site.connect("ann")
    join(ann, ordered="key")
    assert seqs(ann) == [1]
    settle(ann, "ack", 2)
    settle(ann, "ack", 1)
    assert seqs(ann) == [3]


def test_a_message_that_is_acked_in_its_turn_but_before_it_is_out_lets_the_next_one_go(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, ordered="key", max_unacked=1)
    keyed(joe, "x", "x", "x")
    site.stop()
    site.reopen()  # from here on nobody can say whether 2 had been given out
    ann = site.connect("ann")
    join(ann, ordered="key", max_unacked=1)
    ann.fill()
    settle(ann, "ack", 1)  # it is the second one's turn, and its member's socket is full
    settle(ann, "ack", 2)
    ann.drain()
    site.settle()
    assert seqs(ann) == [1, 3]


def test_all_that_waits_for_a_member_goes_on_when_it_has_room(open_site: Open) -> None:
    site = open_site()
    joe, ann, bob = site.connect("joe"), site.connect("ann"), site.connect("bob")
    join(ann, ordered="key", max_unacked=9)
    join(bob, ordered="key", max_unacked=9)
    ann.fill()
    keyed(joe, *(f"k{number}" for number in range(12)))
    assert not seqs(ann)
    theirs = seqs(bob)
    assert len(theirs) < 12, "some keys are the other's"
    ann.drain()
    site.settle()
    assert sorted(seqs(ann)) == sorted(set(range(1, 13)) - set(theirs)), "all at once, and not one for each ack"


def test_what_waited_behind_a_key_comes_when_keys_matter_no_more(open_site: Open) -> None:
    site = open_site()
    joe, ann, bob = site.connect("joe"), site.connect("ann"), site.connect("bob")
    join(ann, ordered="key")
    keyed(joe, "x", "x", "y")
    assert seqs(ann) == [1, 3]
    ann.disconnect()
    site.settle()
    join(bob)
    assert sorted(seqs(bob)) == [1, 2, 3]


# Settling -------------------------------------------------------------------------------------------------------------


def test_what_fails_at_once_again_and_again_does_not_hold_up_what_is_new(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, max_unacked=1, max_deliver=0, backoff=[])
    publish(joe, "poison", "good", "better")
    done = []
    for _ in range(6):
        [seq] = seqs(ann)
        if seq != 1:
            done.append(seq)
        settle(ann, "ack" if seq != 1 else "nack", seq)
    assert done == [2, 3]


def test_what_had_all_its_chances_before_a_crash_is_not_delivered_once_more(open_site: Open) -> None:
    site = open_site()
    joe, ann, ops = site.connect("joe"), site.connect("ann"), site.connect("ops")
    join(ann, max_deliver=2, backoff=[])
    publish(joe, "a")
    settle(ann, "nack", 1)
    site.tick(1.0)
    site.settle()
    site.crash()
    site.reopen()
    ann, ops = site.connect("ann"), site.connect("ops")
    ops.request("sub", topic="g/_dead")
    join(ann, max_deliver=1)
    assert seqs(ann) == []
    assert [line["id"] for line in ops.take() if line["op"] == "msg"] == ["g/t#1 w"]


def test_a_message_that_retention_took_before_its_letter_was_written_is_told_as_lost(open_site: Open) -> None:
    site = open_site(log=LogSettings(segment_bytes=300, min_free_bytes=1), dedup_window=1)
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann)
    for number in range(8):
        publish(joe, f"m{number}")
    assert seqs(ann) == list(range(1, 9))
    site.tick(3600)  # the ids are forgotten, and the leases over
    task = site.loop.create_task(site.shard.log.enforce_retention(lambda _: Retention(max_count=2), site.now))
    site.settle()
    assert task.result()
    site.tick(3600)
    site.settle()
    gone = [line for line in ann.take() if line["op"] == "gap"]
    first = site.shard.log.first_seq(site.shard.topic("g/t").log)
    assert {line["first"] for line in gone} == set(range(1, first))
    place = next(iter(site.consumers)).places["g/t"]
    assert not any(seq < first for seq in place.waiting)
    assert not any(seq in place.failures for seq in range(first)), "nothing of them is left behind"


def test_a_stop_gives_nothing_out_and_counts_nothing_against_what_is_out(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, max_deliver=1, max_unacked=2)
    publish(joe, "a", "b", "c")
    assert seqs(ann) == [1, 2]
    site.consumers.stop()
    settle(ann, "ack", 1)
    assert seqs(ann) == []
    ann.disconnect()
    site.stop()
    site.reopen()
    bob = site.connect("bob")
    join(bob)
    assert [(line["seq"], line.get("attempt")) for line in bob.take() if line["op"] == "msg"] == [(2, None), (3, None)]


def test_positions_are_written_when_a_full_disk_has_room_again(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann)
    publish(joe, "a")
    assert seqs(ann) == [1]
    settle(ann, "ack", 1)
    site.disk.fail("write", errno.ENOSPC)
    site.tick(1.0)
    site.settle()
    assert read_only(site)
    for _ in range(3):
        site.tick(1.0)
        site.settle()
    assert not read_only(site)
    site.crash()
    site.reopen()
    bob = site.connect("bob")
    join(bob)
    assert seqs(bob) == []


def test_more_positions_than_go_with_one_batch_are_written_one_batch_after_the_other(
    open_site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_broker.consumers.consumers._WRITTEN_AT_ONCE", 2)
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, "g/*")
    for number in range(7):
        publish(joe, "a", topic=f"g/{number}")
        settle(ann, "ack", 1, topic=f"g/{number}")
    site.tick(1.0)
    site.settle()
    site.crash()
    site.reopen()
    bob = site.connect("bob")
    join(bob, "g/*")
    assert seqs(bob) == [], "one interval was enough"


def test_a_topic_that_cannot_be_read_now_is_read_later(open_site: Open) -> None:
    site = open_site(topics_in_memory=1)
    joe, ann = site.connect("joe"), site.connect("ann")
    for number in range(3):
        publish(joe, "a", topic=f"g/{number}")
    site.stop()
    site.reopen()
    ann = site.connect("ann")
    site.disk.fail("read_cached", errno.EIO, times=2)
    join(ann, "g/*")
    for _ in range(4):
        site.tick(1.0)
        site.settle()
    assert sorted(line["topic"] for line in ann.take() if line["op"] == "msg") == ["g/0", "g/1", "g/2"]


def test_a_receipt_of_a_message_whose_id_has_a_nul_in_it_outlives_a_restart(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann)
    publish(joe, "a\0b", track=True)
    joe.disconnect()
    settle(ann, "ack", 1)
    site.stop()
    site.reopen()
    joe = site.connect("joe")
    assert [(line["id"], line["state"]) for line in joe.take() if line["op"] == "receipt"] == [("a\0b", "done")]


def test_headers_that_are_no_object_are_no_key(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    join(ann, ordered="key")
    for headers in ([1], "key", {"key": {"a": 1}}):
        joe.request("pub", topic="g/t", id=str(headers), data=1, headers=headers)
    publish(joe, "plain")
    head = site.shard.topic("g/t").delivered
    assert seqs(ann) == list(range(1, head + 1))
