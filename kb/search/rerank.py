"""The best of the fused order, read again together with the query by a cross-encoder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kb.errors import InvalidInput
from kb.protocols import Reranker
from kb.search.ranking import Ranking
from kb.types import Outcome, Vectors

MAX_DEPTH = 100
MAX_DEADLINE_MS = 60_000


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


class Reranking:
    """The stage of one search: its deadline runs from the first ranking, however deep the search goes.

    queries: those of the search. indexed: what stands in the index for some chunks, in order. explain: tell
    ranks. outcome: of the last ranking.
    """

    def __init__(
        self,
        reranker: Reranker,
        queries: Sequence[str],
        options: Rerank,
        indexed: Callable[[Sequence[int]], list[str]],
        *,
        explain: bool = False,
    ) -> None:
        self._reranker = reranker
        self._queries = queries
        self._options = options
        self._indexed = indexed
        self._explain = explain
        self._until: float | None = None
        # By query and chunk: a deeper ranking of the same search begins with much the same chunks.
        self._known: dict[tuple[int, int], float] = {}
        self.outcome: Outcome = "done"

    @property
    def depth(self) -> int:
        """How many of the best are read again."""
        return self._options.depth

    def order(self, ranking: Ranking, threshold: float | None) -> Ranking:
        """The same with its best in the reranker's order; those below `threshold` stay behind."""
        if self._until is None:
            self._until = time.monotonic() + self._options.deadline_ms / 1000
        # Nothing may rise above what a shape counts as final, or as good enough.
        count, least = len(ranking.ids), max(ranking.floor, -np.inf if threshold is None else threshold)
        head = min(self._options.depth, int(np.count_nonzero(ranking.scores >= np.float64(least))))
        queries = np.zeros(head, np.int64) if ranking.query is None else ranking.query[:head]
        pairs = list(zip(queries.tolist(), ranking.ids[:head].tolist(), strict=True))
        if not self._score(pairs, self._until):
            self.outcome = "deadline"
            return ranking
        self.outcome = "done"
        scores = np.full(count, np.nan, np.float32)
        scores[:head] = [self._known[pair] for pair in pairs]
        order = np.concatenate([np.argsort(-scores[:head], kind="stable"), np.arange(head, count)])
        ranks = {name: places[order] for name, places in ranking.ranks.items()}
        if self._explain:
            ranks["rerank"] = np.where(np.arange(count) < head, np.arange(1, count + 1), 0)
        return replace(
            ranking,
            ids=ranking.ids[order],
            scores=ranking.scores[order],
            parts={name: part[order] for name, part in {**ranking.parts, "rerank": scores}.items()},
            ranks=ranks,
            query=None if ranking.query is None else ranking.query[order],
        )

    def _score(self, pairs: Sequence[tuple[int, int]], until: float) -> bool:
        """Whether all of some pairs of query and chunk have their score in time."""
        for number, query in enumerate(self._queries):
            new = [pair for pair in pairs if pair[0] == number and pair not in self._known]
            scores = scored(self._reranker, query, self._indexed([chunk for _, chunk in new]), until)
            if scores is None:
                return False
            self._known.update(zip(new, scores.tolist(), strict=True))
        return True


def scored(
    reranker: Reranker,
    query: str,
    texts: Sequence[str],
    until: float,
    clock: Callable[[], float] = time.monotonic,
) -> Vectors | None:
    """The reranker's score of each text, shape (len(texts),), or None when `until` came first.

    The clock is looked at before each batch, so that `until` is overshot by one batch at most. All or
    nothing: an order of scored and unscored texts would be neither the reranker's nor the fusion's.
    """
    scores = np.empty(len(texts), np.float32)
    for rows in reranker.batches(query, texts):
        if clock() >= until:
            return None
        scores[rows] = reranker.score(query, [texts[row] for row in rows])
    return scores
