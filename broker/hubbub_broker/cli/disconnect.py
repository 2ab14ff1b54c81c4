"""`hubbub disconnect`: end an agent's connections."""

from typing import Annotated

import typer

from .exit_code import Failure, ends_well
from .http import ask
from .options import DEFAULT_URL, Timeout, Token, Url
from .output import emit


@ends_well
def disconnect(
    agent: Annotated[str, typer.Argument(help="The agent's name.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout: Timeout = 10.0,
) -> None:
    """End all connections of an agent. Its client does not come back by itself; one that is started again is let in, as
    long as its token is good. For operators. Exit code 1 if the agent has no connection.

    Examples:
      hubbub disconnect joe
    """
    count = ask("DELETE", url, "/v1/sessions", {"agent": agent}, timeout, token)["connections"]
    if not count:
        raise Failure(f"{agent} has no connection")
    emit(f"{agent}: {count} connection{'s' * (count > 1)} ended")
