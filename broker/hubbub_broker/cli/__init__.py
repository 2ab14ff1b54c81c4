"""The `hubbub` command: one file a command, put together in `main`.

Exit codes (`exit_code.ExitCode`):

    0    done
    1    failed: refused by the broker, damaged, in use …; the message says why
    2    wrong usage, or a wrong setting
    3    no broker to be reached
    130  interrupted (Ctrl-C)

Results go to stdout, everything else to stderr; colour only where the output is a terminal and NO_COLOR is not set.
This package is where the broker and the SDK meet: `serve` needs the one, `pub` and `tail` the other. Commands import
what they need when they run, so that `hubbub --help` is quick.
"""

from .main import app, main

__all__ = ["app", "main"]
