"""`python bench`: see `python bench --help`."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # this folder is a package, though it is run by its path

from bench.command import main  # noqa: E402 - not before the path is right

if __name__ == "__main__":
    main()
