"""The catalogue: what goes in comes out; what was tampered with is refused."""

import sqlite3

import pytest

from hubbub_broker.log import LogDamaged
from hubbub_broker.log.catalogue import (
    NAME,
    Catalogue,
    floor_statements,
    state_statements,
    topic_statements,
    writer_statements,
)
from hubbub_broker.log.sidecar import Writer
from hubbub_broker.log.standing import Standing


@pytest.fixture
def catalogue(tmp_path):
    made, why = Catalogue.open(tmp_path, "log", 60.0)
    assert why == "there was none"
    rows = [Standing(f"g/{n:04d}", 1, 0, n, n, 5.0, 1, n * 10) for n in range(1, 1001)]
    writers = [Writer("g/0001", b"w", 3, 100.0), Writer("g/0001", b"old", 3, 10.0)]
    states = [(7, b"k", b"v"), (7, b"gone", b"")]
    made.add_segment(
        1, 99, 5, 100.0, [*topic_statements(rows), *writer_statements(writers), *state_statements(1, states)]
    )
    yield made
    made.close()


def test_rows_come_back(catalogue, tmp_path):
    assert catalogue.standing("g/0500") == Standing("g/0500", 1, 0, 500, 500, 5.0, 1, 5000)
    assert catalogue.standing("g/none") is None
    assert [row.name for row in catalogue.topics("g/", "g/0009", 2)] == ["g/0010", "g/0011"]
    assert catalogue.writers("g/0001") == {b"w": (3, 100.0)}
    assert list(catalogue.states(7)) == [(b"k", b"v")]
    assert catalogue.states_up_to(1, None, 10) == [(1, 7, b"k", b"v")]
    again, why = Catalogue.open(tmp_path, "log", 60.0)
    assert (again.derived, again.segments, why) == (1, {1: (99, 5)}, None)
    again.close()


def test_later_segments_move_the_head_and_keep_the_floor(catalogue):
    catalogue.drop_segment(1, floor_statements([("g/0500", 400, 77)]))
    catalogue.add_segment(2, 99, 5, 100.0, topic_statements([Standing("g/0500", 501, 5000, 600, 9, 6.0, 2, 6000)]))
    assert catalogue.standing("g/0500") == Standing("g/0500", 400, 77, 600, 9, 6.0, 2, 6000)
    assert catalogue.segments == {2: (99, 5)}


@pytest.mark.parametrize(
    ("sql", "ask"),
    [
        ("UPDATE topics SET head = 7 WHERE name = 'g/0500'", lambda c: c.standing("g/0500")),
        ("UPDATE topics SET first = 7 WHERE name = 'g/0500'", lambda c: c.standing("g/0500")),
        ("UPDATE writers SET n = 9", lambda c: c.writers("g/0001")),
        ("UPDATE states SET body = x'00'", lambda c: list(c.states(7))),
        ("UPDATE states SET segment = 0", lambda c: list(c.states(7))),
    ],
)
def test_a_changed_row_is_refused(catalogue, tmp_path, sql, ask):
    other = sqlite3.connect(tmp_path / NAME)
    with other:
        other.execute(sql)
    other.close()
    with pytest.raises(LogDamaged, match="checksum"):
        ask(catalogue)


@pytest.mark.parametrize("fails", [1, 2, 4, 5])
def test_an_opening_that_fails_leaves_no_connection_open(tmp_path, monkeypatch, fails):
    made, _ = Catalogue.open(tmp_path, "log", 60.0)
    made.close()
    left = fails
    connections = []

    class Failing(sqlite3.Connection):
        closed = False

        def execute(self, *arguments):
            nonlocal left
            left -= 1
            if not left:
                raise sqlite3.DatabaseError("file is not a database")
            return super().execute(*arguments)

        def close(self):
            self.closed = True
            super().close()

    def connect(*arguments, **options):
        connections.append(real(*arguments, factory=Failing, **options))
        return connections[-1]

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    made, why = Catalogue.open(tmp_path, "log", 60.0)
    assert why == "file is not a database"
    assert [one.closed for one in connections[-2:]] == [False, False]
    assert all(one.closed for one in connections[:-2])
    made.close()
    assert all(one.closed for one in connections)


def test_garbage_and_another_logs_file_are_replaced(tmp_path):
    (tmp_path / NAME).write_bytes(b"garbage" * 1000)
    made, why = Catalogue.open(tmp_path, "log", 60.0)
    assert "not a database" in (why or "")
    made.close()
    made, why = Catalogue.open(tmp_path, "another", 60.0)
    assert "another log" in (why or "")
    made.close()
