"""The checkpoint of a dense index on the disk: one base, and the change number that it holds.

<folder>/MANIFEST.json      seq, fingerprint, dim, effort, and the base's files with their checksums
<folder>/<name>.*           the base's files, see kb/index/segment.py
<folder>/checkpoint.lock    held by whoever writes the next one, or takes one over
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from kb.errors import IndexCorrupt
from kb.index.calibrate import calibrated
from kb.index.compact import next_rows
from kb.index.manifest import check_files, digest, mismatch, read_manifest, sync, write_manifest
from kb.index.policy import Effort
from kb.index.segment import SUFFIXES, Base, write
from kb.index.state import State

_MANIFEST = "MANIFEST.json"
_LOCK = "checkpoint.lock"
# Counts up when the files change their shape: an index of another format is rebuilt.
_FORMAT = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a manifest says. files: checksums by name. effort: None where the base is scanned exactly."""

    name: str
    seq: int
    effort: Effort | None
    files: dict[str, str]


class CheckpointFolder:
    """The folder of one dense index, for vectors of one embedder."""

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._dim = dim

    def make(self) -> None:
        """The folder itself."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def lock(self, *, wait: bool) -> FileLock:
        """While it is held nobody else writes. Raises Timeout on entering where somebody does, unless it is
        to wait, and FileNotFoundError where there is no folder."""
        return FileLock(self._folder / _LOCK, timeout=-1 if wait else 0)

    def read(self) -> Checkpoint:
        """Raises FileNotFoundError, or IndexCorrupt where it is damaged or of another embedder."""
        manifest = read_manifest(self._folder / _MANIFEST)
        if manifest.get("format") != _FORMAT:
            raise IndexCorrupt(f"{self._folder} was made by another version of kb")
        if (manifest["fingerprint"], manifest["dim"]) != (self._fingerprint, self._dim):
            raise IndexCorrupt(f"{self._folder} was made by another embedder")
        effort = manifest["effort"]
        return Checkpoint(
            manifest["name"],
            manifest["seq"],
            None if effort is None else Effort.read(effort),
            manifest["files"],
        )

    def open(self) -> State:
        """Verify its files and map them. Raises as `read` does."""
        found = self.read()
        # Before FAISS parses a byte: on hostile or torn files its reader has overflowed.
        check_files(self._folder, found.files)
        base = Base(self._folder, found.name, self._dim, found.effort)
        return State.written(found.seq, base, self._dim)

    def write(self, state: State, recall: Callable[[], float], stopped: threading.Event) -> str:
        """The next base and its manifest, made of a state; returns its name. See `kb.index.segment.write`.

        Files are synced before the manifest that names them is renamed into place, so a crash leaves either
        the old checkpoint or the new one.
        """
        name = uuid4().hex
        rows = next_rows(state)
        files = write(self._folder, name, rows.ids, rows.blocks, self._dim, grown=rows.grown, stopped=stopped)
        base, effort = Base(self._folder, name, self._dim, None), None
        if base.kind != "flat":
            before = None if rows.grown is None else rows.grown.effort
            # The target as it is now: to write the files may have taken minutes.
            effort = calibrated(base, recall(), before, stopped)
        for path in files:
            sync(path)
        self._seal(Checkpoint(name, state.seq, effort, {path.name: digest(path) for path in files}))
        return name

    def keep_effort(self, name: str, effort: Effort) -> None:
        """Search a base with another effort from now on, if it is still the one here; no file is written
        but the manifest. Raises as `read` does."""
        found = self.read()
        if found.name == name:
            self._seal(replace(found, effort=effort))

    def keep_only(self, name: str) -> None:
        """Remove the files of every other base."""
        for old in self._folder.iterdir():
            if old.suffix in SUFFIXES and old.stem != name:
                # Another process may map it; where that forbids the removal, a later checkpoint retries.
                try:
                    old.unlink()
                except PermissionError:
                    log.debug("%s is still in use", old)

    def _seal(self, checkpoint: Checkpoint) -> None:
        effort = checkpoint.effort
        manifest = {
            "format": _FORMAT,
            "name": checkpoint.name,
            "seq": checkpoint.seq,
            "fingerprint": self._fingerprint,
            "dim": self._dim,
            "effort": None if effort is None else effort.stored(),
            "files": checkpoint.files,
        }
        write_manifest(self._folder / _MANIFEST, manifest)


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where all is well, or none was written yet."""
    if not (folder / _MANIFEST).exists():
        return None
    # While this is held nobody switches to another checkpoint.
    with FileLock(folder / _LOCK):
        return mismatch(folder / _MANIFEST)


def discard(folder: Path) -> None:
    """Forget the checkpoint: the next open starts empty."""
    if folder.is_dir():
        with FileLock(folder / _LOCK):
            (folder / _MANIFEST).unlink(missing_ok=True)
