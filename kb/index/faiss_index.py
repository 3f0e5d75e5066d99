"""FAISS behind the VectorIndex seam: an immutable memory-mapped base, and a small exact tail.

    <folder>/MANIFEST.json    seq, fingerprint, dim, and the base's files with their checksums
    <folder>/<name>.faiss     the base's vectors
    <folder>/<name>.ids       their chunk ids, int64, ascending

What changed since the base was written lives in the tail and in a mask of removed rows; both are
rebuilt from the feed at open. The only file that imports FAISS.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kb.errors import DimensionMismatch, IndexCorrupt
from kb.index.manifest import check_files, digest, mismatch, read_manifest, sync, write_manifest
from kb.types import Allowed, Ids, Neighbours, Vectors

_MANIFEST = "MANIFEST.json"
_LOCK = "checkpoint.lock"
# The tail is scanned beside the base. Past a quarter of the base it costs more to scan than to fold in;
# below this many rows neither cost is felt.
_SMALL_TAIL = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """Everything a search reads, replaced as a whole: a search never sees half a change."""

    seq: int
    base: Any
    base_ids: Ids
    dead: NDArray[np.bool_]
    tail: Vectors
    tail_ids: Ids

    @property
    def base_alive(self) -> int:
        return len(self.base_ids) - int(np.count_nonzero(self.dead))


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

    Opening maps the last checkpoint, or starts empty at seq 0 where there is none, or where it is
    damaged or of another embedder; the feed then brings it up to date.
    """

    def __init__(self, folder: Path, *, fingerprint: str, dim: int) -> None:
        self._folder = folder
        self._fingerprint = fingerprint
        self._dim = dim
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

    def __len__(self) -> int:
        return self._state.base_alive + len(self._state.tail_ids)

    def apply(self, seq: int, add: Ids, vectors: Vectors, remove: Ids) -> None:
        if vectors.shape != (len(add), self._dim):
            raise DimensionMismatch(f"vectors have shape {vectors.shape}, not ({len(add)}, {self._dim})")
        old = self._state
        new = ~(np.isin(add, old.base_ids[~old.dead]) | np.isin(add, old.tail_ids))
        tail = np.concatenate([old.tail, vectors[new]])
        tail_ids = np.concatenate([old.tail_ids, add[new]])
        kept = ~np.isin(tail_ids, remove)
        dead = old.dead | np.isin(old.base_ids, remove) if len(remove) else old.dead
        self._state = _State(seq, old.base, old.base_ids, dead, tail[kept], tail_ids[kept])
        if self._is_overgrown():
            self.checkpoint()

    def search(self, vector: Vectors, k: int, *, allow: Allowed | None = None) -> Neighbours:
        self._check(vector)
        state = self._state
        ids, scores = self._search_base(state, vector, k, allow)
        if len(state.tail_ids):
            kept = slice(None) if allow is None else allow.hold(state.tail_ids)
            ids = np.concatenate([ids, state.tail_ids[kept]])
            scores = np.concatenate([scores, _products(state.tail[kept], vector)])
        best = np.lexsort((ids, -scores))[:k]
        return Neighbours(ids[best], scores[best])

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        self._check(vector)
        state = self._state
        rows = np.full((len(ids), self._dim), np.nan, np.float32)
        in_base = _among(ids, state.base_ids)
        at = np.searchsorted(state.base_ids, ids[in_base])
        rows[in_base] = np.where(state.dead[at, None], np.nan, _rows(state.base, self._dim)[at])
        order = np.argsort(state.tail_ids)
        in_tail = _among(ids, state.tail_ids[order])
        rows[in_tail] = state.tail[order[np.searchsorted(state.tail_ids[order], ids[in_tail])]]
        return _products(rows, vector)

    def ids(self) -> Ids:
        state = self._state
        return np.sort(np.concatenate([state.base_ids[~state.dead], state.tail_ids]))

    def checkpoint(self) -> None:
        """Fold the tail into a new base, write it beside the old one, and switch to it.

        Files are synced before the manifest that names them is renamed into place, so a crash leaves
        either the old checkpoint or the new one. One process at a time; another skips its turn.
        """
        state = self._state
        if not len(state.tail_ids) and not state.dead.any() and self._is_written(state.seq):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._folder / _LOCK, timeout=0):
                self._write(state)
        except Timeout:
            return

    def _search_base(
        self, state: _State, vector: Vectors, k: int, allow: Allowed | None
    ) -> tuple[Ids, Vectors]:
        import faiss

        live = ~state.dead if allow is None else ~state.dead & allow.hold(state.base_ids)
        count = min(k, int(np.count_nonzero(live)))
        if not count:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parameters = None
        if count < len(live) and not live.all():
            # The mask goes into the scan itself: filtering afterwards would return fewer than k.
            mask = np.packbits(live, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(mask))  # type: ignore[call-arg, arg-type]
        scores, positions = state.base.search(vector[None], count, params=parameters)
        return state.base_ids[positions[0]], scores[0]

    def _check(self, vector: Vectors) -> None:
        if vector.shape != (self._dim,):
            raise DimensionMismatch(
                f"the query vector has shape {vector.shape}, the index holds ({self._dim},)"
            )

    def _is_overgrown(self) -> bool:
        state = self._state
        changed = len(state.tail_ids) + int(np.count_nonzero(state.dead))
        return changed > max(_SMALL_TAIL, len(state.base_ids) // 4)

    def _empty(self) -> _State:
        import faiss

        none = np.empty(0, np.int64)
        vectors = np.empty((0, self._dim), np.float32)
        return _State(0, faiss.IndexFlatIP(self._dim), none, np.empty(0, bool), vectors, none)

    def _is_written(self, seq: int) -> bool:
        try:
            return bool(read_manifest(self._folder / _MANIFEST)["seq"] == seq)
        except (FileNotFoundError, IndexCorrupt):
            return False

    def _open(self) -> _State:
        import faiss

        manifest = read_manifest(self._folder / _MANIFEST)
        if (manifest["fingerprint"], manifest["dim"]) != (self._fingerprint, self._dim):
            raise IndexCorrupt(f"{self._folder} was made by another embedder")
        # Before FAISS parses a byte: on hostile or torn files its reader has overflowed.
        check_files(self._folder, manifest["files"])
        paths = {Path(name).suffix: self._folder / name for name in manifest["files"]}
        ids = np.fromfile(paths[".ids"], "<i8")
        base = faiss.read_index(str(paths[".faiss"]), faiss.IO_FLAG_MMAP_IFC)
        if base.ntotal != len(ids) or base.d != self._dim:
            raise IndexCorrupt(f"{self._folder} holds {base.ntotal} vectors for {len(ids)} ids")
        empty = self._empty()
        return _State(manifest["seq"], base, ids, np.zeros(len(ids), bool), empty.tail, empty.tail_ids)

    def _write(self, state: _State) -> None:
        import faiss

        live = ~state.dead
        vectors = np.concatenate([_rows(state.base, self._dim)[live], state.tail])
        ids = np.concatenate([state.base_ids[live], state.tail_ids])
        order = np.argsort(ids)
        merged = faiss.IndexFlatIP(self._dim)
        merged.add(vectors[order])
        name = uuid4().hex
        faiss_file, ids_file = self._folder / f"{name}.faiss", self._folder / f"{name}.ids"
        faiss.write_index(merged, str(faiss_file))
        ids[order].astype("<i8").tofile(ids_file)
        for path in (faiss_file, ids_file):
            sync(path)
        manifest = {
            "seq": state.seq,
            "fingerprint": self._fingerprint,
            "dim": self._dim,
            "files": {path.name: digest(path) for path in (faiss_file, ids_file)},
        }
        write_manifest(self._folder / _MANIFEST, manifest)
        self._state = self._open()
        for old in self._folder.iterdir():
            if old.suffix in (".faiss", ".ids") and old.stem != name:
                # Another process may map it; where that forbids the removal, a later checkpoint retries.
                try:
                    old.unlink()
                except PermissionError:
                    log.debug("%s is still in use", old)


def _rows(base: Any, dim: int) -> Vectors:
    """The vectors of a flat index, without copying them."""
    import faiss

    if not base.ntotal:
        return np.empty((0, dim), np.float32)
    return np.asarray(faiss.rev_swig_ptr(base.get_xb(), base.ntotal * dim)).reshape(-1, dim)


def _products(rows: Vectors, vector: Vectors) -> Vectors:
    # Not `rows @ vector`: the matrix library would take all cores for it, and its threads then spin for
    # tens of milliseconds on cores that the embedder needs (a quarter of the throughput under load).
    return np.asarray(np.einsum("ij,j->i", rows, vector), np.float32)


def _among(ids: Ids, ascending: Ids) -> NDArray[np.bool_]:
    """Which of `ids` are in a sorted array."""
    if not len(ascending):
        return np.zeros(len(ids), bool)
    at = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
    return np.asarray(ascending[at] == ids)
