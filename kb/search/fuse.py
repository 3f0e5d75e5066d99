"""Two scores into one."""

import numpy as np

from kb.types import Ids, Vectors

# Between 0.1 and 0.3 the gain hardly changes.
_SUPPORT = 0.2


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


def support(scores: Vectors, documents: Ids) -> Vectors:
    """Scores raised where another passage of the same document stands out too, shape (n,).

    documents: of each candidate. A fifth of the best other score is added if that is above the mean, 0:
    what a document is about shows in several of its passages (benchmarks/README.md, "Fusion").
    """
    order = np.lexsort((-scores, documents))
    ranked = scores[order]
    first = np.ones(len(order), bool)
    first[1:] = documents[order][1:] != documents[order][:-1]
    begins = np.flatnonzero(first)
    group = np.cumsum(first) - 1
    second = np.append(ranked, 0)[np.minimum(begins + 1, len(ranked))]
    second[np.diff(np.append(begins, len(ranked))) < 2] = 0
    others = np.where(first, second[group], ranked[begins][group])
    raised = np.empty_like(scores)
    raised[order] = ranked + np.float32(_SUPPORT) * np.maximum(others, 0)
    return raised


def _standard(scores: Vectors) -> Vectors:
    if not len(scores):
        return scores
    wide = scores.astype(np.float64)
    spread = wide.std()
    # Below this the differences are rounding of float32.
    if spread <= 1e-6 * max(1.0, float(np.abs(wide).max())):
        return np.zeros(len(scores), np.float32)
    return np.asarray((wide - wide.mean()) / spread, np.float32)
