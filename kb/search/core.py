"""Trip 2a: a question becomes hits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kb.catalog.documents import Documents
from kb.errors import InvalidInput
from kb.protocols import Reranker
from kb.search.clock import Clock
from kb.search.expand import expanded
from kb.search.live import LiveIndexes
from kb.search.ranking import Candidates, Ranking, best_of, looks, ranked
from kb.search.rerank import Rerank, Reranking
from kb.search.shape import Chosen, Shape, by_document, check_shape, choose
from kb.types import (
    Allowed,
    Filter,
    Hit,
    Ids,
    KnowledgeBase,
    Mode,
    Neighbours,
    SearchResult,
    Vectors,
    is_unicode,
    positions,
)

MAX_QUERIES = 16
MAX_QUERY = 8192
_MODES = ("hybrid", "dense", "lexical")
# Candidates of each part at the first look, over which hybrid scores are standardised. From 50 to 500 no
# collection's nDCG@10 moves by 0.01 (benchmarks/README.md, "How many candidates").
_DEPTH = 100
# Where these are too few, as many times more are looked at, until there are no more.
_DEEPER = 4
# A document replaced between the index and the catalog read costs its hits; then the search is repeated.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Scope:
    """One knowledge base as one search sees it: its indexes, and the chunks that the filter keeps."""

    live: LiveIndexes
    allow: Allowed | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the indexes gave, in order; what is chosen of it; and how many candidates each part gave."""

    ranking: Ranking
    chosen: Chosen
    depth: int


