"""The clock of leases, alone."""

import asyncio
import weakref
from typing import Any

import pytest

from hubbub.lease import Lease, LeaseKeeper


class Site:
    """A keeper, and what it asked for."""

    def __init__(self, ack_wait: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.extended: list[tuple[float, int]] = []
        self.lost: list[tuple[float, int]] = []
        self.abandoned: list[int] = []
        self.answers = True
        self.keeper = LeaseKeeper(
            ack_wait,
            clock=self.loop.time,
            call_at=self.loop.call_at,
            extend=self._extend,
            lost=lambda lease, _: self.lost.append((self.loop.time(), lease.seq)),
            abandoned=lambda lease: self.abandoned.append(lease.seq),
        )

    def lease(self, seq: int) -> Lease:
        lease = Lease("g/t", seq, 1, self.loop.time())
        self.keeper.watch(lease)
        return lease

    def _extend(self, lease: Lease) -> None:
        self.extended.append((self.loop.time(), lease.seq))
        if self.answers:
            lease.confirmed_at = lease.asked_at


async def test_it_is_extended_at_a_third_and_never_lost_while_confirmed() -> None:
    site = Site(30.0)
    site.lease(1)
    await asyncio.sleep(3001)
    assert len(site.extended) == 300
    assert site.lost == []
    site.keeper.stop()


async def test_without_confirmation_it_is_asked_for_again_and_then_lost_in_time() -> None:
    site = Site(30.0)
    site.answers = False
    site.lease(1)
    await asyncio.sleep(100)
    assert [round(at) for at, _ in site.extended] == [10, 20]
    assert [(round(at, 3), seq) for at, seq in site.lost] == [(30.0, 1)]


async def test_what_is_due_soon_goes_along() -> None:
    site = Site(30.0)
    for seq in range(5):
        site.lease(seq)
        await asyncio.sleep(0.4)
    await asyncio.sleep(10)
    assert {at for at, _ in site.extended} == {site.extended[0][0]}
    assert [seq for _, seq in site.extended] == [0, 1, 2, 3, 4]
    site.keeper.stop()


async def test_after_the_connection_it_is_not_extended_until_it_is_adopted() -> None:
    site = Site(30.0)
    lease = site.lease(1)
    await asyncio.sleep(5)
    lease.current = False
    await asyncio.sleep(20)
    assert site.extended == []
    lease.adopt(2, site.loop.time())
    site.keeper.watch(lease)
    await asyncio.sleep(11)
    assert [round(at) for at, _ in site.extended] == [35]
    await asyncio.sleep(100)
    assert site.lost == []
    site.keeper.let_go(lease)
    await asyncio.sleep(100)
    assert len(site.extended) == 11


async def test_what_nobody_holds_is_let_go() -> None:
    class Held:
        pass

    site = Site(30.0)
    lease = site.lease(1)
    held: Any = Held()
    lease.delivery = weakref.ref(held)
    await asyncio.sleep(11)
    assert len(site.extended) == 1
    del held
    await asyncio.sleep(100)
    assert site.abandoned == [1]
    assert len(site.extended) == 1
    assert site.lost == []


@pytest.mark.parametrize("count", [1, 1000])
async def test_an_idle_keeper_has_no_timer(count: int) -> None:
    site = Site(30.0)
    leases = [site.lease(seq) for seq in range(count)]
    for lease in leases:
        site.keeper.let_go(lease)
    assert site.keeper._timer is None
