"""What each tool gives: a frozen value for programs, and as text for a model, quotations fenced.

In every one, `advice` says what was left out and how to go on; None where there is nothing to say. Spans are
half-open, in Unicode code points of the version's immutable text, and arguments of peek_content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kb.content.fence import NOTICE, named, quoted, visible
from kb.types import AttributeValue

ID = "source_connection_content_version_id"


class Result(Protocol):
    """The result of a tool: a frozen dataclass, of JSON's types."""

    def shown(self) -> str:
        """As a model reads it."""


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage that answers: `text` is exactly text[start:end] of its version, which can be cited by it.

    cut: whether it was shortened, at the end of a sentence, to fit; `end` is where it was cut.
    """

    source_connection_content_version_id: str
    start: int
    end: int
    text: str
    cut: bool
    score: float
    knowledge_base_id: str
    content_id: str
    title: str
    uri: str
    page: int | None
    heading: str | None
    attributes: Mapping[str, AttributeValue]

    def shown(self, number: int) -> str:
        """Where it stands, and the text."""
        place = _place(self.title, self.uri, self.page, self.heading)
        at = f"{ID}={self.source_connection_content_version_id} start={self.start} end={self.end}"
        more = " (cut short)" if self.cut else ""
        return f"[{number}] {place}; score {self.score:.3f}\n{at}{more}\n{quoted(self.text)}"


@dataclass(frozen=True, slots=True)
class FoundPassages:
    """Passages, best first. exact: whether nothing better can have been missed."""

    hits: tuple[FoundPassage, ...]
    exact: bool
    left_out: int
    advice: str | None

    def shown(self, first: int = 1) -> str:
        """As a model reads it. first: the number of the first passage."""
        if not self.hits:
            return _lines("No passage was found.", self.advice)
        hits = "\n\n".join(hit.shown(number) for number, hit in enumerate(self.hits, first))
        return _lines(f"{len(self.hits)} passages, best first. {NOTICE}\n\n{hits}", self.advice)


@dataclass(frozen=True, slots=True)
class AttributeSummary:
    """An attribute that documents can be filtered by. documents: how many have it.

    types: string, number, boolean. values: of strings some, most frequent first. least, most: of numbers.
    """

    key: str
    types: tuple[str, ...]
    documents: int
    values: tuple[str, ...]
    least: float | None
    most: float | None

    def shown(self) -> str:
        """On one line."""
        examples = f": {', '.join(named(value) for value in self.values)}" if self.values else ""
        between = f", {self.least:g} to {self.most:g}" if self.least is not None else ""
        return f"{named(self.key)} ({'/'.join(self.types)}{between}{examples})"


@dataclass(frozen=True, slots=True)
class KnowledgeBaseSummary:
    """A knowledge base. languages: documents by language code, most first."""

    id: str
    name: str
    description: str
    documents: int
    chunks: int
    languages: Mapping[str, int]
    attributes: tuple[AttributeSummary, ...]

    def shown(self) -> str:
        """As a model reads it."""
        spoken = ", ".join(f"{code} {count}" for code, count in self.languages.items()) or "not known"
        lines = [
            f"{named(self.name)} {self.id}: {self.documents} documents in {self.chunks} chunks; "
            f"languages: {spoken}"
        ]
        if self.description:
            lines.append(f"  {visible(' '.join(self.description.split()))}")
        if self.attributes:
            lines.append(f"  filters: {'; '.join(one.shown() for one in self.attributes)}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class KnowledgeBaseList:
    """Knowledge bases by name."""

    knowledge_bases: tuple[KnowledgeBaseSummary, ...]
    cursor: str | None
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        listed = "\n".join(one.shown() for one in self.knowledge_bases)
        return _lines(listed or "There is no knowledge base.", self.advice)


@dataclass(frozen=True, slots=True)
class ContentSource:
    """A document and its current version. source: the folder it came from, or how it was sent in."""

    source_connection_content_version_id: str
    content_id: str
    knowledge_base_id: str
    source: str
    uri: str
    title: str
    media_type: str
    byte_size: int
    characters: int
    pages: int
    updated: str

    def shown(self) -> str:
        """On two lines."""
        pages = f", {self.pages} pages" if self.pages else ""
        return (
            f"{_place(self.title, self.uri)}\n  {ID}={self.source_connection_content_version_id}, "
            f"{self.media_type}, {self.characters} characters{pages}, {self.updated}"
        )


@dataclass(frozen=True, slots=True)
class ContentSourceList:
    """Documents in order of their ids."""

    sources: tuple[ContentSource, ...]
    cursor: str | None
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        listed = "\n".join(one.shown() for one in self.sources)
        return _lines(listed or "No document was found.", self.advice)


@dataclass(frozen=True, slots=True)
class OutlineHeading:
    """A heading of `level` 1 to 6, or a page where a text has no headings, that begins at `start`."""

    level: int
    title: str
    start: int
    page: int | None

    def shown(self) -> str:
        """On one line, indented by its level."""
        page = f", page {self.page}" if self.page is not None else ""
        return f"{'  ' * (self.level - 1)}{named(self.title)} start={self.start}{page}"


@dataclass(frozen=True, slots=True)
class ContentStats:
    """The size and the shape of a version. tokens: o200k_base. words: runs between blanks.

    language: BCP 47, "" where it is not certain. superseded_by: the version that replaced this one.
    """

    source_connection_content_version_id: str
    content_id: str
    knowledge_base_id: str
    uri: str
    title: str
    media_type: str
    language: str
    byte_size: int
    characters: int
    tokens: int
    words: int
    lines: int
    pages: int
    updated: str
    superseded_by: str | None
    outline: tuple[OutlineHeading, ...]
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        figures = (
            f"{self.characters} characters, {self.tokens} tokens (o200k_base), {self.words} words, "
            f"{self.lines} lines, {self.pages} pages, {self.byte_size} bytes; "
            f"{self.media_type}, language {self.language or 'not known'}, {self.updated}"
        )
        outline = "\n".join(one.shown() for one in self.outline) or "(no headings)"
        return _lines(
            f"{_place(self.title, self.uri)}\n{ID}={self.source_connection_content_version_id}\n{figures}\n"
            f"{outline}",
            self.advice,
        )


@dataclass(frozen=True, slots=True)
class LoadedContent:
    """The whole text of a version; or, where it is larger than what may be loaded, null and its outline."""

    source_connection_content_version_id: str
    title: str
    uri: str
    characters: int
    tokens: int
    text: str | None
    outline: tuple[OutlineHeading, ...]
    superseded_by: str | None
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        head = (
            f"{_place(self.title, self.uri)}, {self.characters} characters, {self.tokens} tokens\n"
            f"{ID}={self.source_connection_content_version_id} start=0 end={self.characters}"
        )
        if self.text is not None:
            return _lines(f"{head}\n{NOTICE}\n{quoted(self.text)}", self.advice)
        return _lines(f"{head}\n" + "\n".join(one.shown() for one in self.outline), self.advice)


@dataclass(frozen=True, slots=True)
class PeekedContent:
    """text[start:end] of a version, and what lies around it.

    before, after: characters. heading: the one above `start`. heading_before, heading_after: the nearest that
    begin before it and behind its end. cursor: where to go on, as `start`; None at the end of what was asked.
    """

    source_connection_content_version_id: str
    title: str
    uri: str
    start: int
    end: int
    text: str
    page: int | None
    heading: str | None
    before: int
    after: int
    heading_before: OutlineHeading | None
    heading_after: OutlineHeading | None
    cursor: int | None
    superseded_by: str | None
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        around = f"{self.before} characters before, {self.after} after"
        for name, one in (("heading before", self.heading_before), ("next heading", self.heading_after)):
            around += f"; {name} {one.shown().strip()}" if one else ""
        return _lines(
            f"{_place(self.title, self.uri, self.page, self.heading)}\n"
            f"{ID}={self.source_connection_content_version_id} start={self.start} end={self.end}\n"
            f"{around}\n{NOTICE}\n{quoted(self.text)}",
            self.advice,
        )


@dataclass(frozen=True, slots=True)
class FoundMatch:
    """text[start:end] of a version matches, on a line counted from 1; `context` is what stands around it.

    cut: whether the match goes on behind `end`.
    """

    source_connection_content_version_id: str
    title: str
    uri: str
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

    def shown(self) -> str:
        """Where it stands, and what stands around it."""
        return (
            f"{_place(self.title, self.uri, self.page, self.heading)}, line {self.line}\n"
            f"{ID}={self.source_connection_content_version_id} start={self.start} end={self.end}\n"
            f"{quoted(self.context)}"
        )


@dataclass(frozen=True, slots=True)
class FoundMatches:
    """Matches in the order of the texts."""

    matches: tuple[FoundMatch, ...]
    cursor: str | None
    advice: str | None

    def shown(self) -> str:
        """As a model reads it."""
        if not self.matches:
            return _lines("No match.", self.advice)
        found = "\n\n".join(one.shown() for one in self.matches)
        return _lines(f"{len(self.matches)} matches. {NOTICE}\n\n{found}", self.advice)


def _place(title: str, uri: str, page: int | None = None, heading: str | None = None) -> str:
    on = f", page {page}" if page is not None else ""
    under = f", under {named(heading)}" if heading else ""
    return f"{named(title)} in {named(uri)}{on}{under}"


def _lines(text: str, advice: str | None) -> str:
    return f"{text}\n\n{advice}" if advice else text
