"""Trip 2a: a question becomes hits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kb.catalog.documents import Documents
from kb.errors import InvalidInput
from kb.protocols import Reranker
from kb.search.fuse import fuse
from kb.search.live import LiveIndexes
from kb.search.rerank import Rerank, reranked
from kb.types import Filter, Ids, KnowledgeBase, Mode, Outcome, SearchResult, Vectors, is_unicode

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
    live: the indexes of a knowledge base. reranker: asked for only where a search wants one.
    """

    def __init__(
        self,
        documents: Documents,
        embed: Callable[[KnowledgeBase, str], Vectors],
        live: Callable[[KnowledgeBase], LiveIndexes],
        reranker: Callable[[], Reranker],
    ) -> None:
        self._documents = documents
        self._embed = embed
        self._live = live
        self._reranker = reranker

    def search(
        self,
        kbs: Sequence[KnowledgeBase],
        query: str,
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        score_threshold: float | None = None,
        rerank: Rerank | None = None,
    ) -> SearchResult:
        """The best `top_k` chunks, best first; equal scores go by chunk id.

        `score` is the inner product (dense), BM25 (lexical) or the sum of both standard scores (hybrid),
        which says how far a hit stands out among the candidates and means nothing across queries.
        Fewer than top_k come back only when fewer match. Raises InvalidInput, naming the argument.

        rerank: put the best `rerank.depth` of all knowledge bases together into a cross-encoder's order,
        equal ones as they were; those behind them stay. It changes the order and nothing else: `score` and
        the threshold mean what they mean without it, and the cross-encoder's own score is `scores["rerank"]`.
        When its deadline passes the order stays as it was and the result says so.
        """
        _check(kbs, query, top_k, mode)
        # Before anything is searched: where no reranker is set this fails.
        reranker = None if rerank is None else self._reranker()
        until: float | None = None
        clock = _Clock()
        vector = None if mode == "lexical" else self._embed(kbs[0], query)
        clock.lap("embed")
        for attempt in range(_ATTEMPTS):
            found = [
                self._candidates(kb, query, vector, mode, max(_DEPTH, top_k), where, clock) for kb in kbs
            ]
            depth = top_k if rerank is None else max(top_k, rerank.depth)
            ids, scores, parts = _ranked(found, mode, depth, score_threshold)
            clock.lap("fuse")
            outcome: Outcome | None = None
            if rerank is not None and reranker is not None:
                until = until or time.monotonic() + rerank.deadline_ms / 1000
                texts = self._documents.texts(ids[: rerank.depth].tolist())
                done = reranked(reranker, query, texts, len(ids), until)
                outcome, ids, scores = done.outcome, ids[done.order], scores[done.order]
                parts = {name: given[done.order] for name, given in {**parts, "rerank": done.scores}.items()}
                clock.lap("rerank")
            hits = self._documents.hits(
                ids[:top_k].tolist(), scores.tolist(), {name: given.tolist() for name, given in parts.items()}
            )
            clock.lap("read")
            if len(hits) == len(ids[:top_k]) or attempt == _ATTEMPTS - 1:
                break
        return SearchResult(tuple(hits), clock.read(), all(one.exact for one in found), outcome)

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
        dense = live.vectors.search(vector, depth, allow=allow)
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
    found: Sequence[_Candidates], mode: Mode, top_k: int, threshold: float | None
) -> tuple[Ids, Vectors, dict[str, Vectors]]:
    """Ids and scores in final order, and the parts the scores were made of."""
    ids = np.concatenate([one.ids for one in found])
    dense = np.concatenate([one.dense for one in found])
    lexical = np.concatenate([one.lexical for one in found])
    parts = (
        {"dense": dense, "lexical": lexical}
        if mode == "hybrid"
        else {mode: dense if mode == "dense" else lexical}
    )
    scores = fuse(dense, lexical) if mode == "hybrid" else parts[mode]
    order = np.lexsort((ids, -scores))[:top_k]
    if threshold is not None:
        order = order[scores[order] >= threshold]
    return ids[order], scores[order], {name: values[order] for name, values in parts.items()}


def _check(kbs: Sequence[KnowledgeBase], query: str, top_k: int, mode: str) -> None:
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
