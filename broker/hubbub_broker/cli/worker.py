"""One worker of `hubbub serve --workers N`, as the supervisor starts it: `python -m hubbub_broker.cli.worker FD`.

The home worker has the control plane in it, unless the role says otherwise.
"""

from __future__ import annotations

import sys

from hubbub_broker.workers.process import main

from .planes import Inside

if __name__ == "__main__":
    main(int(sys.argv[1]), Inside)
