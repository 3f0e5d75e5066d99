"""Check, repair, backup and restore: damage is made for real, and found."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kb.errors import AlreadyExists, InvalidInput
from kb.settings import Settings
from kb.upkeep.backup import restore


@pytest.fixture
def shelf(words: Any, fakes: Any) -> Any:
    """Three documents, indexed and checkpointed."""
    shelf = fakes.Shelf(words.catalog)
    shelf.put(*(shelf.version(name, f"{name} pump\n{name} valve", {"n": 1}) for name in ("a", "b", "c")))
    words._live(shelf.kb).catch_up()
    words._live(shelf.kb).vectors.checkpoint()
    return shelf


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
    ],
)
def test_damage_to_the_catalog_is_found_and_left(words: Any, shelf: Any, sql: str, found: list[str]) -> None:
    """It is never repaired silently."""
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
    spoil(words, "INSERT INTO vectors VALUES ('words-1', x'00', x'00')")
    assert kinds(words, repair=True) == (["orphan_vectors", "index_damaged"], [])


def test_deletions_leave_receipts(words: Any, shelf: Any) -> None:
    """Of a document, and of all the others when their knowledge base goes."""
    gone = shelf.content("a").id
    words.delete_document(shelf.kb.id, gone)
    assert [(one.content_id, one.chunks) for one in words.receipts(shelf.kb.id)] == [(gone, 2)]
    words.delete_knowledge_base(shelf.kb.id)
    assert len(words.receipts(shelf.kb.id)) == 3


def test_a_backup_comes_back_and_a_damaged_one_is_refused(words: Any, shelf: Any, tmp_path: Path) -> None:
    """Nothing is written for a truncated file; a folder in use is not overwritten."""
    file = tmp_path / "b.zip"
    words.backup(file)
    whole = file.read_bytes()
    new = Settings(tmp_path / "new", f"sqlite:///{tmp_path}/new/catalog.db")
    for at in range(0, len(whole), 997):
        (tmp_path / "cut.zip").write_bytes(whole[:at])
        with pytest.raises(InvalidInput):
            restore(new, tmp_path / "cut.zip")
    assert not new.data_dir.exists()
    with pytest.raises(AlreadyExists):
        restore(words.settings, file)
    restore(new, file)
    with type(words)(new) as again:
        again.follow()
        assert kinds(again) == ([], [])
        assert {hit.uri for hit in again.search("pump", ["shelf"]).hits} == {"a", "b", "c"}


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
