"""What may be cited in a run, by the numbers that the model reads; they go on from turn to turn."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from kb.agent.cite import Source
from kb.types import Version
from kb.web.research import WebPassage


class Numbers:
    """Numbers in the order in which the model came to see what they stand for. Thread-safe.

    earlier: what tools showed in the turns before, whose results the model reads again. packed: the passages
    that this turn begins with.
    """

    def __init__(self, packed: Sequence[Source] = (), earlier: Sequence[Source] = ()) -> None:
        self._lock = threading.Lock()
        self.sources = [*earlier, *packed]
        self._given = len(self.sources)
        self._next = after(self.sources)

    def add(self, spans: Sequence[tuple[Version, int, int]]) -> list[int]:
        """The numbers of spans of versions, from now on."""
        return self._add(
            [
                Source(0, one.id, one.content_id, one.title, one.uri, start, end, ((start, end),))
                for one, start, end in spans
            ]
        )

    def add_pages(self, passages: Sequence[WebPassage]) -> list[int]:
        """The same of passages of web pages; a page is its own content, and its address its place."""
        return self._add([_of_page(one) for one in passages])

    @property
    def added(self) -> list[dict[str, Any]]:
        """What tools showed in this turn, as it is kept: `read` makes sources of it again."""
        return [
            {
                name: value
                for name, value in asdict(source).items()
                if name != "found" and value not in (None, ())
            }
            for source in self.sources[self._given :]
        ]

    def page_text(self, page_id: str) -> str:
        """A page of the web as far as passages of it were shown, blanks where none was: all that can be
        cited of it, whether or not any process still has the page."""
        text = ""
        for one in self.sources:
            if one.content_version_id == page_id and one.text:
                text = text[: one.start].ljust(one.start) + one.text + text[one.end :]
        return text

    def page_at(self, page_id: str, at: int) -> int | None:
        """The page of a PDF of the web that an offset is on; None of other kinds."""
        begun = [
            page
            for one in self.sources
            if one.content_version_id == page_id
            for page in one.pages
            if page[0] <= at
        ]
        return max(begun)[1] if begun else None

    def _add(self, sources: Sequence[Source]) -> list[int]:
        with self._lock:
            numbers = range(self._next, self._next + len(sources))
            self._next += len(sources)
            self.sources += [
                replace(source, number=number) for number, source in zip(numbers, sources, strict=True)
            ]
        return list(numbers)


def read(kept: Sequence[Mapping[str, Any]]) -> list[Source]:
    """Sources as `Numbers.added` told them."""
    return [
        Source(
            **{**one, "pages": tuple(map(tuple, one.get("pages", ())))}, found=((one["start"], one["end"]),)
        )
        for one in kept
    ]


def after(sources: Sequence[Source]) -> int:
    """The first number that is free behind them."""
    return max((source.number for source in sources), default=0) + 1


def _of_page(one: WebPassage) -> Source:
    page, span = one.page, (one.start, one.end)
    begun = [(leaf.start, leaf.number) for leaf in page.document.pages if leaf.start < one.end]
    first = max((at for at, leaf in enumerate(begun) if leaf[0] <= one.start), default=0)
    pages = tuple(begun[first:])
    return Source(0, page.id, page.id, page.title, page.url, *span, (span,), one.text, pages)
