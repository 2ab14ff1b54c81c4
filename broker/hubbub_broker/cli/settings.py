"""Settings from the command line: the options that have a name of their own, and `--set` for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exit_code import ExitCode, Failure

if TYPE_CHECKING:
    from hubbub_broker.sources import Loaded


def load_settings(config: Path | None, sets: list[str] | None, **options: Any) -> Loaded:
    """The settings in force.

    Raises:
        Failure: with one line for each thing that is wrong.
    """
    from hubbub_broker.sources import ConfigError, load

    given: dict[str, Any] = {}
    given_by: dict[str, str] = {}
    for item in sets or ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise Failure(f"--set {item}: NAME=VALUE is wanted, such as --set max_frame=2MiB", ExitCode.USAGE)
        name = name.strip().replace("-", "_")
        given[name], given_by[name] = value.strip(), "--set"
    for name, value in options.items():
        if value is not None:
            given[name], given_by[name] = value, "--" + name.replace("_", "-")
    try:
        return load(config, given=given, given_by=given_by)
    except ConfigError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
