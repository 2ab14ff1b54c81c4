"""A member that lets its time run out: the others go before it until it settles something."""

from typing import Any

import pytest

from harness.consuming import member, publish, settle
from harness.until import until
from hubbub_broker.server import Server

HASTE: dict[str, Any] = {"ack_wait": 0.1, "backoff": [0.01], "max_deliver": 0}


@pytest.mark.parametrize("how", [{"exclusive": True}, {"ordered": "k"}])
async def test_what_a_hung_member_had_goes_to_one_that_is_well(connect: Any, how: dict[str, Any]) -> None:
    async with connect("joe") as joe, connect("hung") as hung, connect("well") as well:
        await member(hung, **HASTE, **how)
        await member(well, **HASTE | {"ack_wait": 60}, **how)
        for number in range(8):
            await joe.pub("g/t", number, headers={"k": number})
        seen: dict[int, int] = {}
        while len(seen) < 8:
            message = await well.until("msg")
            seen[message["seq"]] = message.get("attempt", 1)
            assert (await settle(well, "ack", message["seq"]))["op"] == "ok"
        assert max(seen.values()) == 2, "none was given to the hung one a second time"
        await joe.pub("g/t", 8, headers={"k": 0})
        assert (await well.until("msg"))["seq"] == 9


async def test_of_an_exclusive_consumer_it_is_a_standby_once_it_is_well_again(connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
        await member(ann, exclusive=True, **HASTE)
        await member(bob, exclusive=True, **HASTE | {"ack_wait": 60})
        await publish(joe, 1)
        await ann.until("msg", seq=1)
        await bob.until("msg", seq=1, attempt=2)
        assert (await settle(ann, "ack", 1, attempt=1))["code"] == "conflict"
        await settle(bob, "ack", 1)
        await publish(joe, 1)
        await bob.until("msg", seq=2)
        await bob.send("unsub", topic="g/t", consumer="w", rid="bye")
        assert (await ann.until("msg", seq=2))["attempt"] == 2


async def test_with_ordered_it_has_keys_again_once_it_has_settled_something(connect: Any) -> None:
    keys = range(16)
    async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
        await member(ann, ordered="k", **HASTE)
        await member(bob, ordered="k", **HASTE | {"ack_wait": 60})
        for key in keys:
            await joe.pub("g/t", key, headers={"k": key})
        for _ in keys:  # ann's come to bob after their time
            await settle(bob, "ack", (await bob.until("msg"))["seq"])
        first = await ann.until("msg")
        assert (await settle(ann, "ack", first["seq"], attempt=1))["code"] == "conflict"
        for key in keys:
            await joe.pub("g/t", key, headers={"k": key})
        while (await ann.until("msg"))["seq"] <= len(keys):
            pass


async def test_it_counts_as_slow_until_it_settles_something(server: Server, connect: Any) -> None:
    def states() -> dict[str, str]:
        return {row.agent: row.state for row in server.broker.watch.agents()}

    async with connect("joe") as joe, connect("ann") as ann, connect("bob") as bob:
        await member(ann, **HASTE)
        await publish(joe, 1)
        await ann.until("msg", seq=1)
        await member(bob, **HASTE | {"ack_wait": 60})
        await bob.until("msg", seq=1, attempt=2)
        assert states() == {"ann": "slow", "bob": "working"}
        await settle(ann, "ack", 1, attempt=1)
        assert states() == {"ann": "idle", "bob": "working"}


async def test_what_it_acks_late_is_counted_as_its_work(server: Server, connect: Any) -> None:
    async with connect("joe") as joe, connect("ann") as ann:
        await member(ann, ack_wait=0.05, backoff=[1000])
        await publish(joe, 1)
        await ann.until("msg", seq=1)
        (consumer,) = server.broker.consumers_of("g")
        await until(lambda: consumer.places["g/t"].waiting)
        assert (await settle(ann, "ack", 1, attempt=1))["op"] == "ok"
        (row,) = server.broker.watch.agents()
        assert (row.agent, row.acked) == ("ann", 1)
        assert row.work.p50 >= 0.05
