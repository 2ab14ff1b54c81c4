"""The control plane, put together: its parts, and the one agent on which they all work."""

import asyncio
import logging
import random
from collections.abc import Iterable, Iterator, Sequence

from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from hubbub import Backoff, HubbubError
from hubbub.options import Token
from hubbub.transport import Transport
from hubbub_protocol.names import CONTROL_AGENT

from .client import Client
from .part import Part
from .status import Status

logger = logging.getLogger("hubbub.control")

RESTART = Backoff(base=1.0, cap=30.0)
"""The waits before the parts begin anew when one of them has failed."""

SETTLED_SECONDS = 60.0
"""A run that lasted so long counts as good: the next waits are short again."""


class ControlPlane(Collector):
    """Runs the parts for as long as it lives, whatever becomes of the broker or of them.

    The broker that it serves, or another: it is a client, and knows nothing but an address and a token. Nothing that
    happens in here is raised to whoever started it. Its figures are a collector for the metrics.
    """

    def __init__(self, parts: Sequence[Part] = (), *, agent: str = CONTROL_AGENT) -> None:
        """`agent` is the name under which it connects: its token's, where that names somebody."""
        self.status = Status(self)
        self.parts: tuple[Part, ...] = (self.status, *parts)
        self.agent: Client | None = None
        """The agent of this run, while there is one."""
        self.restarts = 0
        self.failure: str | None = None
        """What ended the last run, if it has ended."""
        self._name = agent
        self._task: asyncio.Task[None] | None = None

    @property
    def online(self) -> bool:
        """Whether it is connected to the broker now."""
        return self.agent is not None and self.agent.state == "online"

    def routers(self) -> list[APIRouter]:
        """The routes of all parts."""
        return [part.routes() for part in self.parts]

    def start(self, url: str, token: Token = None, transport: Transport | None = None) -> None:
        """Begin, at the broker with that address. Waits for nothing, and raises nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._live(url, token, transport), name="hubbub-control")

    async def stop(self) -> None:
        """End it; what it said last is delivered if that is a matter of a moment. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _live(self, url: str, token: Token, transport: Transport | None) -> None:
        loop = asyncio.get_running_loop()
        source = random.Random()
        failures = 0
        while True:
            began = loop.time()
            failure = await self._fail(url, token, transport)
            failures = 1 if loop.time() - began >= SETTLED_SECONDS else failures + 1
            self.failure = _said(failure)
            self.restarts += 1
            delay = RESTART.delay(failures - 1, source)
            logger.error("! the control plane begins anew in %.1f s: %s", delay, self.failure, exc_info=failure)
            await asyncio.sleep(delay)

    async def _fail(self, url: str, token: Token, transport: Transport | None) -> Exception:
        """Run until something goes wrong; returns what."""
        try:
            await self._run(url, token, transport)
        except Exception as error:  # noqa: BLE001 - a part's failure, whichever, is to begin it anew
            return error
        return HubbubError("every part has ended")

    async def _run(self, url: str, token: Token, transport: Transport | None) -> None:
        """One life of the agent and of every part."""
        agent = Client(self._name, url, token, transport)
        self.agent = agent
        try:
            async with agent, asyncio.TaskGroup() as tasks:
                for part in self.parts:
                    tasks.create_task(part.run(agent), name=f"hubbub-control-{part.name}")
        finally:
            self.agent = None

    # Figures --------------------------------------------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The plane's own figures, then those of its parts."""
        yield GaugeMetricFamily(
            "hubbub_control_online", "1 while the control plane is connected to its broker.", float(self.online)
        )
        yield CounterMetricFamily(
            "hubbub_control_restarts", "Times that the parts of the control plane began anew.", self.restarts
        )
        for part in self.parts:
            yield from part.metrics()


def _said(error: BaseException) -> str:
    """An error in a few words; of a group, its first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
