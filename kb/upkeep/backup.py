"""One file with everything that cannot be rebuilt: a snapshot of the catalog and its manifest.

Indexes and exported models are derived and not in it; a model given by its path must be kept elsewhere.
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
from sqlalchemy import Engine, make_url

from kb.catalog.database import Database, now
from kb.catalog.schema import REVISION
from kb.errors import AlreadyExists, DataFolderInUse, InvalidInput
from kb.index.manifest import digest, sync
from kb.settings import Settings

_FORMAT = 1
_CATALOG, _MANIFEST = "catalog.db", "manifest.json"
_BLOCK = 1 << 20


def backup(engine: Engine, url: str, file: Path, version: str) -> dict[str, Any]:
    """Write a snapshot while others read and write; returns its manifest. `file` must not exist yet."""
    _catalog_file(url)
    if file.exists():
        raise AlreadyExists(f"{file} exists already; give another name", param="file")
    if not file.parent.is_dir():
        raise InvalidInput(f"there is no folder {file.parent}", param="file")
    # A folder that only its owner may read, beside the file: the texts of all documents pass through it.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".kb-backup-") as scratch:
        snapshot = Path(scratch) / _CATALOG
        connection = engine.raw_connection()
        try:
            # One read transaction: writers go on, and pages that are free do not come along.
            connection.cursor().execute("VACUUM INTO ?", (str(snapshot),))
            manifest = {
                "format": _FORMAT,
                "version": version,
                "schema": REVISION,
                "created_at": now(),
                "files": {_CATALOG: {"sha256": digest(snapshot), "bytes": snapshot.stat().st_size}},
            }
        finally:
            connection.close()
        made = Path(scratch) / "backup.zip"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.writestr(_MANIFEST, json.dumps(manifest))
            packed.write(snapshot, _CATALOG)
        made.chmod(0o600)
        sync(made)
        made.replace(file)
        sync(file.parent)
    return manifest


def restore(settings: Settings, file: Path) -> dict[str, Any]:
    """Bring a backup into a data folder that has no knowledge bases; returns its manifest.

    Raises InvalidInput for a file that is damaged or newer, before anything is written, AlreadyExists
    where a catalog with knowledge bases is, DataFolderInUse beside a server.
    """
    target = _catalog_file(settings.database_url)
    manifest = verified(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.data_dir / "serve.lock", timeout=0):
            if target.exists() and not _is_empty(settings.database_url):
                raise AlreadyExists(
                    f"{target} holds knowledge bases; give an empty --data-dir", param="data_dir"
                )
            fresh = target.with_name(f"{target.name}.restoring")
            with zipfile.ZipFile(file) as packed, packed.open(_CATALOG) as source, fresh.open("wb") as copy:
                shutil.copyfileobj(source, copy, _BLOCK)
            fresh.chmod(0o600)
            sync(fresh)
            if digest(fresh) != manifest["files"][_CATALOG]["sha256"]:
                fresh.unlink()
                raise InvalidInput(f"{file} changed while it was read; try again", param="file")
            # What belonged to another catalog must not be taken for this one's.
            shutil.rmtree(settings.indexes_dir, ignore_errors=True)
            for suffix in ("-wal", "-shm"):
                target.with_name(target.name + suffix).unlink(missing_ok=True)
            os.replace(fresh, target)
            sync(target.parent)
    except Timeout:
        raise DataFolderInUse(f"a server runs on {settings.data_dir}; stop it first") from None
    return manifest


def verified(file: Path) -> dict[str, Any]:
    """The manifest of a backup, every byte of which was compared with it. Raises InvalidInput."""
    try:
        with zipfile.ZipFile(file) as packed:
            manifest: dict[str, Any] = json.loads(packed.read(_MANIFEST))
            if manifest["format"] > _FORMAT or manifest["schema"] > REVISION:
                raise InvalidInput(f"{file} was made by a newer kb; install that first", param="file")
            expected, seen = manifest["files"][_CATALOG], hashlib.sha256()
            with packed.open(_CATALOG) as source:
                while block := source.read(_BLOCK):
                    seen.update(block)
            if seen.hexdigest() == expected["sha256"]:
                return manifest
    except FileNotFoundError:
        raise InvalidInput(f"{file} does not exist", param="file") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, OSError,
        NotImplementedError, RuntimeError,
    ):  # fmt: skip
        # All the ways in which zipfile speaks of damage.
        pass
    raise InvalidInput(f"{file} is damaged or no backup; use another one", param="file")


def _catalog_file(url: str) -> Path:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InvalidInput(
            "only an SQLite catalog is backed up and restored here; use the database's own tools, "
            "such as pg_dump and pg_restore",
            param="KB_DATABASE_URL",
        )
    return Path(parsed.database)


def _is_empty(url: str) -> bool:
    database = Database(url)
    try:
        with database.read() as connection:
            found = connection.exec_driver_sql(
                "SELECT EXISTS (SELECT 1 FROM knowledge_bases) OR EXISTS (SELECT 1 FROM keys)"
                " OR EXISTS (SELECT 1 FROM receipts)"
            ).scalar()
        return not found
    finally:
        database.close()
