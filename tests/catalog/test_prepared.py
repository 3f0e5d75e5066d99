"""Prepared reads give what SQLAlchemy's own execution gives; remembered ones what these give."""

import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import bindparam, column, event, func, select, table, text
from sqlalchemy.exc import OperationalError

from kb.catalog.schema import contents


def test_rows_are_those_of_an_ordinary_read(shelf: Any) -> None:
    """Same values by the same names, JSON decoded, for a list of any length."""
    shelf.put(
        shelf.version("a", "one", {"n": 1, "on": True}), shelf.version("b", "two"), shelf.version("c", "x")
    )
    database = shelf.catalog.database
    wanted = select(contents).where(contents.c.uri.in_(bindparam("uris", expanding=True)))
    prepared = database.prepare(wanted.order_by(contents.c.uri))
    for uris in ([], ["a"], ["a", "b", "c", "missing"]):
        with database.read() as connection:
            expected = connection.execute(wanted.order_by(contents.c.uri), {"uris": uris}).mappings().all()
        assert [row._asdict() for row in prepared(uris=uris)] == [dict(row) for row in expected]
    assert prepared(uris=["a"])[0].attributes == {"n": 1, "on": True}


def test_a_failing_read_is_the_error_of_any_other_read(shelf: Any) -> None:
    """Callers catch one family of errors; the values asked for are not in its message."""
    gone = table("gone", column("name"))
    prepared = shelf.catalog.database.prepare(select(gone).where(gone.c.name == bindparam("name")))
    with pytest.raises(OperationalError, match="no such table: gone") as caught:
        prepared(name="a private text")
    assert "private" not in str(caught.value)


def test_a_read_gives_its_connection_back(shelf: Any) -> None:
    """Also when it fails: a busy server does not run out of them."""
    database = shelf.catalog.database
    gone = table("gone", column("name"))
    failing, working = database.prepare(select(gone)), database.prepare(select(contents))
    for _ in range(100):
        with pytest.raises(OperationalError):
            failing()
        assert working() == []
    assert database.engine.pool.checkedout() == 0


@pytest.fixture
def counting(shelf: Any) -> Any:
    """A remembered count of documents by uri, and the list of the reads that it made."""
    database = shelf.catalog.database
    counted = select(func.count().label("n")).select_from(contents).where(contents.c.uri == bindparam("uri"))
    remembered = database.remember(counted.having(func.count() > 0))
    reads: list[object] = []
    prepared = remembered._read

    def read(**parameters: object) -> list[Any]:
        reads.append(parameters["uri"])
        return list(prepared(**parameters))

    remembered._read = read
    return lambda uri: [row.n for row in remembered(uri=uri)], reads


def test_what_is_remembered_is_read_once_until_a_commit(shelf: Any, counting: Any) -> None:
    """By each value asked for. Another read changes nothing; a commit of anything does."""
    count, reads = counting
    shelf.put(shelf.version("a", "one"), shelf.version("b", "two"))
    assert [count("a"), count("b"), count("a"), count("b")] == [[1], [1], [1], [1]]
    shelf.rows("contents")
    assert count("a") == [1]
    assert reads == ["a", "b"]
    shelf.catalog.store.clear_failures("nobody's")
    shelf.put(shelf.version("c", "three"))
    assert [count("a"), count("a")] == [[1], [1]]
    assert reads == ["a", "b", "a"]
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id])
    assert [count("a"), count("b")] == [[], [1]]


def test_an_answer_of_nothing_is_not_remembered(counting: Any) -> None:
    """Names that do not exist, of which there are without end, take no memory."""
    count, reads = counting
    assert [count("x"), count("x")] == [[], []]
    assert reads == ["x", "x"]


_COMMITS = """
import sqlite3, sys
from kb.catalog.database import Database
with Database(sys.argv[1]).write() as connection:
    connection.exec_driver_sql("UPDATE contents SET uri = 'z' WHERE uri = 'a'")
"""


def test_a_commit_of_another_process_is_seen(shelf: Any, counting: Any) -> None:
    """When that process has its acknowledgement, the next read has the change."""
    count, _ = counting
    shelf.put(shelf.version("a", "one"))
    assert (count("a"), count("z")) == ([1], [])
    url = str(shelf.catalog.database.engine.url)
    subprocess.run([sys.executable, "-c", _COMMITS, url], check=True, timeout=60)
    assert (count("a"), count("z")) == ([], [1])


def test_what_is_not_committed_is_not_seen(shelf: Any, counting: Any) -> None:
    """Nor does it wait for the writer; after the commit it is."""
    count, _ = counting
    shelf.put(shelf.version("a", "one"))
    assert count("a") == [1]
    with shelf.catalog.database.write() as connection:
        connection.execute(text("DELETE FROM contents"))
        assert count("a") == [1]
    assert count("a") == []


def test_watching_for_commits_holds_nothing_up(shelf: Any, counting: Any) -> None:
    """The log can be moved into the database whole; the connection is none of the pool's; closing ends it."""
    count, _ = counting
    shelf.put(shelf.version("a", "one"))
    assert count("a") == [1]
    database = shelf.catalog.database
    closed: list[object] = []
    event.listen(database.engine, "close_detached", lambda connection: closed.append(connection))
    with database.engine.connect() as connection:
        busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    assert busy == 0
    assert database.engine.pool.checkedout() == 0
    database.close()
    assert len(closed) == 1
    assert count("a") == [1]
