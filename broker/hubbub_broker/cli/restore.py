"""`hubbub restore`: a backup becomes a data directory again."""

from pathlib import Path
from typing import Annotated

import typer

from .exit_code import ends_well
from .log import failing
from .output import emit


@ends_well
def restore(
    file: Annotated[Path, typer.Argument(help="What `hubbub backup` made.")],
    directory: Annotated[Path, typer.Argument(help="The data directory to make: empty, or not there yet.")],
) -> None:
    """Unpack a backup into a data directory, checking every record. A broker opens it like any other.

    What was damaged when the backup was made is named. A broker that opens the directory tells its readers of the gap.

    Examples:
      hubbub restore hubbub-2026-01-31.tar.gz ./restored
      hubbub serve --data-dir ./restored
    """
    from hubbub_broker.log.backup import restore as unpack

    with failing(file):
        restored = unpack(file, directory)
    emit(f"{directory}: {restored.records} records")
    for each in restored.damage:
        typer.echo(f"hubbub: {each}; so it was when the backup was made", err=True)
