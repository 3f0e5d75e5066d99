"""The tables and the migrations that make them."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import create_engine, event

import kb.catalog
from kb.catalog import Catalog, schema
from kb.catalog.database import Database


def script() -> Any:
    """Alembic's view of the migrations."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(kb.catalog.__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config)


def test_migrations_make_the_schema(url: str) -> None:
    """A migrated database differs in nothing from the tables that the code knows."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(url)
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, schema.metadata) == []
    database.close()


def test_revision_is_the_newest_migration(url: str) -> None:
    """REVISION is alembic's only head, and what a new database says of itself."""
    assert script().get_heads() == [schema.REVISION]
    database = Database(url)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchall() == [
            (schema.REVISION,)
        ]
    database.close()


def test_versions_of_older_databases_get_their_language(url: str) -> None:
    """The migration detects it for every visible version, so that nothing need be taken in again."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(kb.catalog.__file__).parent / "migrations"))
    engine = create_engine(url)
    german = "Die Pumpe wird mit dem grünen Hebel gestartet, dann öffnet das Ventil."
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for table, row in {
            "knowledge_bases": ("kb1", "name", "", "m", "f", 3, 64, 0, "now"),
            "sources": ("src1", "kb1", "upload", "now"),
            "contents": ("doc1", "kb1", "src1", "a", "ver2", "{}", "now"),
            "versions": ("ver1", "doc1", "t", "s", "text/plain", 1, 1, "[]", "[]", "now", german),
        }.items():
            marks = ", ".join("?" * len(row))
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", row)
        connection.exec_driver_sql(
            "INSERT INTO versions SELECT 'ver2', content_id, title, sha256, media_type, byte_size,"
            " characters, pages, headings, created_at, text FROM versions"
        )
    engine.dispose()
    database = Database(url)
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT id, language FROM versions ORDER BY id").fetchall()
    database.close()
    # A replaced version is searched no more.
    assert found == [("ver1", None), ("ver2", "de")]


def test_vectors_of_older_databases_get_their_checksum(url: str) -> None:
    """Taken to be whole as they are found."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(kb.catalog.__file__).parent / "migrations"))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        rows = [("m", b"a", b"123456789"), ("m", b"b", b""), ("n", b"a", b"123456789")]
        connection.exec_driver_sql("INSERT INTO vectors VALUES (?, ?, ?)", rows)
    engine.dispose()
    database = Database(url)
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT checksum FROM vectors ORDER BY 1").scalars().all()
    database.close()
    # The check value of CRC-32.
    assert found == [0, 0xCBF43926, 0xCBF43926]


def test_words_of_older_databases_are_used_up_by_what_went_on(url: str) -> None:
    """By the response that made the call, else by the first that went on from the one that asked."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(kb.catalog.__file__).parent / "migrations"))
    engine = create_engine(url)
    waiting = {"made": "approved", "told": "denied", "left": "approved", "open": "pending"}
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0012")
        for name, status in waiting.items():
            row = (
                f"mcpr_{name}",
                f"resp_{name}",
                None,
                "call",
                "clock",
                "stop",
                "{}",
                "0",
                status,
                None,
                "",
                "",
            )
            connection.exec_driver_sql(f"INSERT INTO approvals VALUES ({', '.join('?' * 12)})", row)
        for name, before in {"1": "made", "2": "made", "3": "told", "4": "told", "5": "open"}.items():
            row = (f"resp_{name}", None, f"resp_{before}", "", "completed", "{}", "[]", "[]", 0, None, None)
            connection.exec_driver_sql(f"INSERT INTO responses VALUES ({', '.join('?' * 11)})", row)
        for response, call in (("resp_2", "mcpr_made"), ("resp_2", "mcp_x")):
            row = (response, call, "clock", "stop", "{}", "done", "It stands.", "", "")
            connection.exec_driver_sql(f"INSERT INTO steps VALUES ({', '.join('?' * 9)})", row)
    engine.dispose()
    catalog = Catalog(url)
    found = {name: catalog.approvals.get(f"mcpr_{name}", None).continued_by for name in waiting}
    assert found == {"made": "resp_2", "told": "resp_3", "left": None, "open": None}
    # Its step is known to whoever would go on from there again.
    before = catalog.steps.begin("resp_6", "mcpr_made", "clock", "stop", "{}")
    assert before is not None
    assert (before.response_id, before.output) == ("resp_2", "It stands.")
    assert catalog.approvals.decide("mcpr_left", None, approve=True, reason=None)[0].status == "approved"
    catalog.close()


def test_tool_calls_come_to_older_databases(url: str) -> None:
    """What was kept before them is there as it was, and can be gone on from."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(kb.catalog.__file__).parent / "migrations"))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0011")
        body = '{"id": "resp_1", "status": "completed", "output": []}'
        row = ("resp_1", "key_1", None, "then", "completed", body, "[]", "[]", 0, None, None)
        connection.exec_driver_sql(f"INSERT INTO responses VALUES ({', '.join('?' * 11)})", row)
    engine.dispose()
    catalog = Catalog(url)
    (kept,) = catalog.responses.chain("resp_1", "key_1")
    assert (kept.body["status"], kept.created_at) == ("completed", "then")
    assert (catalog.steps.of("resp_1"), catalog.approvals.of("resp_1")) == ([], [])
    assert catalog.steps.begin("resp_1", "mcp_1", "kb", "list", "{}") is None
    catalog.close()


def test_opening_again_changes_nothing(shelf: Any, url: str) -> None:
    """A database of the current revision is opened as it is."""
    shelf.put(shelf.version("a", "one\ntwo"))
    before = shelf.everything()
    Catalog(url).close()
    assert shelf.everything() == before


def test_processes_may_open_a_new_database_together(tmp_path: Path) -> None:
    """Several that find no tables at the same time all end with the same ones."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    code = "import sys; from kb.catalog import Catalog; Catalog(sys.argv[1]).close()"
    for running in [subprocess.Popen([sys.executable, "-c", code, url]) for _ in range(2)]:
        assert running.wait(timeout=60) == 0
    database = Database(url)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM counters").scalar() == 2
    database.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("busy_timeout", 60000),
    ],
)
def test_connections_are_durable_and_strict(shelf: Any, pragma: str, value: object) -> None:
    """Every connection syncs each commit, keeps foreign keys and overwrites what it deletes."""
    with shelf.catalog.database.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_deleted_text_leaves_no_trace_in_the_file(shelf: Any, tmp_path: Path) -> None:
    """After a removal and a WAL checkpoint the words are nowhere in the database's files."""
    shelf.put(shelf.version("a", "unmistakablesecret"), shelf.version("b", "ordinary"))
    shelf.catalog.store.remove(shelf.kb.id, [shelf.content("a").id])
    shelf.catalog.close()
    connection = sqlite3.connect(tmp_path / "catalog.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for path in tmp_path.glob("catalog.db*"):
        assert b"unmistakablesecret" not in path.read_bytes()
    assert b"ordinary" in (tmp_path / "catalog.db").read_bytes()


def test_writers_of_a_process_stand_in_line(url: str) -> None:
    """None finds the database taken by another, which SQLite would have it try again later and later."""
    database = Database(url)
    database.engine.dispose()
    event.listen(database.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout=0"))
    together = Barrier(8)

    def write(_: int) -> None:
        together.wait()
        for _ in range(20):
            with database.write() as connection:
                database.next_numbers(connection, "chunk", 1)

    with ThreadPoolExecutor(8) as at_once:
        list(at_once.map(write, range(8)))
    with database.write() as connection:
        assert database.next_numbers(connection, "chunk", 1) == 161
    database.close()
