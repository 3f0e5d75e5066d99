"""Check and repair: damage is made for real, and found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kb.catalog.attachments import Attachment


def kinds(words: Any, **how: Any) -> tuple[list[str], list[str]]:
    """What a check finds and what it leaves."""
    report = words.check(**how)
    return [one.kind for one in report.found], [one.kind for one in report.left]


def spoil(words: Any, sql: str) -> None:
    """Change the catalog behind its back."""
    with words.catalog.database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute(sql)
        raw.execute("PRAGMA foreign_keys=ON")


def test_a_sound_folder_is_clean(words: Any, shelf: Any) -> None:
    """Also after a deletion."""
    assert kinds(words) == ([], [])
    words.delete_document(shelf.kb.id, shelf.content("a").id)
    assert kinds(words) == ([], [])


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE chunks SET text = 'x' WHERE id = 1", ["span", "hash"]),
        (
            "DELETE FROM vectors WHERE text_hash = (SELECT text_hash FROM chunks WHERE id=1)",
            ["vector_missing"],
        ),
        ("UPDATE counters SET value = 0 WHERE name = 'change'", ["counter"]),
        ("DELETE FROM attributes WHERE content_id = (SELECT min(id) FROM contents)", ["attributes"]),
        ("UPDATE changes SET last_chunk = last_chunk - 1 WHERE seq = 1", ["feed"]),
        ("UPDATE contents SET version_id = 'ver_none' WHERE uri = 'a'", ["visible", "visible"]),
        ("UPDATE vectors SET vector = x'0000' WHERE rowid = 1", ["vector_broken"]),
        ("UPDATE vectors SET vector = 7 WHERE rowid = 1", ["database"]),
        ("UPDATE chunks SET version_id = 'ver_none' WHERE id = 1", ["foreign_key", "span", "visible"]),
        ("UPDATE contents SET attributes = '{' WHERE uri = 'a'", ["database"]),
        (
            "INSERT INTO receipts SELECT 'rcp_1', kb_id, id, '', 0, 2, '' FROM contents WHERE uri = 'a'",
            ["receipt"] * 5,
        ),
    ],
)
def test_damage_to_the_catalog_is_found_and_left(words: Any, shelf: Any, sql: str, found: list[str]) -> None:
    """It is never repaired silently."""
    spoil(words, sql)
    assert kinds(words, repair=True) == (found, found)


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("UPDATE files SET data = x'00'", ["file"]),
        ("DELETE FROM files", ["foreign_key"]),
        ("DELETE FROM attachments", ["attachment"]),
    ],
)
def test_files_and_attachments_are_held_against_each_other(
    words: Any, shelf: Any, sql: str, found: list[str]
) -> None:
    """Bytes that changed, an attachment without its file, a document without its attachment."""
    file_id = words.catalog.files.create("f.txt", "assistants", b"a pump").id
    job_id = words.catalog.attachments.attach(shelf.kb.id, [Attachment(file_id)])
    (read,) = words.catalog.jobs.start(job_id)
    version = shelf.version(read.name, "a pump")
    source = words.catalog.store.source(shelf.kb.id, "files")
    made = shelf.vectors(version)
    words.catalog.store.commit(shelf.kb.id, source, shelf.kb.fingerprint, [version], made, job_id)
    assert kinds(words) == ([], [])
    spoil(words, sql)
    assert kinds(words, repair=True) == (found, found)


@pytest.mark.parametrize(
    "name", ["*.flat", "*.rows", "*.ids", "MANIFEST.json", "lexical/*.idx", "lexical/SEQ"]
)
def test_a_flipped_byte_in_an_index_is_found_and_repaired(words: Any, shelf: Any, name: str) -> None:
    """Every document is found again."""
    path = next((words.settings.indexes_dir / shelf.kb.id).rglob(name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert kinds(words) == (["index_damaged"], ["index_damaged"])
    assert kinds(words, repair=True) == (["index_damaged"], [])
    assert {hit.uri for hit in words.search("pump", [shelf.kb.id]).hits} == {"a", "b", "c"}


def test_a_missing_lexical_index_and_orphans_are_repaired(words: Any, shelf: Any) -> None:
    """Both are derived."""
    shutil.rmtree(words.settings.indexes_dir / shelf.kb.id / "lexical")
    spoil(words, "INSERT INTO vectors VALUES ('words-1', x'00', x'00', 0)")
    assert kinds(words, repair=True) == (["orphan_vectors", "index_damaged"], [])


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE spending SET credits = credits + 1",
        "UPDATE spending SET reserved = 0",
        "DELETE FROM spending",
        "UPDATE spending SET day = '2026-11-25'",
        "INSERT INTO spending VALUES ('key_9', '2026-11-24', 1, 0)",
    ],
)
def test_what_keys_have_spent_is_what_their_calls_came_to(words: Any, sql: str) -> None:
    """To the nano-credit, by day; otherwise it is counted anew."""
    call = "'', 'e', 'm', 'standard', NULL, '{}', NULL, 1, 0, 0, 0, 1, 7, 9, '2026-11-24T1', NULL, ''"
    made = [
        ("1", "'key_1'", "completed"),
        ("2", "'key_1'", "open"),
        ("3", "'key_1'", "failed"),
        ("4", "NULL", "open"),
    ]
    for name, key, status in made:
        spoil(words, f"INSERT INTO calls VALUES ('call_{name}', NULL, {key}, {call.format(status)})")
    spoil(words, "INSERT INTO spending VALUES ('key_1', '2026-11-24', 14, 9)")
    assert kinds(words) == ([], [])
    spoil(words, sql)
    assert kinds(words, repair=True) == (["spending"], [])
    with words.catalog.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM spending").all()
    assert rows == [("key_1", "2026-11-24", 14, 9)]


def test_an_index_that_differs_from_the_catalog_is_rebuilt(words: Any, shelf: Any) -> None:
    """It lacks a chunk, holds one that is gone, holds another's vector, is ahead of the feed."""
    none, rows = np.empty(0, np.int64), words.embedder("").embed_passages(["x", "y"])[:1]
    first, nothing = np.array([1]), rows[:0]
    for dense, lexical, found in (
        ([(0, none, nothing, first)], [], ["index_ids"]),
        ([(0, np.array([99]), rows, none)], [], ["index_ids"]),
        ([(0, none, nothing, first), (0, first, rows, none)], [], ["index_vectors"]),
        ([(5, none, nothing, none)], [], ["index_ahead"]),
        ([], [(5, none, [], first)], ["index_ahead", "index_ids"]),
    ):
        live = words._indexes.live(shelf.kb)
        live.catch_up()
        for further, *change in dense:
            live.vectors.apply(live.vectors.seq + further, *change)
        for further, *change in lexical:
            live.lexical.apply(live.lexical.seq + further, *change)
        live.vectors.checkpoint()
        assert kinds(words) == (found, found)
        assert kinds(words, repair=True) == (found, [])
        assert {hit.uri for hit in words.search("pump", [shelf.kb.id]).hits} == {"a", "b", "c"}


