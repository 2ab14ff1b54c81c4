"""The part that counts what becomes of shared breakers: the messages on `GROUP/_breakers`, as figures for operators."""

import asyncio
import logging
from collections.abc import Iterable

from fastapi import APIRouter
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from hubbub import HubbubError, Message, MessageDecodeError
from hubbub_protocol.errors import BadName
from hubbub_protocol.names import BREAKERS, check_agent, group_of

from .client import Client

logger = logging.getLogger("hubbub.control")

BREAKERS_MAX = 500
"""Breakers with figures of their own. What others do is counted together."""

OTHERS = ("(others)", "(others)")

AGAIN_SECONDS = 30.0
"""When to ask again for what was refused."""

_STATES = {"closed": 0, "half_open": 1, "open": 2}


class Breakers:
    """A `Part`. It hears what is told while it runs; what was before, the log has."""

    name = "breakers"

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], int] = {}
        self._transitions: dict[tuple[str, str, str], int] = {}

    async def run(self, agent: Client) -> None:
        """Count, until cancelled."""
        while True:
            try:
                async for message in agent.subscribe(f"*/{BREAKERS}"):
                    self._count(message)
            except HubbubError as error:
                logger.warning("! the transitions of breakers can't be read: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    def routes(self) -> APIRouter:
        """None."""
        return APIRouter()

    def metrics(self) -> Iterable[Metric]:
        """Where breakers stand, and how often they went there."""
        states = GaugeMetricFamily(
            "hubbub_control_breaker_state",
            "Where a shared breaker went last: 0 closed, 1 half open, 2 open.",
            labels=("group", "breaker"),
        )
        for labels, state in sorted(self._states.items()):
            states.add_metric(labels, state)
        yield states
        transitions = CounterMetricFamily(
            "hubbub_control_breaker_transitions", "Transitions of shared breakers.", labels=("group", "breaker", "to")
        )
        for to, count in sorted(self._transitions.items()):
            transitions.add_metric(to, count)
        yield transitions

    def _count(self, message: Message) -> None:
        try:
            which, state = (group_of(message.topic), check_agent(message.data["breaker"])), message.data["after"]
            number = _STATES[state]
        except (BadName, MessageDecodeError, TypeError, KeyError, ValueError):
            return  # somebody else's message, or what is no breaker's name
        if which in self._states or len(self._states) < BREAKERS_MAX:
            self._states[which] = number
        else:
            which = OTHERS
        self._transitions[*which, state] = self._transitions.get((*which, state), 0) + 1
