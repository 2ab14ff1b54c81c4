"""`hubbub topics`: what conversations there are."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from .exit_code import ExitCode, Failure, ends_well
from .http import get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url
from .output import emit, table
from .when import when

PAGE = 1000


@ends_well
def topics(
    pattern: Annotated[str, typer.Argument(help="Which: `*` is one whole segment, a last `**` the rest.")] = "**",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Topics at most.")] = 1000,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """List the durable topics with their last seq, first seq, size and the time of their last message.

    Examples:
      hubbub topics
      hubbub topics 'research/*' --json
      hubbub topics | wc -l
    """
    from hubbub_protocol.errors import BadName
    from hubbub_protocol.names import check_pattern

    try:
        check_pattern(pattern)
    except BadName as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    found = list(_find(url, pattern, limit, timeout, token))
    if as_json:
        for item in found:
            emit(json.dumps(item))
        return
    table(
        ("topic", "last", "first", "bytes", "last message"),
        [
            (item["topic"], str(item["head"]), str(item["first"]), str(item["bytes"]), when(item["ts"]))
            for item in found
        ],
    )


def _find(url: str, pattern: str, limit: int, timeout: float, token: str | None) -> Iterator[dict[str, Any]]:
    after: str | None = ""
    while after is not None and limit > 0:
        query = {"pattern": pattern, "after": after, "limit": min(PAGE, limit)}
        page = get(url, "/v1/topics", query, timeout, token)
        yield from page["topics"]
        limit -= len(page["topics"])
        after = page["next"]
