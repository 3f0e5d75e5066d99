"""Two scores into one."""

import numpy as np
from numpy.typing import NDArray

from kb.types import Ids, Vectors

Mask = NDArray[np.bool_]

# Between 0.1 and 0.3 the gain hardly changes.
_SUPPORT = 0.2
# By how much a deeper look's best is behind the last before it, where it would not be anyway.
_BEHIND = np.float32(0.001)


def fuse(dense: Vectors, lexical: Vectors, first: Mask, dense_weight: float = 0.5) -> Vectors:
    """The sum of both parts' standard scores, for candidates that both parts have scored, shape (n,).

    dense_weight: how much the dense part counts, from 0 to 1; the lexical part counts the rest, and at 0.5
    both count 1. first: the candidates of the first look, shape (n,).

    Each part is centred and scaled over the first look, so that no score depends on how many hits are asked
    for (z-scores, after Renda and Straccia, "Web metasearch: rank vs. score based rank aggregation
    methods", 2003). A part that cannot tell those apart adds nothing. Unlike rank fusion this keeps how far
    ahead a candidate is, which is worth 0.03 nDCG@10 on SciFact and 0.1 on XQuAD de (benchmarks/README.md,
    "Fusion").
    """
    counts = np.float32(2 * dense_weight), np.float32(2 - 2 * dense_weight)
    return counts[0] * _standard(dense, first) + counts[1] * _standard(lexical, first)


def support(scores: Vectors, documents: Ids, first: Mask) -> Vectors:
    """Scores raised where another passage of the same document stands out too, shape (n,).

    documents: of each candidate. A fifth of the best other score of the first look is added if that is above
    the mean, 0: what a document is about shows in several of its passages (benchmarks/README.md, "Fusion").
    """
    supporting = np.where(first, scores, np.float32(-np.inf))
    order = np.lexsort((-supporting, documents))
    ranked = supporting[order]
    best = np.ones(len(order), bool)
    best[1:] = documents[order][1:] != documents[order][:-1]
    begins = np.flatnonzero(best)
    group = np.cumsum(best) - 1
    second = np.append(ranked, 0)[np.minimum(begins + 1, len(ranked))]
    second[np.diff(np.append(begins, len(ranked))) < 2] = 0
    others = np.where(best, second[group], ranked[begins][group])
    raised = np.empty_like(scores)
    raised[order] = scores[order] + np.float32(_SUPPORT) * np.maximum(others, 0)
    return raised


def behind(scores: Vectors, look: Ids) -> Vectors:
    """Scores with those of each deeper look lowered together, where they must be to come behind all before.

    look: that found each candidate, from 0, shape (n,). So what a look has found keeps its score and place
    however deep a search goes on.
    """
    placed, lowest = scores.copy(), np.float32(np.inf)
    for number in np.unique(look):
        here = look == number
        excess = placed[here].max() - lowest + _BEHIND
        if excess > 0:
            placed[here] -= excess
        lowest = placed[here].min()
    return placed


def _standard(scores: Vectors, first: Mask) -> Vectors:
    if not first.any():
        return np.zeros(len(scores), np.float32)
    wide = scores.astype(np.float64)
    spread = wide[first].std()
    # Below this the differences are rounding of float32.
    if spread <= 1e-6 * max(1.0, float(np.abs(wide[first]).max())):
        return np.zeros(len(scores), np.float32)
    return np.asarray((wide - wide[first].mean()) / spread, np.float32)
