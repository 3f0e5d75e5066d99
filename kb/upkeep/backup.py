"""One file with everything that cannot be rebuilt: a snapshot of the catalog, its manifest, and a seal.

Indexes and exported models are derived and not in it; a model given by its path must be kept elsewhere.

    manifest.json    format, versions, time, counts, checksum of the catalog
    catalog.db       as SQLite's VACUUM INTO writes it
    (zip comment)    SHA-256, in hex, of every byte before it
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Engine, create_engine, func, make_url, select

from kb.catalog.database import now
from kb.catalog.schema import REVISION, chunks, contents, files, knowledge_bases, receipts
from kb.errors import AlreadyExists, DataFolderInUse, InvalidInput, storage
from kb.index.manifest import digest, make_folder, sync
from kb.settings import Settings

_FORMAT = 1
_CATALOG, _MANIFEST = "catalog.db", "manifest.json"
_COUNTED = (knowledge_bases, contents, chunks, files, receipts)
_BLOCK = 1 << 20
_SEAL = 64


def backup(engine: Engine, url: str, file: Path, version: str) -> dict[str, Any]:
    """Write a snapshot while others read and write; returns its manifest. `file` must not exist yet.

    Raises StorageFull or StorageFailed, and then there is no file.
    """
    _catalog_file(url)
    if file.exists():
        raise AlreadyExists(f"{file} exists already; give another name", param="file")
    if not file.parent.is_dir():
        raise InvalidInput(f"there is no folder {file.parent}", param="file")
    # A folder that only its owner may read, beside the file: the texts of all documents pass through it.
    with storage(), tempfile.TemporaryDirectory(dir=file.parent, prefix=".kb-backup-") as scratch:
        snapshot = Path(scratch) / _CATALOG
        connection = engine.raw_connection()
        try:
            # One read transaction: writers go on, and pages that are free do not come along.
            connection.cursor().execute("VACUUM INTO ?", (str(snapshot),))
        finally:
            connection.close()
        manifest = {
            "format": _FORMAT,
            "version": version,
            "schema": REVISION,
            "created_at": now(),
            "counts": _counts(snapshot),
            "files": {_CATALOG: {"sha256": digest(snapshot), "bytes": snapshot.stat().st_size}},
        }
        made = Path(scratch) / "backup.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr(_MANIFEST, json.dumps(manifest))
            packed.write(snapshot, _CATALOG)
            packed.comment = b"0" * _SEAL
        seal = _sealed(made)[0]
        with made.open("r+b") as end:
            end.seek(-_SEAL, os.SEEK_END)
            end.write(seal)
        made.chmod(0o600)
        sync(made)
        made.replace(file)
        try:
            sync(file.parent)
        except OSError:
            # A name that a power cut may take back is no backup.
            file.unlink()
            raise
    return manifest


def restore(settings: Settings, file: Path) -> dict[str, Any]:
    """Bring a backup into a data folder that has no catalog; returns its manifest.

    Raises InvalidInput for a file that is damaged or newer, before anything is written, AlreadyExists
    where a catalog is, DataFolderInUse beside a server, StorageFull or StorageFailed.
    """
    target = _catalog_file(settings.database_url)
    manifest = verified(file)
    with storage():
        make_folder(target.parent)
        make_folder(settings.data_dir)
        try:
            with FileLock(settings.data_dir / "serve.lock", timeout=0):
                _place(settings, file, target, manifest["files"][_CATALOG]["sha256"])
        except Timeout:
            raise DataFolderInUse(f"a server runs on {settings.data_dir}; stop it first") from None
    return manifest


def verified(file: Path) -> dict[str, Any]:
    """The manifest of a backup, every byte of which was compared with its seal. Raises InvalidInput."""
    try:
        seal, found = _sealed(file)
        if seal == found:
            with zipfile.ZipFile(file) as packed:
                manifest: dict[str, Any] = json.loads(packed.read(_MANIFEST))
            if manifest["format"] > _FORMAT or manifest["schema"] > REVISION:
                raise InvalidInput(f"{file} was made by a newer kb; install that first", param="file")
            return manifest
    except FileNotFoundError:
        raise InvalidInput(f"{file} does not exist", param="file") from None
    except IsADirectoryError:
        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, NotImplementedError):
        # All the ways in which zipfile speaks of what is none.
        pass
    raise InvalidInput(f"{file} is damaged or no backup; use another one", param="file")


def _place(settings: Settings, file: Path, target: Path, expected: str) -> None:
    taken = AlreadyExists(
        f"{target} is there already; give an empty --data-dir, or move it away", param="data_dir"
    )
    if target.exists():
        raise taken
    fresh = target.with_name(f"{target.name}.restoring")
    try:
        with zipfile.ZipFile(file) as packed, packed.open(_CATALOG) as source, fresh.open("wb") as copy:
            shutil.copyfileobj(source, copy, _BLOCK)
        fresh.chmod(0o600)
        sync(fresh)
        if digest(fresh) != expected:
            raise InvalidInput(f"{file} changed while it was read; try again", param="file")
        # What belonged to another catalog must not be taken for this one's.
        if settings.indexes_dir.exists():
            shutil.rmtree(settings.indexes_dir)
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        try:
            # Not a rename: that would replace a catalog which another process made in this instant.
            os.link(fresh, target)
        except FileExistsError:
            raise taken from None
        sync(target.parent)
    finally:
        fresh.unlink(missing_ok=True)


def _sealed(file: Path) -> tuple[bytes, bytes]:
    """The seal that a file should have, and the one it has."""
    seen, left = hashlib.sha256(), file.stat().st_size - _SEAL
    with file.open("rb") as source:
        while left > 0 and (block := source.read(min(_BLOCK, left))):
            seen.update(block)
            left -= len(block)
        return seen.hexdigest().encode(), source.read()


def _counts(snapshot: Path) -> dict[str, int]:
    """Rows of what a person would miss."""
    engine = create_engine(f"sqlite:///{snapshot}")
    try:
        with engine.connect() as connection:
            return {
                table.name: connection.scalar(select(func.count()).select_from(table)) or 0
                for table in _COUNTED
            }
    finally:
        engine.dispose()


def _catalog_file(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InvalidInput(
            "only an SQLite catalog is backed up and restored here; use the database's own tools, "
            "such as pg_dump and pg_restore",
            param="KB_DATABASE_URL",
        )
    return Path(parsed.database)
