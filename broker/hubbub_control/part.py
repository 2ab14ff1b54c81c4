"""What one subject of the control plane is made of."""

from collections.abc import Iterable
from typing import Protocol

from fastapi import APIRouter
from prometheus_client import Metric

from .client import Client


class Part(Protocol):
    """A subject of the control plane: registry, commands, policies, ...

    Its routes are mounted once, and asked whether it is at work or not: what needs the broker then refuses. Its work
    begins anew, with a fresh agent, after each failure; so what it knows it reads from the log when it begins.
    """

    name: str

    def routes(self) -> APIRouter:
        """Its routes, under /v1/control. They use `ControlRoute`, so that refusals look alike."""
        ...

    async def run(self, agent: Client) -> None:
        """Work until cancelled. `agent` is open, and perhaps not connected yet.

        What it raises is logged, and begins the whole plane anew after a while.
        """
        ...

    def metrics(self) -> Iterable[Metric]:
        """Its figures now, named `hubbub_control_...`."""
        ...
