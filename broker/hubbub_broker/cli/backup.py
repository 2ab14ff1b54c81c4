"""`hubbub backup`: a consistent copy of a data directory, also of a live one."""

from pathlib import Path
from typing import Annotated

import typer

from .exit_code import ExitCode, Failure, ends_well
from .log import failing
from .output import emit


@ends_well
def backup(
    directory: Annotated[Path, typer.Argument(help="The data directory; a broker may have it open.")],
    file: Annotated[Path, typer.Argument(help="The archive to make: .tar; .tar.gz or .tar.zst to compress it.")],
) -> None:
    """Copy a data directory into one file, while the broker goes on.

    The copy is consistent: of every shard, all that was stored up to a moment during the backup. It is written under
    another name first, so that a file of this name is always a whole backup. `hubbub restore` opens it.

    Every checksum is checked on the way. What is damaged is copied as it is, and named; the exit code is then 4.

    Examples:
      hubbub backup ./hubbub-data hubbub-2026-01-31.tar.gz
    """
    from hubbub_broker.log.backup import backup as copy

    with failing(directory):
        copied = copy(directory, file)
    emit(f"{file}: {copied.size} bytes")
    if copied.damage:
        told = "\n".join(map(str, copied.damage))
        raise Failure(f"{told}\nthe backup is made, with this damage in it; check the disk", ExitCode.DAMAGED)
