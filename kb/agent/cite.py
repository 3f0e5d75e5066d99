"""Citations in an answer as it streams, each checked against its source before it goes out."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kb.agent.evidence import Sentence, last_sentence, nearest, quoted_span, sentences
from kb.agent.markers import Claim, Marker, Markers
from kb.content.peek import Span
from kb.errors import NotFound

# Of the answer, what is remembered to know what a marker stands behind.
_REMEMBERED = 1000
# Characters of a hit that is cited as it is; a knowledge base may keep its documents whole.
_LONGEST_HIT = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that the model was given, text[start:end] of a version. found: the hits in it, best first.
    text, pages: of what is of the web, since no version of that is kept: the passage itself, and the pages
    of a PDF that it is on, each with where it begins."""

    number: int
    content_version_id: str
    content_id: str
    title: str
    uri: str
    start: int
    end: int
    found: tuple[Span, ...] = ()
    text: str | None = None
    pages: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """What an answer relies on: `quote` is text[start:end] of a version.

    page: that `start` is on; None where there are none. index, end_index: where its marker stands in the
    answer as the client sees it.
    """

    number: int
    content_version_id: str
    content_id: str
    title: str
    uri: str
    start: int
    end: int
    quote: str
    page: int | None
    index: int
    end_index: int


class Citer:
    """Parts a streamed answer into text and citations, each directly behind its marker.

    A client sees `[3]` of a marker, never the quote in it. What cites no passage, or words that do not stand
    in it, is dropped, together with the blank before it.

    text_of, page_at: a version's text; the page that an offset is on. Both may raise NotFound: what was
    deleted meanwhile is cited no more.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        text_of: Callable[[str], str],
        page_at: Callable[[str, int], int | None],
    ) -> None:
        self._sources = {source.number: source for source in sources}
        self._text_of = text_of
        self._page_at = page_at
        self._markers = Markers(self._sources)
        self._sentences: dict[int, list[list[Sentence]]] = {}
        self._sent = 0
        # What the model wrote so far, and around each marker the offset there and the one in what went out.
        self._heard = 0
        self._turns: list[tuple[int, int]] = [(0, 0)]
        # The end of the answer without its markers, and what of that is not cited yet.
        self._said, self._uncited = "", ""
        self.verified = 0
        self.dropped = 0

    def feed(self, text: str) -> list[str | Citation]:
        """What goes on to the client, in order."""
        return self._pieces(self._markers.feed(text))

    def end(self) -> list[str | Citation]:
        """What was held back."""
        return self._pieces(self._markers.end())

    def moved(self, at: int) -> int:
        """Where an offset into what the model wrote is in what the client sees."""
        turn = bisect_right(self._turns, (at, sys.maxsize)) - 1
        heard, sent = self._turns[turn]
        most = self._turns[turn + 1][1] if turn + 1 < len(self._turns) else self._sent
        return min(sent + at - heard, most)

    def _pieces(self, parts: Sequence[str | Marker]) -> list[str | Citation]:
        pieces: list[str | Citation] = []

        def send(text: str) -> None:
            self._sent += len(text)
            if pieces and isinstance(pieces[-1], str):
                pieces[-1] += text
            else:
                pieces.append(text)

        for part in parts:
            if isinstance(part, str):
                self._say(part)
                send(part)
                self._heard += len(part)
                continue
            blank = part.blank
            self._turns.append((self._heard, self._sent))
            for claim in part.claims:
                citation = self._citation(claim, self._sent + len(blank))
                if citation is None:
                    self.dropped += 1
                    continue
                self.verified += 1
                send(f"{blank}[{claim.number}]")
                pieces.append(citation)
                blank = ""
            self._say(part.blank)
            self._uncited = ""
            self._heard += part.length
            self._turns.append((self._heard, self._sent))
        return pieces

    def _say(self, text: str) -> None:
        self._said = (self._said + text)[-_REMEMBERED:]
        self._uncited = (self._uncited + text)[-_REMEMBERED:]

    def _citation(self, claim: Claim, index: int) -> Citation | None:
        """None where it cites nothing that holds."""
        source = self._sources.get(claim.number)
        try:
            span = source and self._span(claim, source)
            if not source or not span:
                return None
            start, end = span
            citation = Citation(
                source.number,
                source.content_version_id,
                source.content_id,
                source.title,
                source.uri,
                start,
                end,
                self._text_of(source.content_version_id)[start:end],
                self._page_at(source.content_version_id, start),
                index,
                index + len(f"[{source.number}]"),
            )
        except NotFound:
            return None
        return citation if holds(citation, self._text_of) else None

    def _span(self, claim: Claim, source: Source) -> Span | None:
        text, passage = self._text_of(source.content_version_id), (source.start, source.end)
        if claim.quote is not None:
            return quoted_span(claim.quote, text, passage, source.found)
        if source.number not in self._sentences:
            self._sentences[source.number] = sentences(text, passage, source.found)
        runs = self._sentences[source.number]
        # Where no word is shared, what was found is what the model relied on.
        hits = (span for span in source.found if span[1] - span[0] <= _LONGEST_HIT)
        return (
            nearest(last_sentence(self._said), last_sentence(self._uncited), runs)
            or next(hits, None)
            or next(((one.start, one.end) for run in runs for one in run), None)
        )


def holds(citation: Citation, text_of: Callable[[str], str]) -> bool:
    """Whether the quote is, character for character, what stands there now."""
    try:
        text = text_of(citation.content_version_id)
    except NotFound:
        return False
    start, end = citation.start, citation.end
    return 0 <= start < end <= len(text) and text[start:end] == citation.quote
