"""Cases that need two or three things to happen in just this order, each reduced from a failing run or a doubt."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.broker import serving, url_of
from harness.shard_site import Line, Peer, ShardSite
from harness.wire import wire_client

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


def pub(topic: str, id: str, **fields: Any) -> Line:
    return {"op": "pub", "topic": topic, "id": id, "data": id, **fields}


def ids(peer: Peer) -> list[str]:
    return [line["id"] for line in peer.take() if line["op"] == "msg"]


def answers(peer: Peer) -> dict[str, Any]:
    return {line["id"]: line.get("code") or line.get("seq") for line in peer.take() if line["op"] in ("ok", "err")}


def test_a_signal_does_not_overtake_one_that_waits_behind_a_batch_of_others(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "durable"))
    site.loop.turn()  # its batch is being synced
    joe.send(pub("g/a", "first", ephemeral=True), pub("g/b", "another topic's"))
    site.loop.turn()
    site.sync()  # the next batch: the first signal, and another topic's durable message
    joe.send(pub("g/a", "second", ephemeral=True))
    site.settle()
    assert ids(ann) == ["durable", "first", "second"]


def test_a_topic_stays_in_memory_while_a_reader_is_behind(open_site: Open) -> None:
    site = open_site(topics_in_memory=1)
    joe, ann = site.connect("joe"), site.connect("ann")
    joe.send(*(pub("g/a", f"a{i}") for i in range(3)))
    joe.send(pub("g/b", "b"))
    site.settle()
    ann.fill()
    ann.request("sub", topic="g/a", from_="all")
    site.settle()
    site.tick(61)  # nothing was published for a minute
    joe.send(pub("g/a", "a3"))
    site.settle()
    ann.drain()
    site.settle()
    joe.send(pub("g/a", "a4"))
    site.settle()
    assert ids(ann) == ["a0", "a1", "a2", "a3", "a4"]


def test_a_pattern_is_told_live_although_a_subscription_by_name_took_its_last_topic(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    joe.send(pub("g/a", "a0"))
    site.settle()
    ann.fill()
    ann.request("sub", topic="g/*", from_="all")
    site.loop.settle()  # it has joined g/a, and can't be sent anything
    ann.request("sub", topic="g/a", from_="all")
    ann.drain()
    site.settle()
    lives = [line["topic"] for line in ann.take() if line["op"] == "live"]
    assert sorted(lives) == ["g/*", "g/a"]


def test_a_subscription_by_name_leaves_no_hole_in_a_pattern_s(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    joe.send(*(pub("g/a", f"a{i}") for i in range(3)))
    site.settle()
    ann.fill()
    ann.request("sub", topic="g/*", from_="all")
    site.loop.settle()
    ann.request("sub", topic="g/a")  # "new": but the pattern has not had a0 to a2 yet
    ann.drain()
    site.settle()
    assert ids(ann) == ["a0", "a1", "a2"]


def test_a_place_below_the_beginning_is_the_beginning(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    joe.send(*(pub("g/a", f"a{i}") for i in range(3)))
    site.settle()
    ann.request("sub", topic="g/*", from_={"since": 0, "after": {"g/a": -(2**40)}})
    site.settle()
    lines = [line for line in ann.take() if line["op"] in ("msg", "gap", "err")]
    assert lines[0].get("code") == "bad_request" or [line.get("seq") for line in lines] == [1, 2, 3]


def test_a_full_disk_turns_no_publisher_s_order_round(open_site: Open) -> None:
    """The second message is lost to the full disk; the third, which waits behind it for its parent, must not pass."""
    site = open_site(hold_seconds=5)
    joe, ann = site.connect("joe", "life"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "one", n=1))
    site.settle()
    joe.send(pub("g/a", "two", n=2), pub("g/a", "three", n=3, parent="late"))
    site.disk.fail("write", errno.ENOSPC)
    site.settle()
    first = answers(joe)
    assert first["two"] == "read_only"
    site.disk.heal()
    site.tick(1.0)
    assert site.shard.log.failed is None
    for _ in range(3):  # as a client does that keeps what was not taken, and sends it again in order
        joe.send(pub("g/a", "two", n=2), pub("g/a", "three", n=3, parent="late"))
        site.settle()
    joe.send(pub("g/a", "late"))
    site.settle()
    site.tick(10)
    site.settle()
    seen = [id for id in ids(ann) if id != "late"]
    assert seen == ["one", "two", "three"]


def test_what_is_past_its_time_when_the_sync_ends_is_not_delivered(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "short", ttl=1.0), pub("g/a", "long"))
    site.loop.turn()
    site.tick(5.0)  # the disk takes its time
    site.settle()
    lines = [line for line in ann.take() if line["op"] in ("msg", "gap")]
    assert [(line["op"], line.get("reason") or line["id"]) for line in lines] == [("gap", "expired"), ("msg", "long")]


def test_while_the_disk_is_behind_publishers_are_read_no_further_and_then_refused(open_site: Open) -> None:
    site = open_site(pending_soft=4096, pending_hard=8192)
    joe, ann = site.connect("joe"), site.connect("ann")
    for id in "abc":
        assert joe.reading
        joe.send(pub("g/a", id, data="x" * 3000))
        site.loop.turn()  # the disk takes none of it
    assert (joe.reading, ann.reading, site.metrics.paused_publishers) == (False, True, 1)
    ann.send(pub("g/a", "d", data="x" * 3000))
    assert (ann.reading, site.metrics.paused_publishers) == (False, 2)
    assert answers(ann) == {"d": "overloaded"}
    assert site.metrics.publishes_refused == {"pending_hard": 1}
    site.settle()
    assert (joe.reading, ann.reading) == (True, True)
    assert answers(joe) == {"a": 1, "b": 2, "c": 3}
    joe.send(pub("g/a", "e"))
    site.settle()
    assert answers(joe) == {"e": 4}


@pytest.mark.parametrize("ephemeral", [False, True])
def test_what_waited_for_its_parent_for_longer_than_it_lasts_is_not_delivered(open_site: Open, ephemeral: bool) -> None:
    site = open_site(hold_seconds=5.0)
    joe, ann, late = site.connect("joe"), site.connect("ann"), site.connect("late")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "short", ttl=1.0, parent="p", ephemeral=ephemeral), pub("g/a", "long", ttl=60.0, parent="p"))
    site.settle()
    site.tick(3.0)
    joe.send(pub("g/a", "p"))
    site.settle()
    late.request("sub", topic="g/a", from_="all")
    site.settle()
    assert (ids(ann), ids(late)) == (["p", "long"], ["p", "long"])
    assert list(answers(joe)) == ["p", "short", "long"] or ephemeral
    assert site.shard.sequencer.held_bytes == 0


def test_an_expired_message_is_replayed_to_nobody_though_nothing_else_happened_since(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    joe.send(pub("g/a", "short", ttl=1.0))
    site.settle()
    site.tick(5.0)
    ann.request("sub", topic="g/a", from_="all")
    site.settle()
    assert [line["op"] for line in ann.take()] == ["welcome", "ok", "gap", "live"]


@pytest.mark.parametrize("then", ["by name", "by pattern"])
def test_signals_that_were_missed_are_told_although_another_subscription_goes_on(open_site: Open, then: str) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/*")
    if then == "by pattern":
        ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "heard", ephemeral=True))
    site.settle()
    ann.fill()
    joe.send(pub("g/a", "missed", ephemeral=True))
    site.settle()
    ann.request("sub" if then == "by name" else "unsub", topic="g/a")
    ann.drain()
    site.settle()
    joe.send(pub("g/a", "heard too", ephemeral=True))
    site.settle()
    told = [line.get("dropped") or line["id"] for line in ann.take() if line["op"] in ("msg", "gap")]
    assert told == ["heard", 1, "heard too"]


def test_a_count_that_begins_again_behind_held_messages_is_not_overtaken(open_site: Open) -> None:
    site = open_site(hold_seconds=5)
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "one", n=1, parent="never"))
    site.tick(1.0)
    joe.send(pub("g/a", "two", n=2, parent="never"), pub("g/a", "one again", n=1))
    site.tick(4.5)  # the first has waited long enough, the second has not
    joe.send(pub("g/a", "two again", n=2))
    site.tick(5.0)
    site.settle()
    assert ids(ann) == ["one", "two", "one again", "two again"]


def test_what_an_overdue_message_sets_free_goes_out_in_the_order_it_came(open_site: Open) -> None:
    """`p` and the count that begins again behind it wait for the first only; the last waits for `p` and its turn."""
    site = open_site(hold_seconds=5)
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "one", n=1, parent="p"), pub("g/a", "p", n=2))
    joe.send(pub("g/a", "one again", n=1), pub("g/a", "two again", n=2, parent="p"))
    site.tick(5.0)
    site.settle()
    assert ids(ann) == ["one", "p", "one again", "two again"]


def test_what_waits_behind_a_message_that_is_refused_after_all_does_not_go_without_it(open_site: Open) -> None:
    site = open_site(policy=[{"pattern": "g/*", "max_message": 400}])
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "one", n=1))
    joe.send(pub("g/a", "two", n=2, parent="late", headers={"much": "x" * 400}), pub("g/a", "three", n=3))
    joe.send(pub("g/a", "one again", n=1), pub("g/a", "late"))
    site.settle()
    answered = answers(joe)
    assert (answered["two"], answered["three"]) == ("too_large", "order")
    assert ids(ann) == ["one", "late", "one again"]


def test_a_held_message_that_is_refused_is_refused_to_every_request_that_it_was_sent_with(open_site: Open) -> None:
    site = open_site(policy=[{"pattern": "g/*", "max_message": 400}], hold_seconds=5)
    joe = site.connect("joe")
    for _ in range(2):
        joe.send(pub("g/a", "one", n=1, parent="never", headers={"much": "x" * 400}))
    site.tick(5.0)
    site.settle()
    assert [line["code"] for line in joe.take() if line["op"] == "err"] == ["too_large", "too_large"]
    assert not site.shard.sequencer.holding


def test_a_signal_that_is_refused_is_not_remembered(open_site: Open) -> None:
    site = open_site(policy=[{"pattern": "g/*", "max_message": 400}])
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    for _ in range(2):
        joe.send(pub("g/a", "large", ephemeral=True, headers={"much": "x" * 400}))
        site.settle()
        assert answers(joe) == {"large": "too_large"}
    joe.send(pub("g/a", "child", parent="large"))
    site.settle()
    assert answers(joe) == {}  # its parent has not been here
    joe.send(pub("g/a", "large", ephemeral=True))
    site.settle()
    assert ids(ann) == ["large", "child"]


def test_a_signal_that_waits_has_no_place_in_its_publisher_s_count(open_site: Open) -> None:
    site = open_site()
    joe, ann = site.connect("joe"), site.connect("ann")
    ann.request("sub", topic="g/a")
    joe.send(pub("g/a", "signal", ephemeral=True, n=7, parent="late"), pub("g/a", "one", n=1), pub("g/a", "two", n=2))
    site.settle()
    assert ids(ann) == ["one", "two"]
    joe.send(pub("g/a", "late"))
    site.settle()
    assert ids(ann) == ["late", "signal"]


def test_a_held_message_that_is_sent_again_is_answered_as_each_request_asked(open_site: Open) -> None:
    site = open_site()
    one, two = site.connect("joe"), site.connect("joe")
    one.send(pub("g/a", "child", parent="late", rid="first"))
    one.send(pub("g/a", "child", parent="late", rid="second"))
    two.send(pub("g/a", "child", parent="late", rid="third"))
    site.tick(0.1)
    one.send(pub("g/a", "late", rid="parent"))
    site.settle()
    oks = {line["rid"]: line for line in [*one.take(), *two.take()] if line["op"] == "ok"}
    assert {rid: line["seq"] for rid, line in oks.items()} == {"parent": 1, "first": 2, "second": 2, "third": 2}
    assert [rid for rid, line in oks.items() if line.get("dup")] == ["second", "third"]


async def test_the_history_over_http_leaves_out_what_expired_since_the_last_publish(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "d") as server,
        wire_client(url_of(server), "joe") as joe,
        httpx.AsyncClient() as http,
    ):
        await joe.pub("g/a", "short", ttl=0.05)
        await asyncio.sleep(0.1)  # the time itself is what is waited for
        page = await http.get(f"http://127.0.0.1:{server.port}/v1/topics/g/a/messages", params={"after": 0})
        assert page.status_code == 200
        assert page.json()["messages"] == []
