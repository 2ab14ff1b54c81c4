"""`python -m hubbub_bench`: what the project measures of itself. Users have `hubbub bench`."""

import signal

import typer

from .growth.command import growth
from .profiling.command import profile
from .rivals.command import peers

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(peers)
app.command()(growth)
app.command()(profile)


@app.callback()
def _root() -> None:
    """Hubbub beside its peers, as it grows, and from the inside."""


def main() -> None:
    """Run the command. SIGTERM ends it as Ctrl-C does: servers are stopped and their directories removed."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app()


if __name__ == "__main__":
    main()
