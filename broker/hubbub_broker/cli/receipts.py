"""`hubbub receipts`: what became of a message."""

import json
from typing import Annotated

import typer

from .exit_code import Failure, ends_well
from .http import get
from .options import DEFAULT_URL, AsJson, Timeout, Token, Url
from .output import emit, printable, table
from .when import when


@ends_well
def receipts(
    id: Annotated[str, typer.Argument(help="The message's id.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """Tell what became of a message that was published with `track`: with each consumer, the newest that is known.

    delivered (a member has it), working (and says so), done, dead, expired. Exit code 1 if nothing is known of it.

    Examples:
      hubbub receipts 018f-1
      hubbub receipts 018f-1 --json | jq -r .state
    """
    found = get(url, f"/v1/receipts/{id}", {}, timeout, token)["receipts"]
    if as_json:
        for item in found:
            emit(json.dumps(item))
    elif found:
        table(
            ("topic", "seq", "from", "consumer", "state", "by", "when", "reason"),
            [
                (
                    item["topic"],
                    str(item["seq"] or "-"),
                    item["publisher"],
                    item["consumer"] or "-",
                    item["state"],
                    item["by"] or "-",
                    when(item["ts"] or 0.0),
                    printable(item["reason"] or ""),
                )
                for item in found
            ],
        )
    if not found:
        raise Failure(f"nothing is known of {id}: it was not tracked, has reached no consumer yet, or is too long ago")
