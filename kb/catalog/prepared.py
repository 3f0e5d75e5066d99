"""Reads that every search makes: compiled once, run by the driver itself."""

from collections import namedtuple
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
        sql = self._compiled.construct_expanded_state(parameters)
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(
                sql.statement, sql.positional_parameters if self._compiled.positional else sql.parameters
            )
            return [self._made(row) for row in cursor.fetchall()]
        except self._engine.dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(
                sql.statement, None, error, self._engine.dialect.loaded_dbapi.Error, hide_parameters=True
            ) from error
        finally:
            connection.close()

    def _made(self, row: Any) -> Any:
        if self._decoders:
            values = list(row)
            for at, decode in self._decoders:
                values[at] = decode(values[at])
            row = values
        return self._row._make(row)