class SearchCore:
    """Searches knowledge bases.

    embed: the vector of each query under a knowledge base's model, shape (dim,).
    live: the indexes of a knowledge base.
    """

    def __init__(
        self,
        documents: Documents,
        embed: Callable[[KnowledgeBase, Sequence[str]], Sequence[Vectors]],
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
        query: str | Sequence[str],
        shape: Shape,
        *,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        dense_weight: float = 0.5,
        explain: bool = False,
        rerank: Rerank | None = None,
    ) -> SearchResult:
        """The best chunks, best first; equal scores go by chunk id.

        `score` is the inner product (dense), BM25 (lexical) or the sum of both standard scores (hybrid),
        raised where its document has more that fits; that says how far a hit stands out among the
        candidates of the first look and means nothing across queries. The first hits and their scores are
        the same however many are asked for, but for what an index that is not exact misses. dense_weight: as
        in `fuse`, for hybrid. Of several queries each chunk is ranked by the one that it answers best.
        explain: hits tell their ranks. Fewer than `shape.top_k` come back only when fewer match, or when
        widened hits become one. Raises InvalidInput, naming the argument.

        rerank: put the best `rerank.depth` of all knowledge bases together into a cross-encoder's order,
        equal ones as they were; those behind them stay. It changes the order that the shape is taken from and
        nothing else: `score` and the threshold mean what they mean without it, and the cross-encoder's own
        score is `scores["rerank"]`. When its deadline passes the order stays as it was, and `rerank` says so.
        """
        queries = check(kbs, query, mode, dense_weight)
        check_shape(shape)
        if shape.least_similarity is not None and mode == "lexical":
            raise InvalidInput("least_similarity needs mode hybrid or dense", param="least_similarity")
        clock = Clock()
        # Before anything is searched: where no reranker is set this fails.
        stage = None if rerank is None else self.reranking(queries, rerank, explain=explain)
        vectors = self.embedded(kbs, queries, mode)
        clock.lap("embed")
        for _ in range(_ATTEMPTS):
            scopes = [self.scope(kb, where) for kb in kbs]
            clock.lap("follow")
            found = self.find(
                scopes, queries, vectors, shape, mode, dense_weight, clock, explain=explain, stage=stage
            )
            hits, whole = self._read(found, shape)
            clock.lap("read")
            if whole:
                break
        documents = by_document(hits) if shape.group_by else ()
        outcome = None if stage is None else stage.outcome
        return SearchResult(
            () if shape.group_by else hits, clock.read(), found.ranking.exact, documents, outcome
        )

    def reranking(self, queries: Sequence[str], options: Rerank, *, explain: bool) -> Reranking:
        """The stage of one search. Raises InvalidInput where no reranker is set."""
        return Reranking(self._reranker(), queries, options, self._documents.indexed, explain=explain)

    def embedded(
        self, kbs: Sequence[KnowledgeBase], queries: Sequence[str], mode: Mode
    ) -> Sequence[Vectors | None]:
        """The vector of each query, shape (dim,), or None where no vectors are asked."""
        return [None] * len(queries) if mode == "lexical" else self._embed(kbs[0], queries)

    def scope(self, kb: KnowledgeBase, where: Filter | None) -> Scope:
        """A knowledge base as it is now."""
        live = self._live(kb)
        live.catch_up()
        return Scope(live, None if where is None else live.columns.allowed(where))

    def find(
        self,
        scopes: Sequence[Scope],
        queries: Sequence[str],
        vectors: Sequence[Vectors | None],
        shape: Shape,
        mode: Mode,
        dense_weight: float,
        clock: Clock,
        *,
        explain: bool = False,
        stage: Reranking | None = None,
    ) -> Found:
        """candidates -> fuse -> [rerank] -> shape, from as deep as it takes."""
        # One part alone needs no more than it returns or reranks, unless a shape leaves some of them out.
        wanted = shape.top_k if stage is None else max(shape.top_k, stage.depth)
        depth = wanted if mode == "dense" else max(_DEPTH, wanted)
        if mode == "hybrid":
            # A whole look, so that what is found in it does not depend on top_k.
            depth = _DEPTH
            while depth < wanted:
                depth *= _DEEPER
        while True:
            rankings = []
            for query, vector in zip(queries, vectors, strict=True):
                candidates = [_candidates(scope, query, vector, mode, depth, clock) for scope in scopes]
                rankings.append(ranked(candidates, mode, dense_weight, explain=explain))
                clock.lap("fuse")
            ranking = best_of(rankings)
            if stage is not None:
                ranking = stage.order(ranking, shape.score_threshold)
                clock.lap("rerank")
            chosen = choose(ranking, shape, self._documents)
            clock.lap("shape")
            if chosen.enough or ranking.complete:
                return Found(ranking, chosen, depth)
            depth *= _DEEPER

    def _read(self, found: Found, shape: Shape) -> tuple[tuple[Hit, ...], bool]:
        """The chosen hits, and whether the catalog still knew them all."""
        ranking, shown = found.ranking, found.chosen.shown
        # A plain cut is a range: sliced, nothing is copied.
        at = slice(shown.stop) if isinstance(shown, range) else np.array(shown, np.int64)
        parts = {name: part[at].tolist() for name, part in ranking.parts.items()}
        hits = self._documents.hits(ranking.ids[at].tolist(), ranking.scores[at].tolist(), parts)
        whole = len(hits) == len(shown)
        if ranking.ranks or found.chosen.duplicates or ranking.query is not None:
            hits = self._told(hits, found)
        if shape.expand is not None:
            known = len(hits)
            hits = expanded(hits, shape.expand, self._documents)
            whole = whole and sum(len(hit.matches) for hit in hits) == known
        return tuple(hits), whole

    def _told(self, hits: Sequence[Hit], found: Found) -> list[Hit]:
        """The hits with their query, their ranks, and what they stand for."""
        ranking, same = found.ranking, found.chosen.duplicates
        ids = ranking.ids.tolist()
        place = {ids[at]: at for at in found.chosen.shown}
        others = [ids[at] for shown in found.chosen.shown for at in same.get(shown, ())]
        passages = self._documents.passages(others)
        return [
            replace(
                hit,
                query=0 if ranking.query is None else int(ranking.query[at]),
                ranks={name: int(ranks[at]) or None for name, ranks in ranking.ranks.items()},
                duplicates=tuple(passages[ids[one]] for one in same.get(at, ()) if ids[one] in passages),
            )
            for hit, at in ((hit, place[hit.chunk_id]) for hit in hits)
        ]


