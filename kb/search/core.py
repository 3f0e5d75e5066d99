"""Trip 2a: a question becomes hits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kb.catalog.documents import Documents
from kb.errors import InvalidInput
from kb.search.fuse import fuse, support
from kb.search.live import LiveIndexes
from kb.types import Filter, Ids, KnowledgeBase, Mode, SearchResult, Vectors, is_unicode

MAX_TOP_K = 1000
MAX_QUERY = 8192
_MODES = ("hybrid", "dense", "lexical")
# Candidates of each part; from 20 to 1,000 the quality moves by less than 0.01.
_DEPTH = 100
# A document replaced between the index and the catalog read costs its hits; then the search is repeated.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Scored chunks of one or more knowledge bases; arrays of one length. A part not asked for is empty."""

    ids: Ids
    dense: Vectors
    lexical: Vectors
    exact: bool


class SearchCore:
    """Searches knowledge bases.

    embed: the vector of a query under a knowledge base's model, shape (dim,).
    live: the indexes of a knowledge base.
    """

    def __init__(
        self,
        documents: Documents,
        embed: Callable[[KnowledgeBase, str], Vectors],
        live: Callable[[KnowledgeBase], LiveIndexes],
    ) -> None:
        self._documents = documents
        self._embed = embed
        self._live = live

    def search(
        self,
        kbs: Sequence[KnowledgeBase],
        query: str,
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        score_threshold: float | None = None,
        dense_weight: float = 0.5,
    ) -> SearchResult:
        """The best `top_k` chunks, best first; equal scores go by chunk id.

        `score` is the inner product (dense), BM25 (lexical) or the sum of both standard scores (hybrid),
        raised where its document has more that fits; that says how far a hit stands out among the
        candidates and means nothing across queries.
        dense_weight: as in `fuse`, for hybrid.
        Fewer than top_k come back only when fewer match. Raises InvalidInput, naming the argument.
        """
        _check(kbs, query, top_k, mode, dense_weight)
        clock = _Clock()
        vector = None if mode == "lexical" else self._embed(kbs[0], query)
        clock.lap("embed")
        for attempt in range(_ATTEMPTS):
            found = [
                self._candidates(kb, query, vector, mode, max(_DEPTH, top_k), where, clock) for kb in kbs
            ]
            ids, scores, parts = _ranked(
                found, mode, top_k, score_threshold, dense_weight, self._documents.owners
            )
            clock.lap("fuse")
            hits = self._documents.hits(ids.tolist(), scores.tolist(), parts)
            clock.lap("read")
            if len(hits) == len(ids) or attempt == _ATTEMPTS - 1:
                break
        return SearchResult(tuple(hits), clock.read(), all(one.exact for one in found))

    def _candidates(
        self,
        kb: KnowledgeBase,
        query: str,
        vector: Vectors | None,
        mode: Mode,
        depth: int,
        where: Filter | None,
        clock: "_Clock",
    ) -> _Candidates:
        live = self._live(kb)
        live.catch_up()
        allow = None if where is None else live.columns.allowed(where)
        clock.lap("follow")
        if vector is None:
            lexical = live.lexical.search(query, depth, allow=allow)
            clock.lap("lexical")
            return _Candidates(lexical.ids, np.empty(0, np.float32), lexical.scores, lexical.exact)
        # What a query quotes must stand in every hit, also in those that the dense part finds.
        held = live.lexical.narrow(query, allow) if mode == "hybrid" else allow
        dense = live.vectors.search(vector, depth, allow=held)
        clock.lap("dense")
        if mode == "dense":
            return _Candidates(dense.ids, dense.scores, np.empty(0, np.float32), dense.exact)
        ids = np.union1d(dense.ids, live.lexical.search(query, depth, allow=allow).ids)
        scores = live.vectors.score(vector, ids)
        # The lexical index may already know a chunk that this process's vectors do not, or know still.
        ids, scores = ids[~np.isnan(scores)], scores[~np.isnan(scores)]
        lexical_scores = live.lexical.score(query, ids)
        clock.lap("lexical")
        return _Candidates(ids, scores, lexical_scores, dense.exact)


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._spent: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._spent[stage] = self._spent.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def read(self) -> dict[str, float]:
        total = (time.perf_counter() - self._start) * 1000
        return {stage: round(spent, 3) for stage, spent in [*self._spent.items(), ("total", total)]}


def _ranked(
    found: Sequence[_Candidates],
    mode: Mode,
    top_k: int,
    threshold: float | None,
    dense_weight: float,
    owners: Callable[[Sequence[int]], list[str]],
) -> tuple[Ids, Vectors, dict[str, list[float]]]:
    """Ids and scores in final order, and the parts the scores were made of."""
    ids = np.concatenate([one.ids for one in found])
    dense = np.concatenate([one.dense for one in found])
    lexical = np.concatenate([one.lexical for one in found])
    parts = (
        {"dense": dense, "lexical": lexical}
        if mode == "hybrid"
        else {mode: dense if mode == "dense" else lexical}
    )
    if mode == "hybrid":
        scores = support(fuse(dense, lexical, dense_weight), owners(ids.tolist()))
    else:
        scores = parts[mode]
    order = np.lexsort((ids, -scores))[:top_k]
    if threshold is not None:
        order = order[scores[order] >= threshold]
    return ids[order], scores[order], {name: values[order].tolist() for name, values in parts.items()}


def _check(kbs: Sequence[KnowledgeBase], query: str, top_k: int, mode: str, dense_weight: float) -> None:
    if not kbs:
        raise InvalidInput("name at least one knowledge base", param="knowledge_base_ids")
    if len({kb.fingerprint for kb in kbs}) > 1 and mode != "lexical":
        raise InvalidInput(
            "these knowledge bases use different embedding models, whose scores cannot be compared; "
            "search them one by one, or with mode lexical",
            param="knowledge_base_ids",
        )
    if not query.strip():
        raise InvalidInput("the query is empty", param="query")
    if not is_unicode(query):
        raise InvalidInput("the query must be valid Unicode", param="query")
    if len(query) > MAX_QUERY:
        raise InvalidInput(
            f"the query has {len(query)} characters; at most {MAX_QUERY} are allowed", param="query"
        )
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidInput(f"top_k must be 1 to {MAX_TOP_K}", param="top_k")
    if mode not in _MODES:
        raise InvalidInput(f"mode must be one of {', '.join(_MODES)}", param="mode")
    if not 0 <= dense_weight <= 1:
        raise InvalidInput("dense_weight must be 0 to 1", param="dense_weight")
