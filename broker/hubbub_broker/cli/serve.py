"""`hubbub serve`: run a broker."""

from pathlib import Path
from typing import Annotated

import typer

from .exit_code import ExitCode, Failure, ends_well
from .options import ConfigFile, Sets
from .settings import load_settings


@ends_well
def serve(
    config: ConfigFile = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the log is kept; made when missing.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP and WebSocket; 0 is any free one.")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Listen beyond loopback although nobody shows a token.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that share the work; 1 is no supervisor.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or text.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    sets: Sets = None,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C; then stop in order, losing nothing.

    Settings come from these options, from HUBBUB_* variables, and from a TOML file, the first of them that has a
    value winning. `hubbub config` shows what is in force, `hubbub config --reference` explains every setting.

    Examples:
      hubbub serve
      hubbub serve --data-dir /var/lib/hubbub --port 9000
      hubbub serve --workers 4
      hubbub serve --config hubbub.toml --set max_frame=2MiB
      HUBBUB_LOG_FORMAT=json hubbub serve
    """
    loaded = load_settings(
        config,
        sets,
        data_dir=data_dir,
        host=host,
        port=port,
        insecure=insecure,
        workers=workers,
        log_format=log_format,
        log_level=log_level,
    )
    settings = loaded.settings

    from hubbub_broker.logs import configure, get_logger

    configure(settings.log_format, settings.log_level)
    get_logger(__name__).info("settings", **{name: _value(settings, name) for name in sorted(loaded.sources)})

    from hubbub_broker.access import BadKey
    from hubbub_broker.log import LogError
    from hubbub_broker.server import run
    from hubbub_broker.tls import BadCertificate
    from hubbub_broker.workers.supervisor import GaveUp, supervise

    try:
        (run if settings.workers == 1 else supervise)(settings)
    except (GaveUp, LogError) as error:
        raise Failure(str(error)) from None
    except (BadKey, BadCertificate) as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    except ImportError as error:
        if settings.uvloop != "on":
            raise
        message = f"uvloop = on, but it can't be imported ({error}); install it, or set uvloop = auto"
        raise Failure(message, ExitCode.USAGE) from None
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise Failure(f"can't listen on {where}, or use {settings.data_dir}: {error.strerror or error}") from None


def _value(settings: object, name: str) -> object:
    value = getattr(settings, name)
    return len(value) if name == "policy" else value if isinstance(value, int | float) else str(value)
