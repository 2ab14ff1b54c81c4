"""Files that are read again when they change: a leaf that asks the file system, and keeps what it said last."""

from collections.abc import Callable, Iterable
from pathlib import Path

_Signature = tuple[tuple[str, int, int, int], ...]


class FileWatch:
    """Tells whether files have changed since it last looked. Costs a `stat` each.

    Args:
        files: which files there are now. Asked each time, so that files of a directory may come and go.
    """

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether any has come, gone or been written since the last call that said so, or the beginning."""
        now = self._look()
        if now == self._seen:
            return False
        self._seen = now
        return True

    def _look(self) -> _Signature:
        try:
            return tuple(_signature(file) for file in self._files())
        except OSError:
            return ()


def _signature(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_mtime_ns, status.st_size, status.st_ino
