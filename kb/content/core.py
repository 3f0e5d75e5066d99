"""What a service can do with the texts themselves: list, measure, open and look through them."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kb.catalog.versions import Versions
from kb.content import grep, peek
from kb.content.peek import Span
from kb.content.texts import OpenText, Texts
from kb.errors import InvalidInput, NotFound
from kb.types import Heading, KnowledgeBase, Version

MAX_CONTEXT = 1000
"""Characters on each side of a match."""

MAX_MATCHES = 1000
"""Of one grep."""

# A match that is longer is given to here, so that no expression carries a whole book off.
_LONGEST_MATCH = 2000
# After this what was not reached is left to the next call; to see it takes a quarter of a second at most.
_GREP_SECONDS = 0.7


@dataclass(frozen=True, slots=True)
class Extract:
    """text[start:end] of a version. before, after: the headings that begin next to it on either side."""

    version: Version
    start: int
    end: int
    text: str
    page: int | None
    heading: str | None
    before: Heading | None
    after: Heading | None


@dataclass(frozen=True, slots=True)
class Stats:
    """The size and the shape of a version. tokens: by `kb.tokens`. words: runs between blanks."""

    version: Version
    tokens: int
    words: int
    lines: int
    headings: tuple[Heading, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """text[start:end] of a version matches; it stands in context_start:context_end, which is `context`.

    cut: whether the match goes on behind `end`. line: counted from 1.
    """

    version: Version
    start: int
    end: int
    text: str
    cut: bool
    line: int
    page: int | None
    heading: str | None
    context_start: int
    context_end: int
    context: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches in order, and the cursor to go on from; None where all was looked through."""

    found: tuple[Match, ...]
    cursor: str | None


