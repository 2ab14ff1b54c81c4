"""The whole history again, read over HTTP by someone who took no part."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from hubbub_broker.cli.http import get

from .audit import REPLAY
from .witness import Statement

PAGE = 1000
TIMEOUT_SECONDS = 30.0


def replay(url: str, topic: str) -> Statement:
    """Every message of a topic, from the first.

    Raises:
        Failure: if the broker does not answer.
    """
    statement: Statement = {"agent": REPLAY, "topic": topic, "seqs": [], "ids": []}
    after, head = 0, -1
    while after != head:
        query = {"after": after, "limit": PAGE}
        page: dict[str, Any] = get(url, f"/v1/topics/{topic}/messages", query, TIMEOUT_SECONDS)
        for message in page["messages"]:
            statement["seqs"].append(message["seq"])
            statement["ids"].append(message["id"])
        if page["next"] <= after and page["next"] != page["head"]:
            break  # a page that leads nowhere: what is missing shows in the count
        after, head = page["next"], page["head"]
    return statement


async def replay_all(url: str, topics: Iterable[str]) -> Sequence[Statement]:
    """`replay` of each topic, a few at a time."""
    return await asyncio.gather(*(asyncio.to_thread(replay, url, topic) for topic in topics))
