"""Opening: how long a broker takes from being started to being ready, and the memory that it holds then, by what it
finds in its directory.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hubbub_bench.measurement import Reading, Run
from hubbub_bench.peers import BrokerProcess
from hubbub_bench.scenario import Opening
from hubbub_bench.usage import Meter

from .filling import fill

_MIB = 1024**2

Start = Callable[[Path], BrokerProcess]
"""A broker on that directory, not started yet."""


async def runs(scenario: Opening, start: Start, directory: Path) -> AsyncIterator[Run]:
    """One run: a start on nothing, one after a clean stop, one after SIGKILL.

    Raises:
        DriverError: if the history could not be written.
        PeerError: if the broker does not start.
    """
    full = directory / "full"
    broker = start(full)
    with broker:
        await fill(
            broker.address,
            scenario.name,
            messages=scenario.messages,
            payload=scenario.payload,
            topics=scenario.topics,
            groups=scenario.groups,
        )
    size = sum(path.stat().st_size for path in full.rglob("*") if path.is_file())
    for number in range(scenario.runs):
        with start(directory / f"empty-{number}") as empty:
            pass
        with start(full) as clean:
            clean_memory = _memory(clean)
            clean.kill()
        with start(full) as killed:
            killed_memory = _memory(killed)
        yield Run(
            [
                Reading("after a clean stop", clean.start_seconds, "s"),
                Reading("after SIGKILL", killed.start_seconds, "s"),
                Reading("on an empty directory", empty.start_seconds, "s"),
                Reading("memory after a clean stop", clean_memory, "MiB"),
                Reading("memory after SIGKILL", killed_memory, "MiB", shown=False),
                Reading("directory", size / _MIB, "MiB", shown=False),
            ]
        )


def _memory(broker: BrokerProcess) -> float:
    """What the broker holds now that it is ready, in MiB."""
    return (Meter(broker.pid).read().broker_rss or 0) / _MIB
