"""Where a run keeps its files: the broker's data, and the logs and results of its processes."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubbub_broker.cli.exit_code import ExitCode, Failure


@contextmanager
def run_directory(wanted: Path | None, *, keep: bool) -> Iterator[Path]:
    """A fresh directory: `wanted`, which must be empty or not there yet, or a temporary one.

    It is removed at the end, with all that is in it, unless `keep`.

    Raises:
        Failure: if it is not empty, or can't be made.
    """
    directory = _made(wanted)
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _made(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="hubbub-demo-"))
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        if any(wanted.iterdir()):
            raise Failure(
                f"--data-dir {wanted} is not empty, and what is in it would be lost: name a new one", ExitCode.USAGE
            )
    except OSError as error:
        raise Failure(f"--data-dir {wanted}: {error.strerror or error}", ExitCode.USAGE) from None
    return wanted
