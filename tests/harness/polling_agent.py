"""A polling agent as a process: it sends its mails over HTTP until each is answered, and reads its inbox until told.

    python -m harness.polling_agent PORT DATABASE NAME SEED

It keeps nothing in memory that it needs: what is to be sent, and what was handled, is in its SQLite file, so that it
can be killed at any moment and started again. It reads, handles and notes, and then marks as read by id; a crash or a
lost answer in between brings the mail again, and what is noted already is only marked. What must never be is a
violation: a mail that comes again although its mark was answered, or that is in the inbox twice.
"""

from __future__ import annotations

import http.client
import json
import random
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 10.0
PAUSE_SECONDS = 0.02
"""After a failure: the broker may be away."""

SCHEMA = """
create table if not exists outgoing (id text primary key, recipient text not null, body text not null,
                                     answered integer not null default 0);
create table if not exists handled (sender text, id text, seq integer not null, body text not null,
                                    marked integer not null default 0, primary key (sender, id));
create table if not exists violations (what text not null, sender text, id text, seq integer);
create table if not exists counters (name text primary key, value integer not null);
"""


def open_store(path: Path) -> sqlite3.Connection:
    """The agent's file."""
    store = sqlite3.connect(path, isolation_level=None, timeout=30)
    store.execute("pragma journal_mode=wal")
    store.execute("pragma synchronous=off")  # only the process is killed, not the machine
    store.executescript(SCHEMA)
    return store


class PollingAgent:
    """One life of an agent."""

    def __init__(self, port: int, store: sqlite3.Connection, name: str, source: random.Random) -> None:
        self._port = port
        self._store = store
        self._name = name
        self._source = source

    def run(self) -> None:
        """Send and read, until it is killed."""
        while True:
            busy = self._send_some()
            busy |= self._read_some()
            if not busy:
                time.sleep(PAUSE_SECONDS)

    def _send_some(self) -> bool:
        rows = self._store.execute(
            "select id, recipient, body from outgoing where answered = 0 order by rowid limit ?",
            (self._source.randrange(1, 6),),
        ).fetchall()
        for id, recipient, body in rows:
            mail = {"from": self._name, "to": recipient, "subject": "work", "body": body}
            answer = self._ask("POST", "/api/send", mail, {"Idempotency-Key": id})
            if answer is None:
                return True  # not answered: the next turn sends it again
            self._store.execute("update outgoing set answered = 1 where id = ?", (id,))
            if answer.get("dup"):
                self._count("repeats that were recognised")
        return bool(rows)

    def _read_some(self) -> bool:
        limit = self._source.choice((1, 3, 10, 50))
        page = self._ask("GET", f"/api/inbox/{self._name}?limit={limit}", None)
        if page is None or not page["messages"]:
            return False
        for mail in page["messages"]:
            self._handle(mail)
        ids = [mail["id"] for mail in page["messages"]]
        if self._ask("POST", f"/api/inbox/{self._name}/read", {"ids": ids}) is None:
            self._count("marks that were not answered")
            return True
        marked = [(mail["from"], mail["id"]) for mail in page["messages"]]
        self._store.execute("begin")
        self._store.executemany("update handled set marked = 1 where sender = ? and id = ?", marked)
        self._store.execute("commit")
        return True

    def _handle(self, mail: dict[str, Any]) -> None:
        """What the agent does with a mail: once, because doing it and noting that it was done are one transaction."""
        key = (mail["from"], mail["id"])
        known = self._store.execute("select seq, marked from handled where sender = ? and id = ?", key).fetchone()
        if known is None:
            values = (*key, mail["seq"], mail["body"])
            self._store.execute("insert into handled (sender, id, seq, body) values (?, ?, ?, ?)", values)
            return
        seq, marked = known
        if marked or seq != mail["seq"]:
            what = "came again after it was marked" if marked else "is in the inbox twice"
            self._store.execute("insert into violations values (?, ?, ?, ?)", (what, *key, mail["seq"]))
        self._count("mails that came again before they were marked")

    def _count(self, name: str) -> None:
        self._store.execute(
            "insert into counters values (?, 1) on conflict (name) do update set value = value + 1", (name,)
        )

    def _ask(
        self, method: str, path: str, body: object | None, headers: dict[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer, or None: it was lost, or the broker is away."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)
        content = None if body is None else json.dumps(body)
        fields = {"Connection": "close", **({"Content-Type": "application/json"} if content else {}), **(headers or {})}
        try:
            connection.request(method, path, content, fields)
            answer = connection.getresponse()
            found = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self._count("requests without an answer")
            time.sleep(PAUSE_SECONDS)
            return None
        finally:
            connection.close()
        if answer.status in (429, 503):
            time.sleep(PAUSE_SECONDS)
            return None
        assert answer.status == 200, (answer.status, found)
        return dict(found)


def main() -> None:
    port, path, name, seed = sys.argv[1:]
    PollingAgent(int(port), open_store(Path(path)), name, random.Random(seed)).run()


if __name__ == "__main__":
    main()
