"""Two workers' ends of a link: answers, refusals, order, and an end that leaves nobody waiting."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from harness.until import until
from hubbub_broker.config import Settings
from hubbub_broker.peers import Peers, Reply
from hubbub_broker.peers import link as link_module
from hubbub_broker.refusal import Refusal
from hubbub_broker.topology import Topology
from hubbub_protocol.errors import ErrorCode


def peers_of(number: int, **settings: Any) -> Peers:
    topology = Topology(number, 2, 16, (1, 2))
    return Peers(topology, Settings(**settings), asyncio.get_running_loop())


@asynccontextmanager
async def joined(**settings: Any) -> AsyncIterator[tuple[Peers, Peers]]:
    one, other = peers_of(0, **settings), peers_of(1, **settings)
    await join(one, other)
    try:
        yield one, other
    finally:
        await one.close()
        await other.close()


async def join(one: Peers, other: Peers) -> None:
    ends = socket.socketpair()
    await one.attach(1, ends[0])
    await other.attach(0, ends[1])
    await one.reach(1)
    await other.reach(0)


def echo(arguments: list[Any], reply: Reply) -> None:
    reply(arguments)


def never(_arguments: list[Any], _reply: Reply) -> None:
    """Answers nothing."""


async def test_both_sides_ask_and_answer_whatever_its_size() -> None:
    async with joined() as (one, other):
        one.handlers["echo"] = other.handlers["echo"] = echo
        for size in (0, 1, 1000, 5_000_000):
            assert await one.ask(1, "echo", b"x" * size, {"a": [1, None, 0.5]}) == [b"x" * size, {"a": [1, None, 0.5]}]
            assert await other.ask(0, "echo", size) == [size]


async def test_what_is_asked_is_done_in_that_order_notes_too() -> None:
    async with joined() as (one, other):
        seen: list[int] = []

        def see(arguments: list[Any], reply: Reply) -> None:
            seen.append(arguments[0])
            reply(None)

        other.handlers["see"] = see
        answers: list[int] = []
        for n in range(1000):
            if n % 3:
                one.call(1, "see", [n], lambda _, n=n: answers.append(n))  # type: ignore[misc]
            else:
                one.tell(1, "see", n)
        await one.ask(1, "see", 1000)
        assert seen == list(range(1001))
        assert answers == [n for n in range(1000) if n % 3]


async def test_refusals_come_as_refusals_and_a_bug_as_one_too() -> None:
    async with joined() as (one, other):

        def refuse(_arguments: list[Any], _reply: Reply) -> None:
            raise Refusal(ErrorCode.NOT_FOUND, "there is none", 3.0)

        async def later(value: int) -> int:
            if value < 0:
                raise Refusal(ErrorCode.CONFLICT, "negative")
            return value * 2

        other.handlers["refuse"] = refuse
        other.handlers["bug"] = lambda arguments, reply: reply(arguments[7])
        other.serve("later", later)
        with pytest.raises(Refusal, match="there is none") as caught:
            await one.ask(1, "refuse")
        assert (caught.value.code, caught.value.retry_after) == (ErrorCode.NOT_FOUND, 3.0)
        for what in ("bug", "nothing of that name"):
            with pytest.raises(Refusal) as caught:
                await one.ask(1, what)
            assert caught.value.code == ErrorCode.INTERNAL
        assert await one.ask(1, "later", 21) == 42
        with pytest.raises(Refusal, match="negative"):
            await one.ask(1, "later", -1)


async def test_a_call_without_an_answer_is_refused_in_time_unless_it_is_patient() -> None:
    async with joined(link_timeout=0.3) as (one, other):
        other.handlers["never"] = never
        patient = asyncio.create_task(one.ask(1, "never", patient=True))
        async with asyncio.timeout(5):
            with pytest.raises(Refusal, match=r"has not answered within 0\.3 s") as caught:
                await one.ask(1, "never")
        assert caught.value.code == ErrorCode.OVERLOADED
        assert caught.value.retry_after is not None
        assert not patient.done()
        await other.close()
        with pytest.raises(Refusal, match="worker 1 is away"):
            await patient


async def test_a_lost_link_leaves_nobody_waiting_and_the_next_one_serves() -> None:
    async with joined(link_timeout=5) as (one, other):
        other.handlers["never"] = never
        lost: list[int] = []
        one.on_lost.append(lost.append)
        waiting = [asyncio.create_task(one.ask(1, "never")) for _ in range(10)]
        await asyncio.sleep(0)
        other.links[0].close()
        for each in waiting:
            with pytest.raises(Refusal, match="is away"):
                await each
        assert lost == [1]
        refused: list[Any] = []
        one.call(1, "never", [], refused.append)
        assert isinstance(refused[0], Refusal)
        assert not one.tell(1, "never")
        other.handlers["echo"] = echo
        asking = asyncio.create_task(one.ask(1, "echo", 1))  # it waits for the worker to be back
        await asyncio.sleep(0)
        await join(one, other)
        assert await asking == [1]


async def test_a_worker_that_hangs_is_as_good_as_away() -> None:
    one = peers_of(0, link_timeout=0.3)
    reports: list[int] = []
    one._report = reports.append
    ends = socket.socketpair()
    with ends[1]:
        await one.attach(1, ends[0])  # nobody is there to greet
        assert not one.is_here(1)
        async with asyncio.timeout(10):
            with pytest.raises(Refusal, match="is away"):
                await one.ask(1, "echo")
            await until(lambda: reports)
    assert reports == [1]  # the supervisor makes a new one
    await one.close()
    async with joined(link_timeout=0.3) as (one, other):
        gone: list[int] = []
        one.on_lost.append(gone.append)
        other.links[0]._transport.pause_reading()  # type: ignore[union-attr]
        await until(lambda: gone)
        assert not one.is_here(1)


async def test_who_waits_for_a_worker_that_stays_away_is_refused() -> None:
    one = peers_of(0, link_timeout=0.05)
    async with asyncio.timeout(5):
        with pytest.raises(Refusal, match="worker 1 is away"):
            await one.ask(1, "echo")


async def test_calls_are_bounded_in_number_and_in_what_is_unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined(link_calls=5) as (one, other):
        other.handlers["never"] = never
        answers: list[Any] = []
        for _ in range(7):
            one.call(1, "never", [], answers.append)
        assert [refusal.code for refusal in answers] == [ErrorCode.OVERLOADED] * 2
        assert "link_calls" in answers[0].message
    async with joined() as (one, other):
        monkeypatch.setattr(link_module, "UNSENT_MAX", 1 << 20)
        other.links[0]._transport.pause_reading()  # type: ignore[union-attr]
        answers.clear()
        for _ in range(50):
            one.call(1, "never", [b"x" * (1 << 20)], answers.append)
            await asyncio.sleep(0)
        assert any(isinstance(refusal, Refusal) and "takes nothing" in refusal.message for refusal in answers)
