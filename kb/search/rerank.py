"""The best of the fused order, read again together with the query by a cross-encoder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kb.errors import InvalidInput
from kb.protocols import Reranker
from kb.types import Outcome, Vectors

MAX_DEPTH = 100
MAX_DEADLINE_MS = 60_000

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rerank:
    """How many of the best are read again, and how long that may take. Raises InvalidInput."""

    depth: int = 20
    deadline_ms: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MAX_DEPTH:
            raise InvalidInput(f"rerank_depth must be 1 to {MAX_DEPTH}", param="rerank_depth")
        if not 1 <= self.deadline_ms <= MAX_DEADLINE_MS:
            raise InvalidInput(
                f"rerank_deadline_ms must be 1 to {MAX_DEADLINE_MS}", param="rerank_deadline_ms"
            )


@dataclass(frozen=True, slots=True)
class Reranked:
    """What came of it.

    order: positions in fused order, best first. scores: the reranker's, by position; nan where it gave none.
    """

    outcome: Outcome
    order: Positions
    scores: Vectors


def reranked(
    reranker: Reranker,
    query: str,
    texts: Sequence[str],
    count: int,
    until: float,
    clock: Callable[[], float] = time.monotonic,
) -> Reranked:
    """`count` candidates, the first of which have `texts`, with these in the reranker's order.

    Equal scores stay in fused order, and so does whatever stands behind. The clock is looked at before each
    batch, so that `until` is overshot by one batch at most; when it has come, all stays in fused order:
    one of scored and unscored texts mixed would be neither the reranker's nor the fusion's.
    """
    scores = np.full(count, np.nan, np.float32)
    for rows in reranker.batches(query, texts):
        if clock() >= until:
            return Reranked("deadline", np.arange(count), np.full(count, np.nan, np.float32))
        scores[rows] = reranker.score(query, [texts[row] for row in rows])
    head = np.argsort(-scores[: len(texts)], kind="stable")
    return Reranked("done", np.concatenate([head, np.arange(len(texts), count)]), scores)
