"""Room for a thousand sockets: systems allow few open files to a process unless it asks."""

from hubbub_broker.cli.exit_code import Failure
from hubbub_broker.config import Settings
from hubbub_broker.log import LogSettings
from hubbub_broker.open_files import files_for, raise_limit, room_for


def allow_open_files(connections: int) -> None:
    """Raise this process' limit of open files, which those that it starts inherit.

    Raises:
        Failure: if the system does not allow as many as a broker with so many connections needs.
    """
    raise_limit()
    log_files = Settings().shards * LogSettings().open_files
    room = room_for(connections, log_files)
    if not room.fits:
        raise Failure(
            f"{connections:,} agents need {files_for(connections, log_files):,} open files in one process, and this "
            f"system allows {room.files:,}: raise its hard limit (ulimit -Hn), or take fewer --agents"
        )
