"""Options that several commands have, written once."""

import getpass
import re
from pathlib import Path
from typing import Annotated

import typer

from hubbub_protocol import DEFAULT_HOST, DEFAULT_PORT

DEFAULT_URL = f"ws://{DEFAULT_HOST}:{DEFAULT_PORT}"

Url = Annotated[str, typer.Option("--url", "-u", envvar="HUBBUB_URL", help="The broker's address.")]
AgentName = Annotated[
    str | None,
    typer.Option("--agent", "-a", envvar="HUBBUB_AGENT", help="Who you are; your user name if not given."),
]
Token = Annotated[str | None, typer.Option("--token", envvar="HUBBUB_TOKEN", help="Your token, if the broker asks.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the broker.")]
AsJson = Annotated[bool, typer.Option("--json", "-j", help="One JSON object a line.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="HUBBUB_CONFIG", help="A TOML file with settings.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="Any setting, by its name in the file; may be repeated."),
]


def default_agent() -> str:
    """The user's own name, in the grammar of agents' names."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        name = ""
    return re.sub(r"[^A-Za-z0-9._~:=+-]", "-", name)[:64] or "cli"
