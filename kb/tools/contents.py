"""The tools over the texts themselves: list, measure, load, peek, grep."""

from kb.content.core import Match, extract, span
from kb.content.peek import sentence_ends
from kb.content.texts import Marks, OpenText
from kb.service import Service
from kb.tools.arguments import GetContentStats, GrepContent, ListContentSources, LoadContent, PeekContent
from kb.tools.budget import CHARACTERS_PER_TOKEN, fitted, size
from kb.tools.results import (
    ContentSource,
    ContentSourceList,
    ContentStats,
    FoundMatch,
    FoundMatches,
    LoadedContent,
    OutlineHeading,
    PeekedContent,
)
from kb.types import Heading, KnowledgeBase, Version

_PAGE = 100
# Tokens that a heading of an outline takes at the least: no more of them are tried than could fit.
_HEADING = 10
# What a result says beside its text: names, spans, advice.
_ROOM_AROUND = 400


def list_content_sources(service: Service, given: ListContentSources, budget: int) -> ContentSourceList:
    """Documents, each with its current version."""
    kb = _knowledge_base(service, given.knowledge_base_id)
    versions, cursor = service.contents.sources(kb, query=given.query, limit=_PAGE, cursor=given.cursor or "")
    page = [_source(version) for version in versions]

    def made(count: int) -> ContentSourceList:
        on = cursor if count == len(page) else page[count - 1].content_id
        advice = None if on is None else f"There are more: give cursor={on!r}, or words in query."
        return ContentSourceList(tuple(page[:count]), on, advice)

    return fitted(len(page), made, budget)


