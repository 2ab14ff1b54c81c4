"""The workers of `hubbub serve --workers N`. The supervisor has them started: `python -m hubbub_broker.cli.worker FD`.

The home worker has the control plane in it, unless the role says otherwise.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module

from hubbub_broker.workers import template
from hubbub_broker.workers.process import main

from .planes import Inside

LATE = ("hubbub_broker.workers.forward", "uvloop")
"""What a worker imports when it needs it, and every worker will."""


def begin(descriptor: int) -> None:
    """Be a worker."""
    main(descriptor, Inside)


if __name__ == "__main__":
    for name in LATE:
        with suppress(ImportError):
            import_module(name)
    template.serve(int(sys.argv[1]), begin)
