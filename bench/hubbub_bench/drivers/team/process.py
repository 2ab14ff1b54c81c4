"""A process of a team: does its part and tells what came of it, over a pipe."""

from __future__ import annotations

import asyncio
import gc
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from hubbub_bench.drivers.connection import DriverError
from hubbub_bench.drivers.load import Verdict
from hubbub_bench.histogram import Latencies
from hubbub_bench.loops import event_loop
from hubbub_bench.measurement import Conversation
from hubbub_bench.peers import Address
from hubbub_bench.scenario import Team

from .roster import Part
from .squad import Squad
from .tally import Sample

PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Times:
    """When to do what, in ns of the monotonic clock, which all processes of a machine share."""

    start: int
    record_from: int
    record_to: int


@dataclass(frozen=True)
class Progress:
    """How far a process is."""

    published: int
    acked: int
    delivered: int


@dataclass(frozen=True)
class Outcome:
    """What a process's part came to."""

    verdict: Verdict
    conversations: list[Conversation]
    counts: dict[str, int]
    hung_up: dict[int, int]
    timeline: list[Sample]
    window: tuple[Sample, Sample]
    latencies: Latencies
    ack_latencies: Latencies
    lateness: Latencies


Message = str | Progress | Outcome
"""`ready`, how far it is, what came of it; or why it failed, as text that begins with `failed: `."""
READY = "ready"
FAILED = "failed: "


def main(team: Team, part: Part, label: str, address: Address, pipe: Connection) -> None:
    """Do a part. Ends by itself when whoever started it goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    try:
        with asyncio.Runner(loop_factory=event_loop()[1]) as loop:
            pipe.send(loop.run(_work(Squad(team, part, label, address), pipe)))
    except DriverError as error:
        pipe.send(f"{FAILED}{error}")
    except TimeoutError:
        pipe.send(f"{FAILED}the broker took too long to answer")
    except (EOFError, BrokenPipeError):
        return


async def _work(squad: Squad, pipe: Connection) -> Outcome:
    try:
        await squad.gather()
        pipe.send(READY)
        times: Times = await asyncio.to_thread(pipe.recv)
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of this process would be measured as one of the broker
        teller = asyncio.get_running_loop().create_task(_tell(squad, pipe))
        try:
            await squad.run(times.start, times.record_from, times.record_to)
        finally:
            teller.cancel()
        return _outcome(squad)
    finally:
        await squad.close()


async def _tell(squad: Squad, pipe: Connection) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        tally = squad.tally
        pipe.send(Progress(tally.published, tally.acked, tally.delivered))


def _outcome(squad: Squad) -> Outcome:
    tally = squad.tally
    assert tally.window is not None
    conversations = squad.conversations()
    counts: dict[str, Any] = {
        "published": tally.published,
        "acked": tally.acked,
        "delivered": tally.delivered,
        "redelivered": tally.redelivered,
        "missed": sum(one.missed for one in conversations),
        "left": tally.left,
    }
    return Outcome(
        verdict=squad.verdict(),
        conversations=conversations,
        counts=counts,
        hung_up=dict(tally.hung_up),
        timeline=tally.timeline,
        window=tally.window,
        latencies=Latencies(tally.latencies),
        ack_latencies=Latencies(tally.ack_latencies),
        lateness=Latencies(tally.lateness),
    )