def get_content_stats(service: Service, given: GetContentStats, budget: int) -> ContentStats:
    """The size and the shape of a version."""
    version_id = given.source_connection_content_version_id
    stats, marks = service.contents.stats(version_id), service.contents.open(version_id).marks
    version = stats.version

    def made(count: int) -> ContentStats:
        left = len(stats.headings) - count
        cut = f"{left} more headings were left out." if left else None
        return ContentStats(
            source_connection_content_version_id=version.id,
            content_id=version.content_id,
            knowledge_base_id=version.knowledge_base_id,
            uri=version.uri,
            title=version.title,
            media_type=version.media_type,
            language=version.language,
            byte_size=version.byte_size,
            characters=version.characters,
            tokens=stats.tokens,
            words=stats.words,
            lines=stats.lines,
            pages=version.pages,
            updated=version.created_at,
            superseded_by=version.superseded_by,
            outline=tuple(_outlined(marks, one) for one in stats.headings[:count]),
            advice=_joined(cut, _superseded(version)),
        )

    return fitted(min(len(stats.headings), budget // _HEADING), made, budget, least=0)


def load_content(service: Service, given: LoadContent, budget: int) -> LoadedContent:
    """The whole text, or its outline where it is too large."""
    budget = given.max_tokens or budget
    stats = service.contents.stats(given.source_connection_content_version_id)
    opened = service.contents.open(given.source_connection_content_version_id)
    version, marks = stats.version, opened.marks

    def made(text: str | None, outline: tuple[OutlineHeading, ...], advice: str | None) -> LoadedContent:
        return LoadedContent(
            source_connection_content_version_id=version.id,
            title=version.title,
            uri=version.uri,
            characters=version.characters,
            tokens=stats.tokens,
            text=text,
            outline=outline,
            superseded_by=version.superseded_by,
            advice=_joined(advice, _superseded(version)),
        )

    if stats.tokens <= budget:
        whole = made(opened.text, (), None)
        if size(whole, budget) <= budget:
            return whole
    outline = _outline(marks)

    def outlined(count: int) -> LoadedContent:
        left = f" {len(outline) - count} headings were left out here." if count < len(outline) else ""
        advice = (
            f"The text has {stats.tokens} tokens and does not fit into {budget}. Read it in parts: "
            "peek_content with start=0 and then with the cursor it gives, or with a heading; or "
            f"grep_content.{left}"
        )
        return made(None, outline[:count], advice)

    return fitted(min(len(outline), budget // _HEADING), outlined, budget, least=0)


def peek_content(service: Service, given: PeekContent, budget: int) -> PeekedContent:
    """A part of a version; as much of it as fits, cut at the end of a sentence."""
    opened = service.contents.open(given.source_connection_content_version_id)
    # A model that reads on need not know where the text ends.
    most = None if given.end is None else min(given.end, len(opened.text))
    start, end = span(opened, given.start, most, page=given.page, heading=given.heading)
    reach = min(end, start + max(1, budget - _ROOM_AROUND) * CHARACTERS_PER_TOKEN)
    stops = [start, *sentence_ends(opened.text, start, reach)]

    def to_sentence(count: int) -> PeekedContent:
        return _peeked(opened, start, stops[count], end)

    peeked = fitted(len(stops) - 1, to_sentence, budget, least=0)
    if peeked.end > start or start == end:
        return peeked
    # Not even one sentence: then anywhere in it.
    return fitted(stops[1] - start, lambda count: _peeked(opened, start, start + count, end), budget)


def grep_content(service: Service, given: GrepContent, budget: int) -> FoundMatches:
    """Where a pattern stands in one version, or in a knowledge base."""
    version_id = given.source_connection_content_version_id
    kb = None if version_id is not None else _knowledge_base(service, given.knowledge_base_id)
    matches = service.contents.grep(
        given.pattern,
        version_id=version_id,
        kb=kb,
        regex=given.regex,
        case=given.case,
        context=given.context,
        limit=_PAGE,
        cursor=given.cursor,
    )
    page = [_found(match) for match in matches.found]

    def made(count: int) -> FoundMatches:
        cursor = matches.cursor
        if count < len(page):
            last = matches.found[count - 1]
            cursor = f"{last.version.id}:{last.end}"
        advice = None if cursor is None else f"There may be more: give cursor={cursor!r}."
        return FoundMatches(tuple(page[:count]), cursor, advice)

    return fitted(len(page), made, budget)


def _knowledge_base(service: Service, name: str | None) -> KnowledgeBase | None:
    return None if name is None else service.catalog.knowledge_bases.get(name)


def _source(version: Version) -> ContentSource:
    return ContentSource(
        source_connection_content_version_id=version.id,
        content_id=version.content_id,
        knowledge_base_id=version.knowledge_base_id,
        source=version.source,
        uri=version.uri,
        title=version.title,
        media_type=version.media_type,
        byte_size=version.byte_size,
        characters=version.characters,
        pages=version.pages,
        updated=version.created_at,
    )


def _peeked(opened: OpenText, start: int, stop: int, end: int) -> PeekedContent:
    version, marks, part = opened.version, opened.marks, extract(opened, start, stop)
    cut = (
        f"Cut to fit; {end - stop} characters of it follow: give start={stop}, end={end}."
        if stop < end
        else None
    )
    return PeekedContent(
        source_connection_content_version_id=version.id,
        title=version.title,
        uri=version.uri,
        start=start,
        end=stop,
        text=part.text,
        page=part.page,
        heading=part.heading,
        before=start,
        after=len(opened.text) - stop,
        heading_before=_outlined(marks, part.before) if part.before else None,
        heading_after=_outlined(marks, part.after) if part.after else None,
        cursor=stop if stop < end else None,
        superseded_by=version.superseded_by,
        advice=_joined(cut, _superseded(version)),
    )


def _found(match: Match) -> FoundMatch:
    return FoundMatch(
        source_connection_content_version_id=match.version.id,
        title=match.version.title,
        uri=match.version.uri,
        start=match.start,
        end=match.end,
        text=match.text,
        cut=match.cut,
        line=match.line,
        page=match.page,
        heading=match.heading,
        context_start=match.context_start,
        context_end=match.context_end,
        context=match.context,
    )


def _outlined(marks: Marks, heading: Heading) -> OutlineHeading:
    page = marks.page(heading.start)
    return OutlineHeading(heading.level, heading.title, heading.start, page.number if page else None)


def _outline(marks: Marks) -> tuple[OutlineHeading, ...]:
    """The headings of a text; of one that has none, its pages."""
    if marks.headings:
        return tuple(_outlined(marks, one) for one in marks.headings)
    return tuple(OutlineHeading(1, f"page {page.number}", page.start, page.number) for page in marks.pages)


def _superseded(version: Version) -> str | None:
    if version.superseded_by is None:
        return None
    return f"This version was replaced; the document's current one is {version.superseded_by}."


def _joined(*advice: str | None) -> str | None:
    return " ".join(one for one in advice if one) or None