def test_a_single_bit_of_a_stored_vector_is_found(words: Any, shelf: Any) -> None:
    """And the index, which may hold the only whole copy, is not brought level with it."""
    one = "(SELECT text_hash FROM chunks WHERE id = 1)"
    with words.catalog.database.read() as connection:
        stored = connection.exec_driver_sql(
            f"SELECT vector FROM vectors WHERE text_hash = {one}"
        ).scalar_one()
    flipped = bytes([stored[0] ^ 1]) + stored[1:]
    spoil(words, f"UPDATE vectors SET vector = x'{flipped.hex()}' WHERE text_hash = {one}")
    assert kinds(words, repair=True) == (["vector_damaged"], ["vector_damaged"])


def test_indexes_of_a_knowledge_base_that_is_gone_are_removed(words: Any, shelf: Any) -> None:
    """As a kill between its deletion and theirs leaves them."""
    left = words.settings.indexes_dir / "kb_gone"
    (left / "lexical").mkdir(parents=True)
    assert kinds(words, repair=True) == (["leftover"], [])
    assert not left.exists()


def test_a_new_knowledge_base_is_clean(words: Any, fakes: Any) -> None:
    """Its lexical index has files before it has a checkpoint."""
    fakes.Shelf(words.catalog)
    words.follow()
    assert kinds(words) == ([], [])


def test_a_deletion_is_proved(words: Any, shelf: Any) -> None:
    """Its receipt counts; its vectors lie masked in the dense base until a repair writes that anew."""
    words.delete_document(shelf.kb.id, shelf.content("a").id)
    report = words.check()
    assert (report.found, report.receipts, report.masked) == ((), 1, 2)
    report = words.check(repair=True)
    assert (report.found, report.receipts, report.masked) == ((), 1, 0)
    assert words.check().masked == 0
    spoil(words, "DELETE FROM changes WHERE added = 0")
    report = words.check()
    assert (report.receipts, [one.kind for one in report.found]) == (
        0,
        ["receipt", "feed", "index_ahead", "index_ahead"],
    )


def test_a_catalog_too_damaged_to_open_is_said_to_be(words: Any, shelf: Any) -> None:
    """By name, with what to do, and without a trace."""
    from typer.testing import CliRunner

    from kb.cli import app

    words.close()
    file = words.settings.data_dir / "catalog.db"
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(b"x" * 100 + file.read_bytes()[100:])
    said = CliRunner().invoke(app, ["fsck", "--data-dir", str(words.settings.data_dir)])
    assert (said.exit_code, "restore a backup" in said.output) == (1, True)


def test_deletions_leave_receipts(words: Any, shelf: Any) -> None:
    """Of a document, and of all the others when their knowledge base goes."""
    gone = shelf.content("a").id
    words.delete_document(shelf.kb.id, gone)
    assert [(one.content_id, one.chunks) for one in words.receipts(shelf.kb.id)] == [(gone, 2)]
    words.delete_knowledge_base(shelf.kb.id)
    assert len(words.receipts(shelf.kb.id)) == 3


def test_a_repair_waits_for_no_server(tmp_path: Path) -> None:
    """Beside a server a check works and a repair is refused: the server would write its old index back."""
    from filelock import FileLock
    from typer.testing import CliRunner

    from kb.cli import app

    folder = ["--data-dir", str(tmp_path)]
    with FileLock(tmp_path / "serve.lock"):
        assert CliRunner().invoke(app, ["fsck", *folder]).exit_code == 0
        refused = CliRunner().invoke(app, ["fsck", "--repair", *folder])
    assert (refused.exit_code, "stop it before a repair" in refused.output) == (1, True)
    assert CliRunner().invoke(app, ["fsck", "--repair", *folder]).exit_code == 0


def test_an_empty_knowledge_base_that_was_opened_is_whole(
    open_service: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Its index holds nothing yet: that is no damage, and the next process rebuilds nothing."""
    first = open_service()
    first.create_knowledge_base("empty")
    first.follow()
    open_service().follow()
    assert first.check().found == ()
    assert caplog.records == []
