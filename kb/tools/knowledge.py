"""The tools over knowledge bases: search them, list them."""

from bisect import bisect_right
from itertools import accumulate

from kb.content.peek import sentence_ends
from kb.errors import InvalidInput
from kb.search.filters import parse_filter
from kb.search.shape import parse_expand
from kb.service import Service
from kb.tools.arguments import ListKnowledgeBases, SearchKnowledgeBase
from kb.tools.budget import fitted
from kb.tools.results import (
    AttributeSummary,
    FoundPassage,
    FoundPassages,
    KnowledgeBaseList,
    KnowledgeBaseSummary,
)
from kb.types import Hit, KnowledgeBase

# As many as the HTTP search takes at once.
_SEARCHED_AT_ONCE = 64
_PAGE = 50
# Of a knowledge base, those that most documents have.
_ATTRIBUTES = 30


def search_knowledge_base(service: Service, given: SearchKnowledgeBase, budget: int) -> FoundPassages:
    """The passages that answer best; without a knowledge base, those of all of them."""
    result = service.search(
        given.query,
        _asked(service, given),
        top_k=given.top_k,
        mode=given.mode,
        where=None if given.filters is None else parse_filter(given.filters),
        expand=None if given.expand is None else parse_expand(given.expand),
    )
    hits = result.hits
    # A hit may be cut behind any of its sentences: all of them, of all hits, are the places to stop at.
    stops = [[stop for stop in sentence_ends(hit.text, 0, len(hit.text)) if stop] for hit in hits]
    through = list(accumulate(map(len, stops)))

    few = _few(service, given, len(hits))

    def made(units: int) -> FoundPassages:
        whole = bisect_right(through, units)
        shown = [_passage(hit, len(hit.text)) for hit in hits[:whole]]
        into = units - (through[whole - 1] if whole else 0)
        if into:
            shown.append(_passage(hits[whole], stops[whole][into - 1]))
        left = len(hits) - len(shown)
        advice = f"{left} more passages were left out for want of room; ask for fewer, or more exactly."
        return FoundPassages(tuple(shown), result.exact, left, advice if left else few)

    return fitted(through[-1] if through else 0, made, budget)


def list_knowledge_bases(service: Service, given: ListKnowledgeBases, budget: int) -> KnowledgeBaseList:
    """Knowledge bases by name, with what can be filtered by."""
    after = given.cursor or ""
    waiting = [kb for kb in service.knowledge_bases() if kb.name > after]
    page = [_summary(service, kb) for kb in waiting[:_PAGE]]

    def made(count: int) -> KnowledgeBaseList:
        more = count < len(waiting)
        cursor = page[count - 1].name if more else None
        advice = f"{len(waiting) - count} more: give cursor={cursor!r}." if more else None
        return KnowledgeBaseList(tuple(page[:count]), cursor, advice)

    return fitted(len(page), made, budget)


def _asked(service: Service, given: SearchKnowledgeBase) -> list[str]:
    if given.knowledge_base_id is not None:
        return [given.knowledge_base_id]
    every = service.catalog.knowledge_bases.every()
    if not every:
        raise InvalidInput("there is no knowledge base yet", param="knowledge_base_id")
    one_model = len({kb.fingerprint for kb in every}) == 1 or given.mode == "lexical"
    if not one_model or len(every) > _SEARCHED_AT_ONCE:
        names = ", ".join(kb.name for kb in every[:_SEARCHED_AT_ONCE])
        raise InvalidInput(
            f"these knowledge bases cannot be searched together; give knowledge_base_id, one of: {names}",
            param="knowledge_base_id",
        )
    return [kb.id for kb in every]


def _few(service: Service, given: SearchKnowledgeBase, found: int) -> str | None:
    """What to know where filters leave places empty."""
    if found == given.top_k or given.filters is None:
        return None
    known = {key.key for name in _asked(service, given) for key in service.filter_keys(name)}
    listed = ", ".join(sorted(known)) or "none"
    return f"{found} passages were found with these filters. Attributes that documents have: {listed}."


def _passage(hit: Hit, length: int) -> FoundPassage:
    return FoundPassage(
        source_connection_content_version_id=hit.content_version_id,
        start=hit.start,
        end=hit.start + length,
        text=hit.text[:length],
        cut=length < len(hit.text),
        score=hit.score,
        knowledge_base_id=hit.knowledge_base_id,
        content_id=hit.content_id,
        title=hit.title,
        uri=hit.uri,
        page=hit.page,
        heading=hit.heading,
        attributes=hit.attributes,
    )


def _summary(service: Service, kb: KnowledgeBase) -> KnowledgeBaseSummary:
    keys = sorted(service.filter_keys(kb.id), key=lambda key: -key.documents)[:_ATTRIBUTES]
    return KnowledgeBaseSummary(
        id=kb.id,
        name=kb.name,
        description=kb.description,
        documents=kb.documents,
        chunks=kb.chunks,
        languages=service.catalog.versions.languages(kb.id),
        attributes=tuple(
            AttributeSummary(key.key, key.types, key.documents, key.values, key.least, key.most)
            for key in keys
        ),
    )
