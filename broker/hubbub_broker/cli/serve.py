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
    role: Annotated[
        str | None, typer.Option(help="all, data (no control plane) or control (nothing else, for --broker).")
    ] = None,
    broker: Annotated[str | None, typer.Option(help="With --role control: the broker's address.")] = None,
    token: Annotated[
        str | None, typer.Option(envvar="HUBBUB_TOKEN", help="With --role control: an operator's token.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or text.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    sets: Sets = None,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C; then stop in order, losing nothing.

    The control plane runs in it, as a client that it does not depend on; --role runs the two apart.

    Settings come from these options, from HUBBUB_* variables, and from a TOML file, the first of them that has a
    value winning. `hubbub config` shows what is in force, `hubbub config --reference` explains every setting.

    Examples:
      hubbub serve
      hubbub serve --data-dir /var/lib/hubbub --port 9000
      hubbub serve --workers 4
      hubbub serve --config hubbub.toml --set max_frame=2MiB
      HUBBUB_LOG_FORMAT=json hubbub serve
      hubbub serve --role control --broker ws://broker:8091 --port 8092
    """
    loaded = load_settings(
        config,
        sets,
        data_dir=data_dir,
        host=host,
        port=port,
        insecure=insecure,
        workers=workers,
        role=role,
        broker_url=broker,
        broker_token=token if role == "control" else None,
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

    from .planes import Inside, run_control

    try:
        if settings.role == "control":
            run_control(settings)
        elif settings.workers > 1:
            supervise(settings)
        else:
            run(settings, companion=None if settings.role == "data" else Inside(settings))
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
