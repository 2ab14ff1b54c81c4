"""Load on a broker over real sockets, and what comes of it as figures: `hubbub bench`.

`scenarios/` says what is done (TOML), `drivers/` do it, `peers/` are what it is done to, `report/` tells it.
bench/README.md says how to read a number.
"""
