"""`python -m hubbub_broker.cli.demonstration.tether ARGUMENTS`: the command `hubbub ARGUMENTS`, for as long as stdin
is open.

Whoever starts it holds the other end of a pipe. However that process ends, SIGKILL included, the pipe closes, and
this process ends too: no broker of a demonstration is left behind.
"""

import os
import sys
import threading

from hubbub_broker.cli import app


def watch(fd: int) -> None:
    """End this process at once when `fd` does."""
    while os.read(fd, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Watch stdin, and be `hubbub`."""
    threading.Thread(target=watch, args=(sys.stdin.fileno(),), name="tether", daemon=True).start()
    app(prog_name="hubbub")


if __name__ == "__main__":
    main()
