"""What commands that talk to a broker through the SDK have in common."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from .exit_code import ExitCode, Failure
from .http import base_of, unreachable
from .options import default_agent

if TYPE_CHECKING:
    from hubbub import Agent


@asynccontextmanager
async def connected(url: str, agent: str | None, token: str | None, timeout: float) -> AsyncIterator[Agent]:
    """An agent that the broker has welcomed. What it has not delivered at the end of the block is given up.

    Raises:
        Failure: if the name or the address is none; if the broker does not answer within `timeout` seconds, or
            refuses; and for whatever the SDK raises inside the block.
    """
    from hubbub import Agent, HubbubError, InvalidName, Undelivered

    logging.getLogger("hubbub").setLevel(logging.ERROR)  # its warnings are told here, in the command's own words
    base_of(url)
    try:
        speaker = Agent(agent or default_agent(), url=url, token=token)
        await speaker.open()
        try:
            await _reach(speaker, url, timeout)
            yield speaker
        finally:
            with suppress(Undelivered):
                await speaker.close(drain=0.0)
    except InvalidName as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    except HubbubError as error:
        raise Failure(str(error)) from None


async def _reach(agent: Agent, url: str, timeout: float) -> None:
    try:
        await agent.wait_for("online", timeout=timeout)
    except TimeoutError:
        raise unreachable(url, f"no answer within {timeout:g} s") from None
