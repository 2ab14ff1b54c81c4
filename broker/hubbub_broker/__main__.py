"""`python -m hubbub_broker` is the `hubbub` command."""

from hubbub_broker.cli import main

if __name__ == "__main__":
    main()
