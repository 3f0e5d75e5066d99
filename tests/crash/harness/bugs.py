"""Mistakes that have been made elsewhere, planted in a trip to see that the harness notices them."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import kb.catalog.database
from kb.index.faiss_index import FaissIndex
from kb.index.lexical import TantivyIndex
from kb.index.manifest import read_manifest, write_manifest


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake in the code of one trip, and why it would cost somebody their data."""

    trip: str
    reason: str
    plant: Callable[[Any, ExitStack], None]

    @contextmanager
    def planted(self, scene: Any) -> Iterator[None]:
        """The trip inside runs with the mistake."""
        with ExitStack() as held:
            self.plant(scene, held)
            yield


def _unsynced(held: ExitStack, skipped: Callable[[Path], bool]) -> None:
    """fsync does nothing for some files and folders."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if not skipped(Path(os.readlink(f"/proc/self/fd/{handle}"))):
            real(handle)

    held.enter_context(patch.object(os, "fsync", fsync))


def _dense_file(path: Path) -> bool:
    return (
        "indexes" in path.parts and "lexical" not in path.parts and path.is_file() and path.suffix != ".tmp"
    )


def skip_sync_of_index_files(scene: Any, held: ExitStack) -> None:
    """The manifest is safe, what it names is not."""
    _unsynced(held, _dense_file)


def skip_sync_of_folders(scene: Any, held: ExitStack) -> None:
    """A file is safe, its name is not."""
    _unsynced(held, Path.is_dir)


def skip_sync_of_the_backup(scene: Any, held: ExitStack) -> None:
    """Made under another name, renamed, and never synced."""
    _unsynced(held, lambda path: path.is_file() and "data" not in path.parts)


def skip_sync_of_the_restored(scene: Any, held: ExitStack) -> None:
    """The catalog is in place before its bytes are."""
    _unsynced(held, lambda path: "catalog" in path.name)


def sync_behind_the_rename(scene: Any, held: ExitStack) -> None:
    """The same calls in another order."""
    late: list[int] = []
    real, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        if _dense_file(Path(os.readlink(f"/proc/self/fd/{handle}"))):
            late.append(os.dup(handle))
        else:
            real(handle)

    def then_sync(path: Path, target: Any) -> Path:
        done = replace(path, target)
        while late:
            real(late[-1])
            os.close(late.pop())
        return done

    held.enter_context(patch.object(os, "fsync", fsync))
    held.enter_context(patch.object(Path, "replace", then_sync))


def unlink_before_the_rename(scene: Any, held: ExitStack) -> None:
    """The old checkpoint goes before the new one is there."""
    replace = Path.replace

    def after_unlink(path: Path, target: Any) -> Path:
        if Path(target).exists() and Path(target).name == "MANIFEST.json":
            for name in read_manifest(Path(target))["files"]:
                (path.parent / name).unlink()
        return replace(path, target)

    held.enter_context(patch.object(Path, "replace", after_unlink))


def drop_tombstones(scene: Any, held: ExitStack) -> None:
    """The dense index moves on and keeps what was removed."""
    apply = FaissIndex.apply

    def forgetful(index: FaissIndex, seq: int, add: Any, vectors: Any, remove: Any) -> None:
        apply(index, seq, add, vectors, np.empty(0, np.int64))

    held.enter_context(patch.object(FaissIndex, "apply", forgetful))


def drop_lexical_deletions(scene: Any, held: ExitStack) -> None:
    """The lexical index moves on and keeps what was removed."""
    apply = TantivyIndex.apply

    def forgetful(index: TantivyIndex, seq: int, add: Any, texts: Any, remove: Any) -> None:
        apply(index, seq, add, texts, np.empty(0, np.int64))

    held.enter_context(patch.object(TantivyIndex, "apply", forgetful))


def mark_before_the_commit(scene: Any, held: ExitStack) -> None:
    """SEQ says that a change is in before it is: SEQ first, then the commit, then what SEQ was to say."""
    apply = TantivyIndex.apply

    def hasty(index: TantivyIndex, seq: int, add: Any, texts: Any, remove: Any) -> None:
        mark = index._folder / "SEQ"
        if mark.exists():
            before = read_manifest(mark)
            write_manifest(mark, {**before, "seq": seq})
            write_manifest(mark, before)
        apply(index, seq, add, texts, remove)

    held.enter_context(patch.object(TantivyIndex, "apply", hasty))


def write_the_manifest_in_place(scene: Any, held: ExitStack) -> None:
    """No scratch file, no rename: a reader, or a crash, sees half of it."""
    replace = Path.replace

    def in_place(path: Path, target: Any) -> Path:
        if path.suffix != ".tmp":
            return replace(path, target)
        data = path.read_bytes()
        with open(target, "wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            file.write(data[len(data) // 2 :])
            os.fsync(file.fileno())
        path.unlink()
        return Path(target)

    held.enter_context(patch.object(Path, "replace", in_place))


def synchronous_off(scene: Any, held: ExitStack) -> None:
    """SQLite leaves it to the system when a commit reaches the disk."""
    _pragma(held, "synchronous=OFF")


def journal_in_memory(scene: Any, held: ExitStack) -> None:
    """SQLite keeps what it would need to undo half a commit in memory."""
    held.enter_context(patch.object(kb.catalog.database, "_use_wal", lambda connection: None))
    _pragma(held, "journal_mode=MEMORY")


def acknowledge_before_the_commit(scene: Any, held: ExitStack) -> None:
    """The answer goes out first."""
    held.enter_context(patch.object(scene, "begin", scene.ack))


def _pragma(held: ExitStack, pragma: str) -> None:
    prepare = kb.catalog.database._prepare_sqlite

    def prepared(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute(f"PRAGMA {pragma}")

    held.enter_context(patch.object(kb.catalog.database, "_prepare_sqlite", prepared))


BUGS = {
    bug.plant.__name__: bug
    for bug in (
        Bug("compact", "a manifest would name files without their bytes", skip_sync_of_index_files),
        Bug("compact", "a rename may be undone after the old files were removed", skip_sync_of_folders),
        Bug("backup", "a backup that was reported may be empty", skip_sync_of_the_backup),
        Bug("restore", "a catalog that was reported may be empty", skip_sync_of_the_restored),
        Bug("compact", "between the two the manifest names what is not safe", sync_behind_the_rename),
        Bug("compact", "between the two there is no checkpoint at all", unlink_before_the_rename),
        Bug("compact", "a deleted document would be found again", drop_tombstones),
        Bug("delete", "a deleted document would be found again by its words", drop_lexical_deletions),
        Bug("replace", "a crash between the two loses chunks from lexical search", mark_before_the_commit),
        Bug("compact", "half a manifest is no manifest", write_the_manifest_in_place),
        Bug("ingest", "acknowledged documents may be gone after a power cut", synchronous_off),
        Bug("replace", "a kill within a commit leaves half of it for ever", journal_in_memory),
        Bug("ingest", "a document that was acknowledged may never come", acknowledge_before_the_commit),
    )
}
