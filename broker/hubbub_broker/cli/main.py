"""The command `hubbub`: its commands, in the order in which one meets them."""

from typing import Annotated

import typer

from hubbub_protocol import __version__

from .agents import agents
from .backup import backup
from .bench import bench
from .blob import blob_get, blob_put
from .command import command, commands
from .config import config
from .consumers import (
    consumers_list,
    consumers_pause,
    consumers_remove,
    consumers_reset,
    consumers_resume,
    consumers_show,
)
from .demo import demo
from .disconnect import disconnect
from .dlq import dlq_drop, dlq_list, dlq_redrive, dlq_show
from .inbox import inbox
from .log import log_dump, log_stat, log_verify
from .policy import policy_drop, policy_history, policy_list, policy_set, policy_show, policy_test
from .pub import pub
from .receipts import receipts
from .registry import Command, keep_lines, register
from .restore import restore
from .schema import schema_check, schema_drop, schema_history, schema_list, schema_set, schema_show
from .send import send
from .serve import serve
from .tail import tail
from .token import token_create, token_inspect, token_key
from .top import top
from .topics import topics
from .workflow import (
    workflow_cancel,
    workflow_diagram,
    workflow_list,
    workflow_pause,
    workflow_resume,
    workflow_retry,
    workflow_run,
    workflow_show,
    workflow_start,
    workflow_watch,
)

COMMANDS: dict[str, tuple[Command, ...]] = {
    "A broker": (serve, config, demo, bench),
    "Messages": (pub, tail, topics, receipts, blob_put, blob_get),
    "Mail": (send, inbox, agents, disconnect),
    "Commands": (command, commands),
    "Consumers": (
        top,
        consumers_list,
        consumers_show,
        consumers_reset,
        consumers_pause,
        consumers_resume,
        consumers_remove,
        dlq_list,
        dlq_show,
        dlq_redrive,
        dlq_drop,
    ),
    "Workflows": (
        workflow_run,
        workflow_start,
        workflow_list,
        workflow_show,
        workflow_watch,
        workflow_retry,
        workflow_pause,
        workflow_resume,
        workflow_cancel,
        workflow_diagram,
    ),
    "Policies": (
        policy_list,
        policy_show,
        policy_set,
        policy_drop,
        policy_test,
        policy_history,
        schema_list,
        schema_show,
        schema_set,
        schema_drop,
        schema_check,
        schema_history,
    ),
    "Access": (token_key, token_create, token_inspect),
    "Data": (log_verify, log_stat, log_dump, backup, restore),
}
"""By heading of `hubbub --help`. The function `log_verify` is the command `hubbub log verify`."""

GROUPS = {
    "blob": "Put large bodies beside the messages that refer to them, and fetch them.",
    "consumers": "See where consumers stand; reset, pause or remove them.",
    "dlq": "See dead letters; redrive or drop them.",
    "log": "Look into a data directory that no broker has open.",
    "workflow": "Run workflows, see where their instances stand, and order what becomes of them.",
    "policy": "See and change what holds for which topics.",
    "schema": "See and change the JSON Schemas of message types; check data against them.",
    "token": "Make keys and tokens, and look into them.",
}

_HELP = """Realtime messages for teams of AI agents: a durable, replayable log for each conversation.

A broker, someone who listens, and someone who speaks:
  hubbub serve
  hubbub tail 'research/**' --from all
  hubbub pub research/conv-42 '{"text": "hello"}'

Mail, for agents that have no socket:
  hubbub send jack 'Handle blog publishing' --subject Task --create
  hubbub inbox jack --mark

`hubbub COMMAND --help` has examples of each.
"""

_EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or setting, 3 no broker reached, 130 interrupted."

app = typer.Typer(
    name="hubbub",
    help=keep_lines(_HELP),
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
register(app, COMMANDS, GROUPS)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hubbub {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line of this process, and exit."""
    app(prog_name="hubbub")
