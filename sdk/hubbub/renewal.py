"""A fresh token on a connection that is open: asked for before the old one ends, shown in a `hello`.

|---- sleep: 80 % of what is left, or until a minute before ----|-- ask, show --|  expires
                                                                                |
                                where that brought nothing new: the connection ends (4005), and the next one
                                begins with whatever token there is then
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from hubbub_protocol.frames import Err, Ok, Welcome

logger = logging.getLogger("hubbub")

LEAD_SECONDS_MAX = 60.0
"""How long before the end a new token is asked for: enough for a slow issuer and a few attempts."""
LEAD_SHARE = 0.2
"""The part of what is left that this is at most: a token of ten seconds is renewed after eight."""
GIVE_UP_SECONDS = 0.5
"""With less than this left nothing is asked any more: the reconnection does it."""

Token = Callable[[], Awaitable[str | None]]


class Renewable(Protocol):
    """What renewing needs of a connection."""

    welcome: Welcome

    def broker_time(self) -> float:
        """The broker's clock, in seconds since the epoch."""

    def greet(self, token: str, answer: Callable[[Welcome | Ok | Err], None]) -> None:
        """Say hello again, with this token. `answer` gets what the broker says to it."""


async def keep_fresh(link: Renewable, token: Token, shown: str) -> None:
    """Renew the token of `link` as long as it lives; returns when the token has no end, or can't be renewed in time.

    Args:
        link: a connection that was opened with `shown`.
        token: gives the token to show next. Where it gives the same one, there is nothing to renew yet.
        shown: the token that the broker has.
    """
    while (expires := link.welcome.expires) is not None:
        left = expires - link.broker_time()
        if left < GIVE_UP_SECONDS:
            return
        await asyncio.sleep(left - min(LEAD_SECONDS_MAX, left * LEAD_SHARE))
        fresh = await _ask(token)
        if fresh and fresh != shown and await _show(link, fresh):
            shown = fresh


async def _ask(token: Token) -> str | None:
    try:
        return await token()
    except Exception:
        logger.exception("! the token callable failed: asked again before the token ends, and at the next connection")
        return None


async def _show(link: Renewable, token: str) -> bool:
    """Whether the broker took it."""
    answered: asyncio.Future[Welcome | Ok | Err] = asyncio.get_running_loop().create_future()

    def answer(frame: Welcome | Ok | Err) -> None:
        if not answered.done():
            answered.set_result(frame)

    link.greet(token, answer)
    found = await answered
    if isinstance(found, Err):
        logger.warning("! the fresh token is refused: %s", found.message)
        return False
    logger.debug("= the token was renewed")
    return True
