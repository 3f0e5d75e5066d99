"""Stored vectors become unit vectors and scores."""

import numpy as np

from kb.types import StoredVectors, Vectors


def unit(rows: StoredVectors | Vectors) -> Vectors:
    """Stored vectors as float32 of unit length; a zero stays one."""
    wide = rows.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return np.asarray(wide / np.maximum(norms, np.finfo(np.float32).tiny)[:, None], np.float32)


def products(rows: Vectors, vector: Vectors) -> Vectors:
    """Inner products, shape (len(rows),)."""
    # Not `rows @ vector`: the matrix library would take all cores for it, and its threads then spin for
    # tens of milliseconds on cores that the embedder needs (a quarter of the throughput under load).
    return np.asarray(np.einsum("ij,j->i", rows, vector), np.float32)
