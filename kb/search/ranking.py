"""Candidates of the indexes become one ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kb.search.fuse import behind, fuse, support
from kb.types import Ids, Mode, Vectors, positions


@dataclass(frozen=True, slots=True)
class Candidates:
    """Scored chunks of one knowledge base; arrays of one length. A part not asked for is empty.

    documents: the document of each, by a number. look: that found each, as `looks` has it. Both are empty
    where no scores are to be fused. own: by part, those that the part's own index found, best first; the
    others were scored along. complete: whether nothing else could match.
    """

    ids: Ids
    dense: Vectors
    lexical: Vectors
    documents: Ids
    look: Ids
    own: Mapping[str, Ids]
    complete: bool
    exact: bool


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scored chunks, best first; equal scores go by chunk id. Arrays of one length.

    parts: what the scores were made of, by name. ranks: places by part, from 1, 0 for none; empty unless
    asked for. query: which of several queries each answers best. complete: whether nothing else could match.
    floor: what is not here scores at most this, so that the order is final down to it. unseen: at most
    this in the dense part.
    """

    ids: Ids
    scores: Vectors
    parts: Mapping[str, Vectors]
    ranks: Mapping[str, Ids]
    query: Ids | None
    complete: bool
    floor: float
    exact: bool
    unseen: float = -1.0


def looks(ids: Ids, own: Mapping[str, Ids], depth: int, deeper: int) -> Ids:
    """The look that found each candidate, shape (n,): 0 for those among the `depth` best of a part, 1 for
    those among `deeper` times as many, and so on.

    ids: ascending. own: as in `Candidates`, best first.
    """
    look, most = np.zeros(len(ids), np.int64), max(map(len, own.values()))
    if most <= depth:
        return look
    place = np.full(len(ids), most, np.int64)
    for part in own.values():
        at = positions(part, ids)
        there = np.flatnonzero(at >= 0)
        place[at[there]] = np.minimum(place[at[there]], there)
    while (later := place >= depth).any():
        look += later
        depth *= deeper
    return look


def ranked(found: Sequence[Candidates], mode: Mode, dense_weight: float, *, explain: bool = False) -> Ranking:
    """The candidates of some knowledge bases for one query, in one order."""
    ids = np.concatenate([one.ids for one in found])
    dense = np.concatenate([one.dense for one in found])
    lexical = np.concatenate([one.lexical for one in found])
    parts: dict[str, Vectors] = (
        {"dense": dense, "lexical": lexical}
        if mode == "hybrid"
        else {mode: dense if mode == "dense" else lexical}
    )
    scores = parts.get(mode)
    if scores is None:
        look = np.concatenate([one.look for one in found])
        documents = np.concatenate([one.documents for one in found])
        first = look == 0
        scores = behind(support(fuse(dense, lexical, first, dense_weight), documents, first), look)
    order = np.lexsort((ids, -scores))
    ranks = {}
    if explain:
        ranks = {name: _places(ids, part, found, name)[order] for name, part in parts.items()}
        if mode == "hybrid":
            parts["fused"], ranks["fused"] = scores, np.arange(1, len(ids) + 1)
    return Ranking(
        ids[order],
        scores[order],
        {name: part[order] for name, part in parts.items()},
        ranks,
        None,
        all(one.complete for one in found),
        _floor(found, scores, mode),
        all(one.exact for one in found),
        max((_least_dense(one) for one in found if not one.complete), default=-1.0),
    )


def best_of(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking of several queries: each chunk as the query that it answers best ranks it.

    Not the sum over the queries: questions asked together are as often parts of a question as they are other
    words for it, and what answers one part well must not fall behind what touches all.
    """
    if len(rankings) == 1:
        return rankings[0]
    ids = np.concatenate([one.ids for one in rankings])
    scores = np.concatenate([one.scores for one in rankings])
    query = np.repeat(np.arange(len(rankings)), [len(one.ids) for one in rankings])
    order = np.lexsort((query, ids, -scores))
    order = order[np.sort(np.unique(ids[order], return_index=True)[1])]

    def merged(arrays: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.concatenate([one[name] for one in arrays])[order] for name in arrays[0]}

    return Ranking(
        ids[order],
        scores[order],
        merged([one.parts for one in rankings]),
        merged([one.ranks for one in rankings]),
        query[order],
        all(one.complete for one in rankings),
        max(one.floor for one in rankings),
        all(one.exact for one in rankings),
        max(one.unseen for one in rankings),
    )


def _least_dense(found: Candidates) -> float:
    """The lowest score of those that the dense index itself found."""
    own = found.own.get("dense")
    return 1.0 if own is None else float(found.dense[found.ids == own[-1]].max(initial=-1.0))


def _places(ids: Ids, scores: Vectors, found: Sequence[Candidates], part: str) -> Ids:
    places = np.empty(len(ids), np.int64)
    places[np.lexsort((ids, -scores))] = np.arange(1, len(ids) + 1)
    own = np.concatenate([one.own[part] for one in found])
    return np.where(np.isin(ids, own), places, 0)


def _floor(found: Sequence[Candidates], scores: Vectors, mode: Mode) -> float:
    """What a deeper look finds comes behind all that is here, where scores are fused."""
    if mode == "hybrid":
        return -np.inf if all(one.complete for one in found) else float(scores.min(initial=np.inf))
    unseen = [float(getattr(one, mode)[-1]) for one in found if not one.complete]
    return max(unseen, default=-np.inf)
