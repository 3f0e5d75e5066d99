"""An immutable base: files written once, verified before they are parsed, mapped by every process.

    <name>.ids      chunk ids, int64, by row; -1 for a row that is only a way mark of the graph
    <name>.rows     vectors as the catalog keeps them, float16, by row
    <name>.flat     unit vectors, float32, scanned exactly                  small bases
    <name>.codes    RaBitQ, two bits a dimension, scanned and refined       larger ones
    <name>.graph    HNSW over 6-bit codes                                   the largest, beside the codes

The only file that imports FAISS. Codes: Gao et al., "Practical and asymptotically optimal quantization of
high-dimensional vectors in Euclidean space for approximate nearest neighbor search", 2024; graph: Malkov and
Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical navigable small world
graphs", 2016.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kb.errors import IndexCorrupt, Interrupted
from kb.index.policy import (
    BUILD_BEAM,
    FLAT_UNTIL,
    GRAPH_FROM,
    LINKS,
    Effort,
    graph_refine,
    way,
)
from kb.index.vectors import products, unit
from kb.types import Ids, StoredVectors, Vectors

Kind = Literal["flat", "codes", "graph"]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]

SUFFIXES = (".ids", ".rows", ".flat", ".codes", ".graph")
# Rows handled at once while building: 6 MB of float32, and two seconds of a graph before a stop is heeded.
_AT_ONCE = 4096
# What is done in the background leaves half of the cores to the searches beside it.
HALF = max(1, (os.cpu_count() or 2) // 2)
# Bits a dimension of a code, and of the query it is compared with.
_CODE_BITS, _QUERY_BITS = 2, 4


class Base:
    """The vectors of one checkpoint. Rows are numbered from 0; thread-safe."""

    def __init__(self, folder: Path, name: str, dim: int, effort: Effort | None) -> None:
        """Map the files of a checkpoint that `check_files` has verified. Raises IndexCorrupt."""
        self.name = name
        self.effort = effort
        self._dim = dim
        self.ids: Ids = np.fromfile(folder / f"{name}.ids", "<i8")
        self._rows = _RowFile(folder / f"{name}.rows", dim)
        self._flat = _mapped(folder / f"{name}.flat")
        self._codes = _mapped(folder / f"{name}.codes")
        self._graph_file = folder / f"{name}.graph"
        self._graph = _mapped(self._graph_file)
        for index in (self._flat, self._codes, self._graph):
            if index is not None and (index.ntotal, index.d) != (len(self.ids), dim):
                raise IndexCorrupt(f"{folder / name} holds {index.ntotal} vectors for {len(self.ids)} ids")
        # Of a small base the unit vectors are in memory already: a view of what is scanned.
        self._units = None if self._flat is None else _stored_in(self._flat)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_graph(self) -> bool:
        """Whether a graph was built."""
        return self._graph is not None

    @property
    def kind(self) -> Kind:
        """What it is searched by: scanned exactly, by its codes, or by them and the graph."""
        if self._flat is not None:
            return "flat"
        return "graph" if self.has_graph else "codes"

    def at(self, effort: Effort) -> Self:
        """The same base, its files shared, searched with another effort."""
        other = copy(self)
        other.effort = effort
        return other

    def search(self, vector: Vectors, k: int, keep: Mask) -> tuple[Positions, Vectors, bool]:
        """Rows and scores of the best k that are kept, with others and in no order; whether they are exact.

        vector: unit length, shape (dim,). Fewer than k only when fewer are kept.
        """
        kept = int(np.count_nonzero(keep))
        k = min(k, kept)
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.float32), True
        if self._flat is not None:
            scores, rows = self._flat.search(vector[None], k, params=_picking(keep, kept))
            return rows[0], scores[0], True
        assert self.effort is not None
        rows = np.empty(0, np.int64)
        chosen = way(len(self), kept, k, self.effort, graph=self.has_graph)
        if chosen == "graph":
            rows = self.walk(vector, self.effort.beam(k, kept / len(self)))
            rows = rows[keep[rows]][: graph_refine(k)]
            # The beam's rows are the nearest of all, so those of them that are kept are the nearest kept
            # ones. Too few means that the filter keeps what lies elsewhere.
            if len(rows) < k:
                chosen = "codes"
        if chosen == "codes":
            rows = self.scan(vector, min(kept, self.effort.refine(k)), keep, kept)
        if chosen == "rows" or len(rows) < k:
            rows = np.flatnonzero(keep)
        return rows, self.score(vector, rows), len(rows) == kept

    def walk(self, vector: Vectors, beam: int) -> Positions:
        """Rows that a walk of the graph finds nearest, best first, at most `beam`."""
        import faiss

        parameters = faiss.SearchParametersHNSW(efSearch=beam)  # type: ignore[attr-defined]
        rows = self._graph.search(vector[None], min(beam, len(self)), params=parameters)[1][0]
        return np.asarray(rows[rows >= 0])

    def scan(self, vector: Vectors, count: int, keep: Mask, kept: int) -> Positions:
        """The kept rows whose codes score best, at most `count`."""
        import faiss

        parameters = faiss.RaBitQSearchParameters()
        parameters.qb = _QUERY_BITS
        picking = _picking(keep, kept)
        if picking is not None:
            parameters.sel = picking.sel
        # A team of threads would be started for one question; on a busy machine its members wait for each
        # other twenty times as long as the scan takes.
        with threads(1):
            rows = self._codes.search(vector[None], count, params=parameters)[1][0]
        return np.asarray(rows[rows >= 0])

    def score(self, vector: Vectors, rows: Positions) -> Vectors:
        """Inner products of some rows' unit vectors with `vector`, shape (len(rows),)."""
        return products(self.vectors(rows), vector)

    def vectors(self, rows: Positions) -> Vectors:
        """Some rows' unit vectors, shape (len(rows), dim)."""
        return unit(self._rows.take(rows)) if self._units is None else self._units[rows]

    def blocks(self) -> Iterator[StoredVectors]:
        """All stored vectors in order, a bounded number at a time."""
        for at in range(0, len(self), _AT_ONCE):
            yield self._rows.take(np.arange(at, min(at + _AT_ONCE, len(self))))

    def flat_blocks(self) -> Iterator[Any]:
        """The same as exact indexes of unit vectors, way marks left out."""
        import faiss

        at = 0
        for block in self.blocks():
            flat = faiss.IndexFlatIP(self._dim)
            flat.add(unit(block[self.ids[at : at + len(block)] >= 0]))
            at += len(block)
            yield flat

    def thawed_graph(self) -> Any:
        """The graph in memory, to which more can be added; a mapped one, or a clone of it, would crash."""
        import faiss

        return faiss.read_index(str(self._graph_file))


