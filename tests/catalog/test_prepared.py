"""Prepared reads give what SQLAlchemy's own execution gives."""

from typing import Any

import pytest
from sqlalchemy import bindparam, column, select, table
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
