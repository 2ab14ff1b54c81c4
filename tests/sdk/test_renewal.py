"""Tokens that end: renewed on the open connection; and where that fails, asked for anew by the next one."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.broker import serving
from harness.tokens import token, write_key
from hubbub import Agent, Unauthorized
from hubbub.renewal import keep_fresh
from hubbub_protocol.frames import Err, Ok, Welcome


class Link:
    """A connection whose broker takes every token, or what `judge` says of it."""

    def __init__(self, lasts: float | None) -> None:
        self.shown: list[tuple[float, str]] = []
        self.lasts = lasts
        self.taken = True
        self.began = self.now()
        self.welcome = self._welcome()

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def broker_time(self) -> float:
        return 1e9 + self.now()

    def _welcome(self) -> Welcome:
        expires = None if self.lasts is None else self.broker_time() + self.lasts
        return Welcome(agent="joe", session="s", server="t", heartbeat=0, limits={}, expires=expires)

    def greet(self, token: str, answer: Callable[[Welcome | Ok | Err], None]) -> None:
        self.shown.append((round(self.now() - self.began, 3), token))
        if self.taken:
            self.welcome = self._welcome()
            asyncio.get_running_loop().call_soon(answer, self.welcome)
        else:
            asyncio.get_running_loop().call_soon(answer, Err(code="unauthorized", message="no"))


class Issuer:
    """Gives t1, t2, … or what it is told to."""

    def __init__(self, *answers: Any) -> None:
        self.asked = 0
        self.answers = list(answers)

    async def __call__(self) -> str | None:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else f"t{self.asked}"
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("lasts", "times"), [(86_400.0, [86_340.0, 172_680.0]), (10.0, [8.0, 16.0]), (300.0, [240.0, 480.0])]
)
async def test_a_token_is_renewed_before_it_ends_again_and_again(lasts: float, times: list[float]) -> None:
    link, issuer = Link(lasts), Issuer()
    task = asyncio.create_task(keep_fresh(link, issuer, "t0"))
    await asyncio.sleep(times[-1] + 1)
    task.cancel()
    assert link.shown == [(times[0], "t1"), (times[1], "t2")]


async def test_without_an_end_nothing_is_asked() -> None:
    link, issuer = Link(None), Issuer()
    await keep_fresh(link, issuer, "t0")
    assert (issuer.asked, link.shown) == (0, [])


async def test_the_same_token_is_not_shown_again_and_not_asked_for_ever() -> None:
    link, issuer = Link(100.0), Issuer(*["t0"] * 100)
    await keep_fresh(link, issuer, "t0")
    assert link.shown == []
    assert 2 <= issuer.asked <= 6
    assert link.now() - link.began < 100


async def test_an_issuer_that_fails_is_asked_again_while_there_is_time() -> None:
    link, issuer = Link(100.0), Issuer(OSError("no network"), None, "t1")
    task = asyncio.create_task(keep_fresh(link, issuer, "t0"))
    await asyncio.sleep(150)
    task.cancel()
    (first, *_) = link.shown
    assert first == (99.2, "t1")


async def test_a_refused_token_is_not_taken_for_the_one_in_force() -> None:
    link, issuer = Link(100.0), Issuer("t1", "t1", "t1", "t1", "t1", "t1")
    link.taken = False
    await keep_fresh(link, issuer, "t0")
    assert {shown for _, shown in link.shown} == {"t1"}
    assert len(link.shown) >= 2


# With a broker


@pytest.mark.real_time
async def test_an_agent_outlives_its_tokens_on_one_connection(tmp_path: Path) -> None:
    renewed = asyncio.Event()
    given: list[str] = []

    async def fetch() -> str:
        given.append(token("joe", lasts=5, groups=["g"], pub=["g/**"], subscribe=["g/**"]))
        if len(given) == 3:
            renewed.set()
        return given[-1]

    async with serving(tmp_path / "data", token_keys=write_key(tmp_path / "keys"), token_leeway=0) as server:
        async with Agent("joe", group="g", url=f"ws://127.0.0.1:{server.port}", token=fetch) as joe:
            incoming = joe.subscribe("g/c")
            await incoming.ready()
            async with asyncio.timeout(30):
                await renewed.wait()
            await joe.publish("g/c", "still here")
            assert (await anext(incoming)).data == "still here"
            assert joe.stats.connections == 1
            assert server.broker.metrics.connections_opened == 1


@pytest.mark.real_time
async def test_a_token_that_was_not_renewed_in_time_is_asked_for_at_the_next_connection(tmp_path: Path) -> None:
    given: list[float] = []
    first = token("joe", lasts=3, groups=["g"], pub=["g/**"])

    def fetch() -> str:
        given.append(time.monotonic())
        known = server.broker.metrics.connections_closed.get(4005, 0)
        return token("joe", groups=["g"], pub=["g/**"]) if known else first

    async with serving(tmp_path / "data", token_keys=write_key(tmp_path / "keys"), token_leeway=0) as server:
        async with Agent("joe", group="g", url=f"ws://127.0.0.1:{server.port}", token=fetch) as joe:
            await joe.wait_for("online")
            async with asyncio.timeout(30):
                await joe.wait_for("degraded")
                await joe.wait_for("online")
            assert (await joe.publish("g/c", 1)).seq == 1
            assert joe.stats.reconnects == 1


@pytest.mark.real_time
@pytest.mark.parametrize("given", [None, "not a good one"])
async def test_without_a_good_token_an_agent_is_told_and_does_not_try_again(tmp_path: Path, given: str | None) -> None:
    async with serving(tmp_path / "data", token_keys=write_key(tmp_path / "keys")) as server:
        async with Agent("joe", url=f"ws://127.0.0.1:{server.port}", token=given) as joe:
            with pytest.raises(Unauthorized, match="token"):
                await joe.wait_for("online", timeout=20)
        assert server.broker.metrics.connections_opened <= 1
