"""Trip 2b: why a document is in the results of a search, or is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kb.catalog.documents import Documents
from kb.errors import InvalidInput
from kb.search.clock import Clock
from kb.search.core import Found, Scope, SearchCore, check
from kb.search.filters import unmet
from kb.search.rerank import Rerank
from kb.search.shape import MAX_TOP_K, Shape, check_shape
from kb.types import (
    Allowed,
    Attributes,
    Chunk,
    Comparison,
    Explanation,
    Fate,
    Filter,
    Ids,
    KnowledgeBase,
    Mode,
    Passage,
    Stage,
    Vectors,
    positions,
)

MAX_CHUNKS = 10
"""Of a document that are told of."""

# Vectors scored at once: 40 MB of them.
_PORTION = 25_000


@dataclass(frozen=True, slots=True)
class _Standing:
    """One part's scores of a document's chunks, and their places in all that the filter keeps; 0 for none."""

    scores: Vectors
    ranks: Ids


class Explainer:
    """Runs a search and looks where a document's chunks left it."""

    def __init__(self, core: SearchCore, documents: Documents) -> None:
        self._core = core
        self._documents = documents

    def explain(
        self,
        kb: KnowledgeBase,
        query: str,
        content_id: str,
        shape: Shape,
        *,
        mode: Mode = "hybrid",
        where: Filter | None = None,
        dense_weight: float = 0.5,
        rerank: Rerank | None = None,
    ) -> Explanation:
        """The stage that each of a document's best chunks reached in `SearchCore.search`, and why no further.

        Scores and ranks by part are taken over everything, by brute force. Raises NotFound, InvalidInput.
        """
        if not isinstance(query, str):
            raise InvalidInput("explain one query at a time: query must be a string", param="query")
        check([kb], query, mode, dense_weight)
        check_shape(shape)
        clock = Clock()
        content = self._documents.get(kb.id, content_id)
        stage = None if rerank is None else self._core.reranking([query], rerank, explain=True)
        (vector,) = self._core.embedded([kb], [query], mode)
        clock.lap("embed")
        scope = self._core.scope(kb, where)
        chunks = self._documents.chunks(content_id)
        clock.lap("follow")
        found = self._core.find(
            [scope], [query], [vector], shape, mode, dense_weight, clock, explain=True, stage=stage
        )
        ids = np.array([passage.chunk_id for passage, _ in chunks], np.int64)
        held = scope
        if mode != "dense":
            held = replace(scope, allow=scope.live.lexical.narrow(query, scope.allow))
        trace = _Trace(
            found,
            shape,
            standing=_standing(held, query, vector, ids, mode),
            kept_out=_outside(scope.allow, ids),
            unquoting=_outside(held.allow, ids),
            unmet=() if where is None else unmet(where, content.attributes),
            attributes=content.attributes,
            twins=self._twins(found, ids),
        )
        fates = sorted(map(trace.fate, range(len(chunks)), *zip(*chunks, strict=True)), key=_best_first)
        clock.lap("explain")
        nothing: tuple[Stage, str] = ("no_chunks", "the document holds no text that could be found")
        furthest, reason = (fates[0].stage, fates[0].reason) if fates else nothing
        return Explanation(
            content_id,
            content.title,
            content.uri,
            furthest,
            reason,
            tuple(fates[:MAX_CHUNKS]),
            clock.read(),
            None if stage is None else stage.outcome,
        )

    def _twins(self, found: Found, mine: Ids) -> dict[int, Passage]:
        """For each chunk that is a duplicate, the one that stands for it."""
        ids, wanted = found.ranking.ids.tolist(), set(mine.tolist())
        twin = {
            ids[place]: ids[kept]
            for kept, places in found.chosen.duplicates.items()
            for place in places
            if ids[place] in wanted
        }
        passages = self._documents.passages(list(twin.values()))
        return {chunk_id: passages[kept] for chunk_id, kept in twin.items() if kept in passages}


