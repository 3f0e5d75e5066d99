"""Passages of a few pages, ranked for one question in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kb.index.analysis import stemmer_of, terms
from kb.protocols import Embedder
from kb.search.fuse import fuse, support
from kb.types import Ids, Vectors

# As tantivy has them.
_K1, _B = 1.2, 0.75

MOST_EMBEDDED = 96
"""Passages; of more, the best by words. They take one to two seconds, and ten on the slowest machines."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage with what stands above it. page: a number of the page that it is on. language: of that."""

    text: str
    page: int
    language: str


def ranked(question: str, candidates: Sequence[Candidate], embedder: Embedder, dense_weight: float) -> Ids:
    """Positions of candidates, best first, as the hybrid search of a knowledge base would rank them.

    Where there are more than MOST_EMBEDDED, the rest is left out.
    """
    if not candidates:
        return np.empty(0, np.int64)
    lexical = bm25(question, candidates)
    # Equal ones, such as those without a word in common, in the order of their pages.
    chosen = np.sort(np.argsort(-lexical, kind="stable")[:MOST_EMBEDDED])
    passages = embedder.embed_passages([candidates[at].text for at in chosen])
    dense = passages @ embedder.embed_queries([question])[0]
    first = np.ones(len(chosen), bool)
    pages = np.array([candidates[at].page for at in chosen], np.int64)
    scores = support(fuse(dense, lexical[chosen], first, dense_weight), pages, first)
    return np.asarray(chosen[np.argsort(-scores, kind="stable")], np.int64)


def bm25(question: str, candidates: Sequence[Candidate]) -> Vectors:
    """BM25 over just these candidates, float32, shape (len(candidates),).

    Each is read, and the question for it, in its own language. The formula is that of Robertson and Zaragoza,
    "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with tantivy's constants and its
    log(1 + (N - n + 0.5) / (n + 0.5)).
    """
    stemmers = [stemmer_of(candidate.language) for candidate in candidates]
    asked = {stemmer: terms(question, stemmer) for stemmer in set(stemmers)}
    counted = [
        Counter(terms(candidate.text, stemmer))
        for candidate, stemmer in zip(candidates, stemmers, strict=True)
    ]
    lengths = np.array([count.total() for count in counted], np.float64)
    norm = _K1 * (1 - _B + _B * lengths / max(1.0, lengths.mean()))
    scores = np.zeros(len(candidates))
    # Every stemmer gives as many terms of the question, each at its word's place.
    for place in range(max(map(len, asked.values()))):
        often = np.array(
            [count[asked[stemmer][place]] for count, stemmer in zip(counted, stemmers, strict=True)], float
        )
        having = np.count_nonzero(often)
        weight = np.log(1 + (len(candidates) - having + 0.5) / (having + 0.5))
        scores += weight * often * (_K1 + 1) / (often + norm)
    return scores.astype(np.float32)