def _candidates(
    scope: Scope, query: str, vector: Vectors | None, mode: Mode, depth: int, clock: Clock
) -> Candidates:
    """The `depth` best of each part that the mode asks, scored by both parts in hybrid mode."""
    live, allow = scope.live, scope.allow
    none, no_ids = np.empty(0, np.float32), np.empty(0, np.int64)
    if vector is None:
        lexical = live.lexical.search(query, depth, allow=allow)
        clock.lap("lexical")
        own = {"lexical": lexical.ids}
        complete = len(lexical.ids) < depth
        return Candidates(lexical.ids, none, lexical.scores, no_ids, no_ids, own, complete, lexical.exact)
    # What a query quotes must stand in every hit, also in those that the dense part finds.
    held = live.lexical.narrow(query, allow) if mode == "hybrid" else allow
    dense = live.vectors.search(vector, depth, allow=held)
    clock.lap("dense")
    complete = len(dense.ids) < depth
    if mode == "dense":
        own = {"dense": dense.ids}
        return Candidates(dense.ids, dense.scores, none, no_ids, no_ids, own, complete, dense.exact)
    lexical = live.lexical.search(query, depth, allow=allow)
    ids = np.union1d(dense.ids, lexical.ids)
    scores = _scored(ids, dense, lambda missing: live.vectors.score(vector, missing))
    # The lexical index may already know a chunk that this process's vectors do not, or know still.
    ids, scores = ids[~np.isnan(scores)], scores[~np.isnan(scores)]
    lexical_scores = _scored(ids, lexical, lambda missing: live.lexical.score(query, missing))
    clock.lap("lexical")
    own = {"dense": dense.ids, "lexical": lexical.ids}
    documents = live.columns.documents(ids)
    look = looks(ids, own, _DEPTH, _DEEPER)
    return Candidates(ids, scores, lexical_scores, documents, look, own, complete, dense.exact)


def _scored(ids: Ids, found: Neighbours, score: Callable[[Ids], Vectors]) -> Vectors:
    """The scores of some chunks in one part: as they were found, the others by `score`."""
    order = np.argsort(found.ids)
    at = positions(ids, found.ids[order])
    scores = np.zeros(len(ids), np.float32)
    scores[at >= 0] = found.scores[order][at[at >= 0]]
    scores[at < 0] = score(ids[at < 0])
    return scores


def check(
    kbs: Sequence[KnowledgeBase], query: str | Sequence[str], mode: str, dense_weight: float
) -> list[str]:
    """The queries. Raises InvalidInput, naming the argument."""
    if not kbs:
        raise InvalidInput("name at least one knowledge base", param="knowledge_base_ids")
    if len({kb.fingerprint for kb in kbs}) > 1 and mode != "lexical":
        raise InvalidInput(
            "these knowledge bases use different embedding models, whose scores cannot be compared; "
            "search them one by one, or with mode lexical",
            param="knowledge_base_ids",
        )
    if mode not in _MODES:
        raise InvalidInput(f"mode must be one of {', '.join(_MODES)}", param="mode")
    if not 0 <= dense_weight <= 1:
        raise InvalidInput("dense_weight must be 0 to 1", param="dense_weight")
    if isinstance(query, str):
        return [_checked(query, "query")]
    if not isinstance(query, list | tuple) or not 1 <= len(query) <= MAX_QUERIES:
        raise InvalidInput(f"query must be a string, or 1 to {MAX_QUERIES} of them", param="query")
    return [_checked(one, f"query.{at}") for at, one in enumerate(query)]


def _checked(query: object, at: str) -> str:
    if not isinstance(query, str):
        raise InvalidInput("the query must be a string", param=at)
    if not query.strip():
        raise InvalidInput("the query is empty", param=at)
    if not is_unicode(query):
        raise InvalidInput("the query must be valid Unicode", param=at)
    if len(query) > MAX_QUERY:
        raise InvalidInput(
            f"the query has {len(query)} characters; at most {MAX_QUERY} are allowed", param=at
        )
    return query
