"""The peers beside it: the same work on Hubbub and on other servers, in turns, in one run.

From the bottom: `server` runs a program; `hubbub`, `nats`, `mosquitto` and `redis` say how each is started at its best;
`work` says what is done (TOML in `comparisons/`); `driver` is the program that does it, which the user names; `bout`
takes turns; `page` writes what came of it into documents.
"""
