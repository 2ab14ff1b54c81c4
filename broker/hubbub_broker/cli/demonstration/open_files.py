"""Room for a thousand sockets: systems allow few open files to a process unless it asks."""

import resource

from hubbub_broker.cli.exit_code import Failure

RESERVE = 200
"""Files that a broker has open beside its connections: segments, indexes, listeners, HTTP."""


def allow_open_files(connections: int) -> None:
    """Raise this process' limit of open files, which those that it starts inherit.

    Raises:
        Failure: if the system does not allow so many.
    """
    wanted = connections + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failure(
            f"{connections:,} agents need {wanted:,} open files in one process, and this system allows {hard:,}: "
            f"raise its hard limit (ulimit -Hn), or take fewer --agents"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
