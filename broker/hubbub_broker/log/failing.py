"""Why a log takes nothing, and whether that may pass by itself."""

import errno
from pathlib import Path

from .files import Files

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


def may_pass(error: OSError) -> bool:
    """Whether a write that failed like this may succeed later: nothing is in doubt about what the disk holds."""
    return error.errno in NO_ROOM or error.errno in NO_DESCRIPTOR


def reason(error: OSError, path: Path, *, passing: bool) -> str:
    """What is told of a failed write."""
    if not passing:
        return f"writing {path} failed: {error}; check the disk, then start the broker again"
    if error.errno in NO_ROOM:
        return f"no room for {path}: {error}; make room on the disk"
    return f"{path} can't be opened: {error}; raise the limit of open files (ulimit -n), or lower max_connections"


def room(files: Files, directory: Path) -> int:
    """Bytes that there is room for; -1 when nothing can be written whatever the room: no file can be opened."""
    try:
        files.names(directory)  # takes a descriptor, as whatever writes next will
        return files.free_bytes(directory)
    except OSError:
        return -1
