"""What of a ranking comes back."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kb.catalog.documents import Documents
from kb.errors import InvalidInput
from kb.search.duplicates import Kept, wording
from kb.search.ranking import Ranking
from kb.search.similarity import similarity
from kb.types import DocumentHits, Expand, Hit

MAX_TOP_K = 1000
MAX_NEIGHBOURS = 10
# Of a document in a result by document: enough to judge it by, few enough to see the next one.
_PER_DOCUMENT = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """How many hits, how good, how different, how wide.

    top_k: hits, or documents with `group_by`. score_threshold: hits that score less are dropped.
    least_similarity: as are those of a `kb.search.similarity` below; for hybrid and dense.
    max_per_document: hits of one document; None for any number, or for 3 with `group_by`.
    collapse_duplicates: passages that say the same in nearly the same words come once. expand: what
    each hit is widened to.
    """

    top_k: int = 10
    score_threshold: float | None = None
    max_per_document: int | None = None
    collapse_duplicates: bool = False
    group_by: Literal["document"] | None = None
    expand: Expand | None = None
    least_similarity: float | None = None

    @property
    def per_document(self) -> int | None:
        """Hits of one document, the default resolved."""
        return self.max_per_document or (_PER_DOCUMENT if self.group_by else None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Places in a ranking, ascending. kept: all that could be returned; shown: those that are.

    enough: no deeper ranking is needed. duplicates: what a place that is kept stands for. crowded: dropped
    because better ones of their document are kept. ranks: of those kept, from 1, as `top_k` counts them.
    """

    kept: Sequence[int]
    shown: Sequence[int]
    enough: bool
    duplicates: Mapping[int, Sequence[int]] = field(default_factory=dict)
    crowded: frozenset[int] = frozenset()
    ranks: Mapping[int, int] = field(default_factory=dict)


def check_shape(shape: Shape) -> None:
    """Raises InvalidInput, naming the argument."""
    if not 1 <= shape.top_k <= MAX_TOP_K:
        raise InvalidInput(f"top_k must be 1 to {MAX_TOP_K}", param="top_k")
    if shape.max_per_document is not None and not 1 <= shape.max_per_document <= MAX_TOP_K:
        raise InvalidInput(f"max_per_document must be 1 to {MAX_TOP_K}", param="max_per_document")
    if shape.least_similarity is not None and (shape.per_document or shape.collapse_duplicates):
        raise InvalidInput(
            "least_similarity goes with neither max_per_document, collapse_duplicates nor group_by",
            param="least_similarity",
        )
    if shape.group_by not in (None, "document"):
        raise InvalidInput("group_by must be 'document'", param="group_by")
    if isinstance(shape.expand, str):
        if shape.expand != "section":
            raise InvalidInput("expand must be 'section' or a number of neighbours", param="expand")
    elif shape.expand is not None and not 1 <= shape.expand <= MAX_NEIGHBOURS:
        raise InvalidInput(f"expand must be 1 to {MAX_NEIGHBOURS} neighbours", param="expand")


def parse_expand(given: object) -> Expand:
    """The JSON forms of `expand`: "section", or {"neighbours": n}. Raises InvalidInput."""
    if given == "section":
        return "section"
    if not isinstance(given, dict) or given.keys() != {"neighbours"}:
        raise InvalidInput('expand must be "section" or {"neighbours": n}', param="expand")
    number = given["neighbours"]
    if isinstance(number, float) and number.is_integer():
        # JSON does not tell 2.0 from 2.
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_NEIGHBOURS:
        raise InvalidInput(f"neighbours must be 1 to {MAX_NEIGHBOURS}", param="expand.neighbours")
    return number


def choose(ranking: Ranking, shape: Shape, documents: Documents) -> Chosen:
    """The hits among a ranking: one pass from the best down, each kept, a duplicate, or one too many.

    A chunk that the catalog no longer knows is kept, and missed when the hits are read.
    """
    end = len(ranking.ids)
    if shape.score_threshold is not None:
        # In the threshold's precision, not the scores': not every number has a place in that.
        end = int(np.count_nonzero(ranking.scores >= np.float64(shape.score_threshold)))
    if shape.least_similarity is not None:
        return _similar(ranking, shape.least_similarity, shape.top_k, end)
    if not shape.per_document and not shape.collapse_duplicates:
        return Chosen(range(end), range(min(shape.top_k, end)), enough=True)

    final = min(end, int(np.count_nonzero(ranking.scores >= ranking.floor)))
    ids = ranking.ids[:final].tolist()
    owners = documents.owners(ids) if shape.per_document else {}
    texts = documents.texts(ids) if shape.collapse_duplicates else {}
    wordings, taken = Kept(), Counter[str]()
    kept: list[int] = []
    crowded: set[int] = set()
    duplicates: defaultdict[int, list[int]] = defaultdict(list)
    for place, chunk_id in enumerate(ids):
        said = wording(texts[chunk_id]) if chunk_id in texts else None
        better = wordings.first_like(said) if said else None
        owner = owners.get(chunk_id, str(chunk_id))
        if better is not None:
            duplicates[better].append(place)
        elif taken[owner] == shape.per_document:
            crowded.add(place)
        else:
            kept.append(place)
            taken[owner] += 1
            if said:
                wordings.add(said, place)
    counted = [owners.get(ids[place], str(ids[place])) if shape.group_by else place for place in kept]
    number = {one: at for at, one in enumerate(dict.fromkeys(counted), 1)}
    ranks = {place: number[one] for place, one in zip(kept, counted, strict=True)}
    shown = [place for place in kept if ranks[place] <= shape.top_k]
    enough = len(number) >= shape.top_k or final == end < len(ranking.ids)
    return Chosen(kept, shown, enough, duplicates, frozenset(crowded), ranks)


def _similar(ranking: Ranking, least: float, top_k: int, end: int) -> Chosen:
    kept = np.flatnonzero(similarity(ranking.parts["dense"][:end]) >= least).tolist()
    # What no look has found yet is less near than all that the dense index gave.
    enough = len(kept) >= top_k or bool(similarity(ranking.unseen) < least)
    return Chosen(kept, kept[:top_k], enough)


def by_document(hits: Sequence[Hit]) -> tuple[DocumentHits, ...]:
    """The same hits under their documents, in order of each document's best."""
    of: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        of[hit.content_id].append(hit)
    return tuple(
        DocumentHits(
            knowledge_base_id=best.knowledge_base_id,
            content_id=best.content_id,
            content_version_id=best.content_version_id,
            title=best.title,
            uri=best.uri,
            attributes=best.attributes,
            score=best.score,
            hits=tuple(under),
        )
        for best, under in ((under[0], under) for under in of.values())
    )