class Contents:
    """Texts by version. `start` and `end` are half-open offsets in code points."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._texts = Texts(versions)

    def sources(
        self, kb: KnowledgeBase | None, *, query: str = "", limit: int = 100, cursor: str = ""
    ) -> tuple[list[Version], str | None]:
        """Current versions in order of their documents' ids, and the cursor to go on from.

        query: words that must each stand in the title or the uri. kb: None for all knowledge bases.
        """
        words = query.casefold().split()
        page: list[Version] = []
        for version in self._versions.current(None if kb is None else kb.id, cursor):
            if all(word in f"{version.title}\n{version.uri}".casefold() for word in words):
                if len(page) == limit:
                    return page, page[-1].content_id
                page.append(version)
        return page, None

    def open(self, version_id: str) -> OpenText:
        """A version as it is now, with its text. Raises NotFound."""
        return self._texts.open(version_id)

    def of(self, version: Version) -> OpenText:
        """One that was just read from the catalog, with its text. Raises NotFound."""
        return self._texts.of(version)

    def text(self, version_id: str, start: int = 0, end: int | None = None) -> str:
        """text[start:end] of a version. Raises NotFound, or InvalidInput outside the text."""
        opened = self.open(version_id)
        return opened.text[slice(*peek.span_of_characters(opened, start, end))]

    def stats(self, version_id: str) -> Stats:
        """Raises NotFound."""
        opened = self.open(version_id)
        version, marks = opened.version, opened.marks
        tokens = marks.tokens if version.tokens is None else version.tokens
        return Stats(version, tokens, marks.words, len(marks.lines), marks.headings)

    def peek(
        self,
        version_id: str,
        start: int | None = None,
        end: int | None = None,
        *,
        page: int | None = None,
        heading: str | None = None,
    ) -> Extract:
        """A part of a version, given in one of three ways. Raises NotFound or InvalidInput."""
        opened = self.open(version_id)
        return extract(opened, *span(opened, start, end, page=page, heading=heading))

    def grep(
        self,
        pattern: str,
        *,
        version_id: str | None = None,
        kb: KnowledgeBase | None = None,
        regex: bool = False,
        case: bool = False,
        context: int = 80,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Matches:
        """Where a pattern stands in one version, or in the current ones of a knowledge base.

        Literal unless `regex`, which is an RE2 expression within one line. case: whether capital and small
        letters differ. context: characters shown on each side. Leaves off after `limit` matches or most
        of a second, with a cursor. Raises NotFound or InvalidInput.
        """
        if (version_id is None) == (kb is None):
            raise InvalidInput(
                "give a content version or a knowledge base to look through", param="content_version_id"
            )
        find = grep.compiled(pattern, regex=regex, case=case)
        at_id, at = _parsed(cursor)
        if version_id is not None:
            texts: Iterable[OpenText] = [self.open(version_id)]
        else:
            assert kb is not None
            texts = self._of(kb, at_id)
        until = time.monotonic() + _GREP_SECONDS
        found: list[Match] = []
        for opened in texts:
            position = at if opened.version.id == at_id else 0
            if position > len(opened.text) or (version_id and at_id not in ("", version_id)):
                raise _no_cursor()
            for start, end in find(opened, position):
                if len(found) == limit or time.monotonic() > until:
                    return Matches(tuple(found), f"{opened.version.id}:{position}")
                position = end
                if start < end:
                    found.append(_match(opened, (start, end), context))
            if time.monotonic() > until:
                return Matches(tuple(found), f"{opened.version.id}:{len(opened.text)}")
        return Matches(tuple(found), None)

    def _of(self, kb: KnowledgeBase, first: str) -> Iterator[OpenText]:
        """The current texts of a knowledge base, from the document of one version on."""
        after = ""
        if first:
            started = self._versions.get(first)
            if started.knowledge_base_id != kb.id:
                raise _no_cursor()
            # What replaced it while somebody read on is looked through by who begins anew.
            yield self._texts.read(started)
            after = started.content_id
        for version in self._versions.current(kb.id, after):
            try:
                yield self._texts.read(version)
            except NotFound:
                # Deleted between the two reads.
                continue


def span(
    opened: OpenText, start: int | None, end: int | None, *, page: int | None, heading: str | None
) -> Span:
    """The part that is meant by characters, by page or by heading; all of it by none of these."""
    ways = [start is not None or end is not None, page is not None, heading is not None]
    if sum(ways) > 1:
        raise InvalidInput("give start and end, or a page, or a heading; not several of them", param="start")
    if page is not None:
        return peek.span_of_page(opened, page)
    if heading is not None:
        return peek.span_of_section(opened, heading)
    return peek.span_of_characters(opened, start or 0, end)


def extract(opened: OpenText, start: int, end: int) -> Extract:
    """A part of a text, and what stands around it."""
    marks = opened.marks
    above = marks.heading(start)
    page = marks.page(start)
    before = marks.heading(start - 1) if start else None
    return Extract(
        opened.version,
        start,
        end,
        opened.text[start:end],
        page.number if page else None,
        above.title if above else None,
        before,
        marks.next_heading(end),
    )


def _match(opened: OpenText, span: Span, context: int) -> Match:
    start, end = span[0], min(span[1], span[0] + _LONGEST_MATCH)
    left, right = max(0, start - context), min(len(opened.text), end + context)
    marks = opened.marks
    page, heading = marks.page(start), marks.heading(start)
    return Match(
        opened.version,
        start,
        end,
        opened.text[start:end],
        end < span[1],
        marks.line(start),
        page.number if page else None,
        heading.title if heading else None,
        left,
        right,
        opened.text[left:right],
    )


def _parsed(cursor: str | None) -> tuple[str, int]:
    if cursor is None:
        return "", 0
    version_id, _, at = cursor.rpartition(":")
    if not version_id or not at.isdecimal() or len(at) > 18:
        raise _no_cursor()
    return version_id, int(at)


def _no_cursor() -> InvalidInput:
    return InvalidInput("this is no cursor of this grep; leave it out to begin anew", param="cursor")
