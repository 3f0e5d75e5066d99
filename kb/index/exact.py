"""The oracle: brute force in NumPy. Every vector index is tested against it."""

import numpy as np

from kb.errors import DimensionMismatch
from kb.types import Allowed, Ids, Neighbours, StoredVectors, Vectors


class ExactIndex:
    """A `VectorIndex` held in one array; nothing is kept on disk."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._seq = 0
        self._rows: dict[int, Vectors] = {}

    @property
    def seq(self) -> int:
        return self._seq

    @property
    def wants_checkpoint(self) -> bool:
        return False

    @property
    def recall(self) -> float | None:
        return None

    def __len__(self) -> int:
        return len(self._rows)

    def apply(self, seq: int, add: Ids, vectors: StoredVectors, remove: Ids) -> None:
        if vectors.shape != (len(add), self._dim):
            raise DimensionMismatch(f"vectors have shape {vectors.shape}, not ({len(add)}, {self._dim})")
        wide = vectors.astype(np.float32)
        norms = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        for chunk_id, vector in zip(add.tolist(), wide / norms, strict=True):
            self._rows.setdefault(chunk_id, vector)
        for chunk_id in remove.tolist():
            self._rows.pop(chunk_id, None)
        self._seq = seq

    def search(self, vector: Vectors, k: int, *, allow: Allowed | None = None) -> Neighbours:
        live = np.array(sorted(self._rows), np.int64)
        ids = live if allow is None else live[allow.hold(live)]
        scores = self.score(vector, ids)
        best = np.lexsort((ids, -scores))[:k]
        return Neighbours(ids[best], scores[best])

    def score(self, vector: Vectors, ids: Ids) -> Vectors:
        if vector.shape != (self._dim,):
            raise DimensionMismatch(
                f"the query vector has shape {vector.shape}, the index holds ({self._dim},)"
            )
        unknown = np.full(self._dim, np.nan, np.float32)
        rows = np.array([self._rows.get(chunk_id, unknown) for chunk_id in ids.tolist()], np.float32)
        # Not `@`: the matrix library's kernels may round equal rows differently, and equal scores go by id.
        return np.asarray(np.einsum("ij,j->i", rows.reshape(len(ids), self._dim), vector), np.float32)

    def ids(self) -> Ids:
        return np.array(sorted(self._rows), np.int64)

    def checkpoint(self) -> None:
        """Nothing to keep."""

    def tune(self, *, wait: bool = False) -> None:
        """Exact at any target."""

    def adopt(self) -> None:
        """Nobody else has it."""

    def close(self) -> None:
        """Nothing is under way."""