class _Trace:
    """One search, asked of one chunk after the other what became of it."""

    def __init__(
        self,
        found: Found,
        shape: Shape,
        *,
        standing: Mapping[str, _Standing],
        kept_out: set[int],
        unquoting: set[int],
        unmet: Sequence[Comparison],
        attributes: Attributes,
        twins: Mapping[int, Passage],
    ) -> None:
        self._ranking, self._chosen, self._depth = found.ranking, found.chosen, found.depth
        self._shape = shape
        self._standing = standing
        self._kept_out = kept_out
        self._unquoting = unquoting
        self._unmet = unmet
        self._attributes = attributes
        self._twins = twins
        self._places = {chunk_id: place for place, chunk_id in enumerate(found.ranking.ids.tolist())}
        self._kept = set(found.chosen.kept)

    def fate(self, at: int, passage: Passage, chunk: Chunk) -> Fate:
        """Of the chunk that stands at `at` in its document's list."""
        place = self._places.get(passage.chunk_id)
        scores = {name: float(part.scores[at]) for name, part in self._standing.items()}
        ranks = {name: int(part.ranks[at]) or None for name, part in self._standing.items()}
        if place is not None:
            for name in self._ranking.ranks.keys() - self._standing.keys():
                scores[name] = float(self._ranking.parts[name][place])
                ranks[name] = int(self._ranking.ranks[name][place]) or None
        rank = self._rank(place) if place in self._kept else None
        stage, reason = self._verdict(passage.chunk_id, place, rank, ranks)
        return Fate(
            passage=passage,
            page=chunk.page,
            heading=chunk.heading,
            stage=stage,
            reason=reason,
            rank=rank,
            needed=self._needed(place) if stage == "top_k" and place is not None else None,
            scores={name: score for name, score in scores.items() if np.isfinite(score)},
            ranks=ranks,
            duplicate_of=self._twins.get(passage.chunk_id),
        )

    def _verdict(
        self, chunk_id: int, place: int | None, rank: int | None, ranks: Mapping[str, int | None]
    ) -> tuple[Stage, str]:
        shape = self._shape
        if chunk_id in self._kept_out:
            return "filtered", self._filtered()
        if chunk_id in self._unquoting:
            return "quoted", "it does not hold what the query quotes"
        if place is None:
            return "candidates", self._not_a_candidate(ranks)
        score = float(self._ranking.scores[place])
        if shape.score_threshold is not None and score < shape.score_threshold:
            return "score_threshold", f"its score {score:.4g} is below {shape.score_threshold:.4g}"
        if twin := self._twins.get(chunk_id):
            same = f"chunk {twin.chunk_id} of document {twin.content_id}"
            return "duplicate", f"it says the same as {same}, which ranks higher"
        if rank is None:
            return "max_per_document", f"{shape.per_document} better passages of its document are kept"
        counted = "document" if shape.group_by else "hit"
        if rank <= shape.top_k:
            return "returned", f"it is returned with {counted} {rank}"
        reason = f"it would come with {counted} {rank}, and top_k is {shape.top_k}"
        needed = self._needed(place)
        if needed is None:
            return "top_k", f"{reason}; it is not among the best, which were reranked, as the last place is"
        own = self._order(place)
        return "top_k", f"{reason}; the last place went for a score of {needed:.4g}, its own is {own:.4g}"

    def _filtered(self) -> str:
        parts = [
            f"{part.key} {part.type} {part.value!r} does not hold (it is {self._attributes.get(part.key)!r})"
            for part in self._unmet
        ]
        return f"the filter keeps its document out: {'; '.join(parts)}"

    def _not_a_candidate(self, ranks: Mapping[str, int | None]) -> str:
        told = [
            f"{name} {rank}" if rank else f"no {name} match"
            for name, rank in ranks.items()
            if name in self._standing
        ]
        reason = f"it is not among the {self._depth} best of any part: {', '.join(told)}"
        nearest = min((rank for rank in ranks.values() if rank), default=None)
        if nearest is None:
            return reason
        if nearest <= self._depth:
            return f"{reason}; the index, which is not exact at this size, has missed it"
        deep = f"a top_k of {nearest}" if nearest <= MAX_TOP_K else "a filter"
        return f"{reason}; {deep} would make it a candidate"

    def _rank(self, place: int) -> int:
        # Where nothing was to be shaped, a place is a rank.
        return self._chosen.ranks.get(place, place + 1)

    def _needed(self, place: int) -> float | None:
        """The score of the best hit in the last place that top_k admits; None where this one, at `place`,
        has none to compare with it."""
        last = next(place for place in self._chosen.kept if self._rank(place) == self._shape.top_k)
        return self._order(last) if self._reranked(last) == self._reranked(place) else None

    def _order(self, place: int) -> float:
        """What places like this one are ordered by."""
        parts = self._ranking.parts
        return float(parts["rerank"][place] if self._reranked(place) else self._ranking.scores[place])

    def _reranked(self, place: int) -> bool:
        return "rerank" in self._ranking.ranks and bool(self._ranking.ranks["rerank"][place])


def _best_first(fate: Fate) -> tuple[bool, float, float, float]:
    own = [rank for name, rank in fate.ranks.items() if rank and name not in ("fused", "rerank")]
    fused = fate.ranks.get("fused") or (np.inf if fate.stage == "candidates" and len(fate.ranks) > 1 else 0)
    reranked = fate.ranks.get("rerank") or np.inf
    return fate.stage != "returned", reranked, fused, min(own, default=np.inf)


def _outside(allow: Allowed | None, ids: Ids) -> set[int]:
    return set() if allow is None else set(ids[~allow.hold(ids)].tolist())


def _standing(
    scope: Scope, query: str, vector: Vectors | None, mine: Ids, mode: Mode
) -> dict[str, _Standing]:
    """By part; a chunk that the filter keeps out has no rank."""
    every = scope.live.vectors.ids()
    if scope.allow is not None:
        every = every[scope.allow.hold(every)]
    parts = {}
    if vector is not None:
        scores = np.concatenate(
            [
                scope.live.vectors.score(vector, every[at : at + _PORTION])
                for at in range(0, len(every) or 1, _PORTION)
            ]
        )
        parts["dense"] = _among(every, scores, mine, scope.live.vectors.score(vector, mine))
    if mode != "dense":
        matching = scope.live.lexical.search(query, max(1, len(every)), allow=scope.allow)
        own = scope.live.lexical.score(query, mine)
        parts["lexical"] = _among(matching.ids, matching.scores, mine, own)
    return parts


def _among(ids: Ids, scores: Vectors, mine: Ids, own: Vectors) -> _Standing:
    places = np.empty(len(ids), np.int64)
    places[np.lexsort((ids, -scores))] = np.arange(1, len(ids) + 1)
    ascending = np.argsort(ids)
    at = positions(mine, ids[ascending])
    ranks = np.zeros(len(mine), np.int64)
    ranks[at >= 0] = places[ascending[at[at >= 0]]]
    return _Standing(own, ranks)