class _RowFile:
    """float16 rows of a file, read where they are asked for: mapped, each would keep its page resident."""

    def __init__(self, path: Path, dim: int) -> None:
        self._dim = dim
        self._bytes = 2 * dim
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._moving = threading.Lock()
        weakref.finalize(self, os.close, self._file)

    def take(self, rows: Positions) -> StoredVectors:
        """Some rows, shape (len(rows), dim)."""
        if not len(rows):
            return np.empty((0, self._dim), np.float16)
        size = self._bytes
        # Rows that follow each other are read together.
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        firsts = rows[np.concatenate([[0], edges])]
        counts = np.diff(np.concatenate([[0], edges, [len(rows)]]))
        parts = [
            self._read(count * size, first * size)
            for first, count in zip(firsts.tolist(), counts.tolist(), strict=True)
        ]
        return np.frombuffer(b"".join(parts), "<f2").reshape(len(rows), self._dim)

    def _read(self, size: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file, size, offset)
        with self._moving:
            os.lseek(self._file, offset, os.SEEK_SET)
            return os.read(self._file, size)


def write(
    folder: Path,
    name: str,
    ids: Ids,
    blocks: Iterator[StoredVectors],
    dim: int,
    *,
    grown: Base | None,
    stopped: threading.Event,
) -> list[Path]:
    """Write a base of some rows; returns its files, not yet synced.

    grown: an earlier base whose rows are the first of these, in the same places; its graph is added to.
    Raises Interrupted soon after `stopped` is set.
    """
    import faiss

    total = len(ids)
    files = {suffix: folder / f"{name}{suffix}" for suffix in SUFFIXES}
    files[".ids"].write_bytes(ids.astype("<i8").tobytes())
    with files[".rows"].open("wb") as file:
        for block in blocks:
            file.write(block.astype("<f2").tobytes())
    rows = _RowFile(files[".rows"], dim)
    if total <= FLAT_UNTIL:
        flat = faiss.IndexFlatIP(dim)
        _add(flat, rows, 0, total, stopped)
        _save(flat, files[".flat"])
        return [files[".ids"], files[".rows"], files[".flat"]]
    with threads(HALF):
        codes = faiss.IndexRaBitQ(dim, faiss.METRIC_INNER_PRODUCT, _CODE_BITS)
        codes.train(unit(rows.take(np.arange(0, total, max(1, total // _AT_ONCE)))))
        _add(codes, rows, 0, total, stopped)
        _save(codes, files[".codes"])
        made = [files[".ids"], files[".rows"], files[".codes"]]
        if total >= GRAPH_FROM:
            if grown is not None and grown.has_graph:
                graph, first = grown.thawed_graph(), len(grown)
            else:
                graph, first = _new_graph(dim), 0
                graph.train(unit(rows.take(np.arange(0, total, max(1, total // _AT_ONCE)))))
            _add(graph, rows, first, total, stopped)
            _save(graph, files[".graph"])
            made.append(files[".graph"])
    return made


@contextmanager
def threads(count: int) -> Iterator[None]:
    """FAISS, called from this thread, uses so many."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _new_graph(dim: int) -> Any:
    import faiss

    graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_6bit, LINKS, faiss.METRIC_INNER_PRODUCT)  # type: ignore[arg-type]
    graph.hnsw.efConstruction = BUILD_BEAM
    return graph


def _add(index: Any, rows: _RowFile, first: int, end: int, stopped: threading.Event) -> None:
    for at in range(first, end, _AT_ONCE):
        if stopped.is_set():
            raise Interrupted("the index was closed before its next checkpoint was written")
        index.add(unit(rows.take(np.arange(at, min(at + _AT_ONCE, end)))))


def _save(index: Any, path: Path) -> None:
    """Through Python's file: an error of the last write, which comes at closing, is lost in FAISS's own."""
    import faiss

    with path.open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]


def _picking(keep: Mask, kept: int) -> Any:
    """FAISS parameters that limit a scan to what is kept; None for all."""
    import faiss

    if kept == len(keep):
        return None
    # The mask goes into the scan itself: filtering afterwards would return fewer than k.
    bits = np.packbits(keep, bitorder="little")
    return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg, arg-type]


def _stored_in(flat: Any) -> Vectors:
    """The vectors of a flat index, shape (n, dim); valid while it lives."""
    import faiss

    return np.asarray(faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)).reshape(flat.ntotal, flat.d)


def _mapped(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC) if path.exists() else None
