"""Reads that every search makes: compiled once, run by the driver itself."""

import threading
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, Select
from sqlalchemy.exc import DBAPIError


class Prepared:
    """One select, called with the values of its parameters.

    SQLAlchemy writes the SQL and names the columns; its execution, which costs four times what these
    queries do (benchmarks/README.md, "Search path"), is left out. A call is a transaction of its own.
    """

    def __init__(self, engine: Engine, statement: Select[Any]) -> None:
        self._engine = engine
        self._compiled = statement.compile(dialect=engine.dialect)
        self._positions = self._compiled.positiontup or []
        self._fixed = self._compiled.params
        # Most searches ask for as many as the last one, and to write the SQL takes as long as to run it.
        self._for_lengths = lru_cache(32)(self._expanded)
        columns = statement.selected_columns
        # Rows are plain tuples that also know their columns by name.
        self._row: Any = namedtuple("Row", columns.keys())  # type: ignore[misc]
        decoders = [
            column.type.dialect_impl(engine.dialect).result_processor(engine.dialect, None)
            for column in columns
        ]
        self._decoders = [(at, decode) for at, decode in enumerate(decoders) if decode is not None]

    def __call__(self, **parameters: object) -> list[Any]:
        """All rows, as named tuples. Raises sqlalchemy.exc.DBAPIError as any other read does."""
        statement, values = self._written(parameters)
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(statement, values)
            return [self._made(row) for row in cursor.fetchall()]
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                statement, None, error, self._engine.dialect.loaded_dbapi.Error, hide_parameters=True
            ) from error
        finally:
            connection.close()

    def _written(self, parameters: Mapping[str, object]) -> tuple[str, Any]:
        """The SQL for lists as long as these, and its values as the driver takes them."""
        if not self._positions:
            sql = self._compiled.construct_expanded_state(parameters)
            return sql.statement, sql.parameters
        given = [parameters.get(name, self._fixed[name]) for name in self._positions]
        lengths = tuple(len(value) if isinstance(value, list | tuple) else None for value in given)
        values = [one for value in given for one in (value if isinstance(value, list | tuple) else [value])]
        return self._for_lengths(lengths), values

    def _expanded(self, lengths: tuple[int | None, ...]) -> str:
        lists = {
            name: None if length is None else [None] * length
            for name, length in zip(self._positions, lengths, strict=True)
        }
        return self._compiled.construct_expanded_state(lists).statement

    def _made(self, row: Any) -> Any:
        if self._decoders:
            values = list(row)
            for at, decode in self._decoders:
                values[at] = decode(values[at])
            row = values
        return self._row._make(row)


class Remembered:
    """A prepared select whose rows are kept until somebody commits; where there are none, nothing is kept.

    commits: a number that is another one after every commit, of whichever process.
    """

    def __init__(self, read: Prepared, commits: Callable[[], int]) -> None:
        self._read = read
        self._commits = commits
        self._kept: tuple[int, dict[tuple[object, ...], list[Any]]] = (-1, {})

    def __call__(self, **parameters: object) -> list[Any]:
        """As `Prepared`; the parameters in the same order each time."""
        # Before the read: what is committed between the two is then found by the next call.
        commits = self._commits()
        at, answers = self._kept
        if at != commits:
            answers = {}
            self._kept = (commits, answers)
        asked = tuple(parameters.values())
        rows = answers.get(asked) or self._read(**parameters)
        if rows:
            answers[asked] = rows
        return rows


class Commits:
    """How SQLite tells one connection that any other one has committed (`PRAGMA data_version`).

    A quarter of the cost of the shortest read. The connection is opened at first use, and writes nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asking = threading.Lock()
        self._connection: Any = None

    def __call__(self) -> int:
        """A number that changes with every commit."""
        with self._asking:
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._connection.detach()
            # All rows are fetched: a statement left open would go on seeing the state of its beginning.
            ((number,),) = self._connection.cursor().execute("PRAGMA data_version").fetchall()
            return int(number)

    def close(self) -> None:
        """Close the connection; another use opens it again."""
        with self._asking:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
