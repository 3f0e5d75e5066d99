"""The VectorIndex on one folder: an immutable base, a small exact tail, and masks of removed rows.

    <folder>/MANIFEST.json    seq, fingerprint, dim, effort, and the base's files with their checksums
    <folder>/<name>.*         the base's files, see kb/index/segment.py

What changed since the base was written lives in the tail and in the masks; both are rebuilt from the feed
at open. A compaction writes the next base beside this one while searches and changes go on.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from kb.errors import DimensionMismatch, IndexCorrupt
from kb.index.compact import next_rows
from kb.index.manifest import check_files, digest, mismatch, read_manifest, sync, write_manifest
from kb.index.policy import Effort
from kb.index.segment import SUFFIXES, Base, Mask, Positions, effort_for, write
from kb.index.tune import Cost, cost
from kb.index.vectors import products, unit
from kb.types import RECALL, Allowed, Ids, Neighbours, StoredVectors, Vectors, positions

_MANIFEST = "MANIFEST.json"
_LOCK = "checkpoint.lock"
# Counts up when the files change their shape: an index of another format is rebuilt.
_FORMAT = 3
# The tail is scanned beside the base: a sixteenth of it costs a search a tenth more.
# Below this many changes a checkpoint would save nobody anything.
_SMALL_TAIL = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Everything a search reads, replaced as a whole: a search never sees half a change."""

    seq: int
    base: Base | None
    order: Positions
    """Rows of the base by ascending chunk id."""
    ordered_ids: Ids
    base_live: Mask
    tail: StoredVectors
    tail_units: Vectors
    tail_ids: Ids
    tail_live: Mask

    @property
    def base_ids(self) -> Ids:
        return np.empty(0, np.int64) if self.base is None else self.base.ids

    @property
    def changed(self) -> int:
        """How many rows of the base were removed, and how many the tail has."""
        return int(np.count_nonzero(~self.base_live & (self.base_ids >= 0))) + len(self.tail_ids)

    def rows_of(self, ids: Ids) -> Positions:
        """Rows of the base that hold some ids; -1 where none does, or it was removed."""
        at = positions(ids, self.ordered_ids)
        rows = np.where(at < 0, -1, self.order[at] if len(self.order) else at)
        return np.where((rows >= 0) & self._live(rows), rows, -1)

    def tail_of(self, ids: Ids) -> Positions:
        """The same of the tail."""
        order = np.argsort(self.tail_ids, kind="stable")
        at = positions(ids, self.tail_ids[order])
        rows = np.where(at < 0, -1, order[at] if len(order) else at)
        return np.where((rows >= 0) & self.tail_live[rows], rows, -1) if len(order) else rows

    def live_ids(self) -> Ids:
        return np.sort(np.concatenate([self.base_ids[self.base_live], self.tail_ids[self.tail_live]]))

    def _live(self, rows: Positions) -> Mask:
        return self.base_live[rows] if len(self.base_live) else np.zeros(len(rows), bool)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where the rows of a base stand among the chunks of a filter; kept while neither changes."""

    chunks: Ids
    base: Base
    at: Positions
    known: Mask

    def mask(self, allow: Allowed) -> Mask:
        return allow.mask[self.at] & self.known


def default_recall() -> float:
    """The target where nobody set another."""
    return RECALL


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


class FaissIndex:
    """A `VectorIndex` over one folder, for vectors of one embedder.

    recall: tells the share of the best that an approximate search must find; asked whenever an effort is
    found out or taken over, for another process may have set it. Opening maps the last checkpoint, or starts
    empty at seq 0 where there is none, or where it is damaged or of another embedder; the feed then brings
    it up to date.
    """

    def __init__(
        self, folder: Path, *, fingerprint: str, dim: int, recall: Callable[[], float] = default_recall
    ) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._dim = dim
        self._recall = recall
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._places: _Places | None = None
        self._state = self._empty()
        for attempt in ("first", "last"):
            try:
                self._state = self._open()
                break
            except FileNotFoundError:
                break
            except IndexCorrupt as error:
                # Another process may have switched to a newer checkpoint between manifest and files.
                if attempt == "last":
                    log.warning("%s; rebuilding from the catalog", error)

    @property
    def seq(self) -> int:
        return self._state.seq

    @property
    def wants_checkpoint(self) -> bool:
        return self._state.changed > max(_SMALL_TAIL, len(self._state.base_ids) // 16)

    @property
    def recall(self) -> float | None:
        base = self._state.base
        return None if base is None or base.effort is None else base.effort.recall

    def cost(self) -> Cost | None:
        """What a search of the base costs; None where none is written, or nothing is in it."""
        base = self._state.base
        return None if base is None or not (base.ids >= 0).any() else cost(base)

    def __len__(self) -> int:
        state = self._state
        return int(np.count_nonzero(state.base_live) + np.count_nonzero(state.tail_live))

    def apply(self, seq: int, add: Ids, vectors: StoredVectors, remove: Ids) -> None:
        if vectors.shape != (len(add), self._dim):
            raise DimensionMismatch(f"vectors have shape {vectors.shape}, not ({len(add)}, {self._dim})")
        with self._changing:
            old = self._state
            gone_rows, gone_tail = old.rows_of(remove), old.tail_of(remove)
            wanted = ~np.isin(add, remove) & (old.rows_of(add) < 0) & (old.tail_of(add) < 0)
            # Of an id given twice the first vector stays.
            wanted[np.setdiff1d(np.arange(len(add)), np.unique(add, return_index=True)[1])] = False
            self._state = replace(
                old,
                seq=seq,
                base_live=_without(old.base_live, gone_rows),
                tail=np.concatenate([old.tail, vectors[wanted]]),
                tail_units=np.concatenate([old.tail_units, unit(vectors[wanted])]),
                tail_ids=np.concatenate([old.tail_ids, add[wanted]]),
                tail_live=np.concatenate(
                    [_without(old.tail_live, gone_tail), np.ones(int(wanted.sum()), bool)]
                ),
            )

    def search(self, vector: Vectors, k: int, *, allow: Allowed | None = None) -> Neighbours:
        self._check(vector)
        state, exact = self._state, True
        ids, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        if state.base is not None:
            keep = state.base_live if allow is None else state.base_live & self._kept(state.base, allow)
            rows, scores, exact = state.base.search(vector, k, keep)
            ids = state.base.ids[rows]
        if len(state.tail_ids):
            kept = state.tail_live if allow is None else state.tail_live & allow.hold(state.tail_ids)
            ids = np.concatenate([ids, state.tail_ids[kept]])
            scores = np.concatenate([scores, products(state.tail_units, vector)[kept]])
        best = np.lexsort((ids, -scores))[:k]
        return Neighbours(ids[best], scores[best], exact)

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        self._check(vector)
        state = self._state
        scores = np.full(len(ids), np.nan, np.float32)
        rows = state.rows_of(ids)
        if state.base is not None and (rows >= 0).any():
            scores[rows >= 0] = state.base.score(vector, rows[rows >= 0])
        tail = state.tail_of(ids)
        scores[tail >= 0] = products(state.tail_units[tail[tail >= 0]], vector)
        return scores

    def ids(self) -> Ids:
        return self._state.live_ids()

    def checkpoint(self) -> None:
        """Write the next base beside this one.

        Files are synced before the manifest that names them is renamed into place, so a crash leaves
        either the old checkpoint or the new one. Searches and changes go on meanwhile.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / _LOCK, timeout=0):
                self._take_over()
                state = self._state
                if state.changed or not self._is_written(state.seq):
                    self._write(state)
                else:
                    self._aim()
        except Timeout:
            return

    def tune(self, *, wait: bool = False) -> None:
        if self.recall is None:
            return
        try:
            with FileLock(self._folder / _LOCK, timeout=-1 if wait else 0):
                self._take_over()
                self._aim()
        except (Timeout, FileNotFoundError):
            return

    def adopt(self) -> None:
        try:
            with FileLock(self._folder / _LOCK, timeout=0):
                self._take_over()
        except (Timeout, FileNotFoundError):
            return

    def close(self) -> None:
        self._stopped.set()

    def _take_over(self) -> None:
        with suppress(FileNotFoundError, IndexCorrupt):
            base, manifest = self._state.base, self._manifest()
            if base is None or manifest["name"] != base.name:
                self._switch(self._open())
            elif manifest["effort"] is not None:
                effort = Effort.read(manifest["effort"])
                # One of another target is left: whoever wrote it did not know of this one yet.
                if effort.recall == self._recall():
                    self._search_with(effort)

    def _aim(self) -> None:
        """Find the base's effort anew where it is that of another target; its files stay as they are.

        A crash leaves the old effort in the manifest, which the next search of any process then mends.
        """
        base, recall = self._state.base, self._recall()
        if base is None or base.effort is None or base.effort.recall == recall:
            return
        effort = effort_for(base, recall, None, self._stopped)
        # Kept in memory first: where the disk refuses the manifest, this process need not try again.
        self._search_with(effort)
        with suppress(FileNotFoundError, IndexCorrupt):
            manifest = self._manifest()
            if manifest["name"] == base.name:
                write_manifest(self._folder / _MANIFEST, {**manifest, "effort": effort.stored()})

    def _search_with(self, effort: Effort) -> None:
        with self._changing:
            base = self._state.base
            if base is not None and base.effort != effort:
                self._state = replace(self._state, base=base.at(effort))

    def _write(self, state: _State) -> None:
        name = uuid4().hex
        rows = next_rows(state.base, state.base_live, state.tail, state.tail_ids, state.tail_live)
        files, effort = write(
            self._folder,
            name,
            rows.ids,
            rows.blocks,
            self._dim,
            grown=rows.grown,
            recall=self._recall,
            stopped=self._stopped,
        )
        for path in files:
            sync(path)
        manifest = {
            "format": _FORMAT,
            "name": name,
            "seq": state.seq,
            "fingerprint": self._fingerprint,
            "dim": self._dim,
            "effort": None if effort is None else effort.stored(),
            "files": {path.name: digest(path) for path in files},
        }
        write_manifest(self._folder / _MANIFEST, manifest)
        self._switch(self._open())
        for old in self._folder.iterdir():
            if old.suffix in SUFFIXES and old.stem != name:
                # Another process may map it; where that forbids the removal, a later checkpoint retries.
                try:
                    old.unlink()
                except PermissionError:
                    log.debug("%s is still in use", old)

    def _switch(self, opened: _State) -> None:
        """Use another base; what was applied since it was written stays applied."""
        with self._changing:
            now = self._state
            if opened.seq >= now.seq:
                self._state = opened
                return
            live = now.live_ids()
            base_live = opened.base_live & (positions(opened.base_ids, live) >= 0)
            kept = now.tail_live & (opened.rows_of(now.tail_ids) < 0)
            self._state = replace(
                opened,
                seq=now.seq,
                base_live=base_live,
                tail=now.tail[kept],
                tail_units=now.tail_units[kept],
                tail_ids=now.tail_ids[kept],
                tail_live=np.ones(int(kept.sum()), bool),
            )

    def _kept(self, base: Base, allow: Allowed) -> Mask:
        places = self._places
        if places is None or places.chunks is not allow.chunks or places.base is not base:
            at = positions(base.ids, allow.chunks)
            self._places = places = _Places(allow.chunks, base, at, at >= 0)
        return places.mask(allow) if len(allow.chunks) else np.zeros(len(base), bool)

    def _check(self, vector: Vectors) -> None:
        if vector.shape != (self._dim,):
            raise DimensionMismatch(
                f"the query vector has shape {vector.shape}, the index holds ({self._dim},)"
            )

    def _empty(self) -> _State:
        none, mask = np.empty(0, np.int64), np.empty(0, bool)
        rows = np.empty((0, self._dim), np.float16)
        return _State(0, None, none, none, mask, rows, rows.astype(np.float32), none, mask)

    def _manifest(self) -> dict[str, Any]:
        """Raises FileNotFoundError, or IndexCorrupt where it is damaged or of another embedder."""
        manifest = read_manifest(self._folder / _MANIFEST)
        if manifest.get("format") != _FORMAT:
            raise IndexCorrupt(f"{self._folder} was made by another version of kb")
        if (manifest["fingerprint"], manifest["dim"]) != (self._fingerprint, self._dim):
            raise IndexCorrupt(f"{self._folder} was made by another embedder")
        return manifest

    def _is_written(self, seq: int) -> bool:
        try:
            return bool(self._manifest()["seq"] == seq)
        except (FileNotFoundError, IndexCorrupt):
            return False

    def _open(self) -> _State:
        manifest = self._manifest()
        # Before FAISS parses a byte: on hostile or torn files its reader has overflowed.
        check_files(self._folder, manifest["files"])
        effort = manifest["effort"]
        base = Base(
            self._folder, manifest["name"], self._dim, None if effort is None else Effort.read(effort)
        )
        order = np.argsort(base.ids, kind="stable")
        return replace(
            self._empty(),
            seq=manifest["seq"],
            base=base,
            order=order,
            ordered_ids=base.ids[order],
            base_live=base.ids >= 0,
        )


def _without(mask: Mask, rows: Positions) -> Mask:
    """A mask with some rows (-1: none) cleared."""
    rows = rows[rows >= 0]
    if not len(rows):
        return mask
    cleared = mask.copy()
    cleared[rows] = False
    return cleared
