"""Backup and restore: whole or not at all, beside writers, and never over something."""

import json
import sqlite3
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from kb.errors import AlreadyExists, DataFolderInUse, InvalidInput, StorageFailed, StorageFull
from kb.settings import Settings
from kb.upkeep import backup as room
from kb.upkeep.backup import restore, verified


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """A data folder that is not there yet."""
    return Settings(tmp_path / "new", f"sqlite:///{tmp_path}/new/catalog.db")


def test_a_backup_comes_back(words: Any, shelf: Any, empty: Settings, tmp_path: Path) -> None:
    """With its counts, readable by its owner alone."""
    file = tmp_path / "b.zip"
    words.delete_document(shelf.kb.id, shelf.content("a").id)
    kept = words.catalog.files.create("f.txt", "assistants", b"bytes")
    manifest = words.backup(file)
    assert manifest["counts"] == {"knowledge_bases": 1, "contents": 2, "chunks": 4, "files": 1, "receipts": 1}
    assert file.stat().st_mode & 0o777 == 0o600
    assert restore(empty, file) == verified(file) == manifest
    with type(words)(empty) as again:
        again.follow()
        assert again.check().found == ()
        assert again.catalog.files.data(kept.id) == b"bytes"
        assert {hit.uri for hit in again.search("pump", ["shelf"]).hits} == {"b", "c"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "data", "new"]


def test_a_file_cut_short_is_refused(words: Any, shelf: Any, empty: Settings, tmp_path: Path) -> None:
    """Before anything is written."""
    file = tmp_path / "b.zip"
    words.backup(file)
    whole = file.read_bytes()
    for at in range(0, len(whole), 997):
        file.write_bytes(whole[:at])
        with pytest.raises(InvalidInput, match="damaged or no backup"):
            restore(empty, file)
    assert not empty.data_dir.exists()


def test_a_newer_backup_is_named_as_such(words: Any, shelf: Any, empty: Settings, tmp_path: Path) -> None:
    """Sealed rightly, but of a later format or schema."""
    good, new = tmp_path / "b.zip", tmp_path / "n.zip"
    words.backup(good)
    for change in ({"format": 2}, {"schema": "9999"}):
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(new, "w") as packed:
            packed.writestr("manifest.json", json.dumps({**verified(good), **change}))
            packed.writestr("catalog.db", old.read("catalog.db"))
            packed.comment = b"0" * 64
        new.write_bytes(new.read_bytes()[:-64] + room._sealed(new)[0])
        with pytest.raises(InvalidInput, match="newer kb"):
            restore(empty, new)
    assert not empty.data_dir.exists()


def test_only_sqlite_is_backed_up_here(words: Any, tmp_path: Path) -> None:
    """Other databases have tools of their own, and the message names them."""
    with pytest.raises(InvalidInput, match="pg_dump"):
        room.backup(words.catalog.database.engine, "postgresql://host/kb", tmp_path / "b.zip", "0")
    with pytest.raises(InvalidInput, match="pg_restore"):
        restore(Settings(tmp_path / "new", "postgresql://host/kb"), tmp_path / "b.zip")


def test_nothing_is_overwritten(words: Any, shelf: Any, empty: Settings, tmp_path: Path) -> None:
    """Neither a file, nor a catalog, also an empty one; nor anything beside a server."""
    file = tmp_path / "b.zip"
    words.backup(file)
    with pytest.raises(AlreadyExists):
        words.backup(file)
    with pytest.raises(AlreadyExists):
        restore(words.settings, file)
    empty.data_dir.mkdir()
    with FileLock(empty.data_dir / "serve.lock"), pytest.raises(DataFolderInUse):
        restore(empty, file)


def test_a_catalog_made_in_the_same_instant_stays(
    words: Any, shelf: Any, empty: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes one after the look and before the restored one is put in its place."""
    file, link = tmp_path / "b.zip", room.os.link
    words.backup(file)

    def late(source: Path, target: Path) -> None:
        type(words)(empty).close()
        link(source, target)

    monkeypatch.setattr(room.os, "link", late)
    with pytest.raises(AlreadyExists):
        restore(empty, file)
    monkeypatch.undo()
    with sqlite3.connect(empty.data_dir / "catalog.db") as there:
        assert there.execute("SELECT count(*) FROM knowledge_bases").fetchone() == (0,)
    there.close()
    assert not (empty.data_dir / "catalog.db.restoring").exists()


@pytest.mark.parametrize(("number", "kind"), [(28, StorageFull), (5, StorageFailed)])
@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_refuses_leaves_no_backup(
    words: Any, shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type, at: int
) -> None:
    """An error of ours, whichever sync it hits, and no file under the name, nor any scratch."""
    real: Callable[[Path], None] = room.sync
    made = []

    def failing(path: Path) -> None:
        made.append(path)
        if len(made) == at:
            raise OSError(number, "refused")
        real(path)

    monkeypatch.setattr(room, "sync", failing)
    with pytest.raises(kind, match="run again"):
        words.backup(tmp_path / "b.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_beside_an_ingest_is_one_moment(
    words: Any, shelf: Any, empty: Settings, tmp_path: Path
) -> None:
    """Documents go in while it is made: what is in it is whole, and nothing less than what was in before."""
    started, done = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            shelf.put(*(shelf.version(f"n{number}-{one}", f"pump {number} {one}") for one in range(5)))
            number += 1
            started.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        started.wait()
        manifest = words.backup(tmp_path / "b.zip")
    finally:
        done.set()
        writer.join()
    restore(empty, tmp_path / "b.zip")
    with type(words)(empty) as again:
        again.follow()
        assert again.check().found == ()
        count = again.knowledge_base("shelf").documents
        # Five to a commit, behind the three that were there.
        assert (count, (count - 3) % 5, count >= 8) == (manifest["counts"]["contents"], 0, True)
