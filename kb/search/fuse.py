"""Two scores into one."""

import numpy as np

from kb.types import Vectors


def fuse(dense: Vectors, lexical: Vectors, dense_weight: float = 0.5) -> Vectors:
    """The sum of both parts' standard scores, for candidates that both parts have scored, shape (n,).

    dense_weight: how much the dense part counts, from 0 to 1; the lexical part counts the rest, and at 0.5
    both count 1.

    Each part is centred and scaled over the candidates (z-scores, after Renda and Straccia, "Web
    metasearch: rank vs. score based rank aggregation methods", 2003). A part that cannot tell the
    candidates apart adds nothing. Unlike rank fusion this keeps how far ahead a candidate is, which
    is worth 0.03 nDCG@10 on SciFact and 0.1 on XQuAD de (benchmarks/README.md, "Fusion").
    """
    counts = np.float32(2 * dense_weight), np.float32(2 - 2 * dense_weight)
    return counts[0] * _standard(dense) + counts[1] * _standard(lexical)


def _standard(scores: Vectors) -> Vectors:
    if not len(scores):
        return scores
    wide = scores.astype(np.float64)
    spread = wide.std()
    # Below this the differences are rounding of float32.
    if spread <= 1e-6 * max(1.0, float(np.abs(wide).max())):
        return np.zeros(len(scores), np.float32)
    return np.asarray((wide - wide.mean()) / spread, np.float32)
