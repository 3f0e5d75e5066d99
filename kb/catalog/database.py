"""One SQL database: connections, transactions, migrations."""

import importlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    ExceptionContext,
    Select,
    create_engine,
    event,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import OperationalError, ProgrammingError
from uuid6 import uuid7

from kb.catalog import schema
from kb.catalog.prepared import Commits, Prepared, Remembered
from kb.errors import CatalogCorrupt, storage

# Before 3.51.3 two connections that write and checkpoint at the same instant could corrupt a WAL
# database (sqlite.org/wal.html, "the WAL-reset bug"). The bundled library of pysqlite3 is newer.
_SAFE_SQLITE = (3, 51, 3)
_BUSY_SECONDS = 60


class Database:
    """Opens `url`, migrates it to the current schema, and hands out transactions.

    Thread-safe. Several processes may share an SQLite file: writers queue, readers do not wait.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"module": _sqlite_module()} if self._sqlite else {"pool_pre_ping": True}
        # Threads of a busy server wait in their own queue, not for a connection.
        self.engine = create_engine(
            parsed,
            pool_size=16,
            max_overflow=48,
            # The connection used last has its pages and statements at hand.
            pool_use_lifo=True,
            # Parameters are people's texts: an error must not carry them into a log.
            hide_parameters=True,
            **options,
        )
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            event.listen(self.engine, "handle_error", _leave_readonly)
        # SQLite has its writers sleep and try again, longer each time: of many threads some would starve.
        self._turn: AbstractContextManager[object] = threading.Lock() if self._sqlite else nullcontext()
        self._commits = Commits(self.engine)
        self._migrate()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot."""
        with storage(), self.engine.connect() as connection:
            yield connection

    def prepare(self, statement: Select[Any]) -> Prepared:
        """A select that is run often, and whose rows are few."""
        return Prepared(self.engine, statement)

    def remember(self, statement: Select[Any]) -> Prepared | Remembered:
        """A select that is run far more often than anything is written; rows are as of the call, as ever."""
        prepared = self.prepare(statement)
        return Remembered(prepared, self._commits) if self._sqlite else prepared

    @contextmanager
    def write(self, *, synced: bool = True) -> Iterator[Connection]:
        """One transaction: all of it is durable when the block ends, or none of it.

        synced: False for what must outlive this process and may be lost with the machine's power, as long as
        nobody was told of it. It saves waiting for the disk.

        Raises StorageFull when the disk has no room, StorageFailed when it refuses.
        """
        with storage(), self._turn, self.engine.connect() as connection:
            connection = connection.execution_options(write=True, synced=synced)
            with connection.begin():
                yield connection

    def next_numbers(self, connection: Connection, counter: str, count: int) -> int:
        """Reserve `count` consecutive numbers inside a writing transaction; returns the first."""
        row = schema.counters
        taken = connection.execute(
            update(row).where(row.c.name == counter).values(value=row.c.value + count).returning(row.c.value)
        ).scalar_one()
        return int(taken) - count + 1

    def close(self) -> None:
        """Release all connections."""
        self._commits.close()
        self.engine.dispose()

    def _migrate(self) -> None:
        # Alembic takes half a second to import: only a database that needs it pays.
        if self._revision() == schema.REVISION:
            return
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.write() as connection:
            # Another process may have been first; it held the write lock until its work was done.
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except (CommandError, ProgrammingError) as error:
                raise _unknown_schema(error) from error
            except OperationalError as error:
                # A table that no revision told of.
                if "already exists" in str(error.orig) or "no such" in str(error.orig):
                    raise _unknown_schema(error) from error
                raise

    def _revision(self) -> str | None:
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(
                select(text("version_num")).select_from(text("alembic_version"))
            ).scalar()


def _unknown_schema(error: Exception) -> CatalogCorrupt:
    return CatalogCorrupt(
        "the catalog's tables are not those of this kb: a newer one made it, and is to be installed; "
        f"or it is damaged, and a backup to be restored ({str(error).splitlines()[0]})"
    )


def new_id(prefix: str) -> str:
    """A sortable, prefixed public id: `doc_0192…`."""
    return f"{prefix}_{uuid7().hex}"


def now() -> str:
    """The time of day, as `written`."""
    return written(datetime.now(UTC))


def written(at: datetime) -> str:
    """UTC, ISO 8601, to the millisecond: of one length, so that texts compare as times do."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sqlite_module() -> Any:
    if sqlite3.sqlite_version_info >= _SAFE_SQLITE:
        return sqlite3
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        # No wheel for this platform: the standard library's SQLite works, within what the README says of it.
        return sqlite3


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Transactions begin where we say so (below), not where the driver guesses.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_SECONDS * 1000}",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
    _use_wal(connection)


def _use_wal(connection: Any) -> None:
    """Switch to the write-ahead log; SQLite does not wait for others that do so at the same moment."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            # The driver's own class is not known here: there are two of them.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    writes = options.get("write", False)
    if writes:
        # An acknowledged commit survives a power cut, not only a crash of the process.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options['synced'] else 'NORMAL'}")
    # A transaction that will write takes the lock at once: upgrading later could find its snapshot stale.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _leave_readonly(failed: ExceptionContext) -> None:
    """A file that could not be opened for writing once, SQLite opens for reading, and leaves it so."""
    if "readonly database" in str(failed.original_exception):
        # The connections at hand are then replaced by new ones.
        failed.is_disconnect = True
