"""A part of a text: by characters, by page, or by heading; every span given out can be asked for again."""

import difflib
import re
from collections.abc import Sequence

from kb.content.texts import OpenText
from kb.errors import InvalidInput, NotFound
from kb.types import Heading, Page

Span = tuple[int, int]

# Named in a refusal; a book has thousands.
_SUGGESTED = 5
# As in kb/ingest/chunk.py: a full stop ends a sentence unless a small letter follows.
_SENTENCE_END = re.compile(r"(?:[.!?…]['\"”’»)\]]*+\s++(?![a-zäöüß])|[。！？]\s*|\n\s*)")


def span_of_characters(text: OpenText, start: int, end: int | None) -> Span:
    """start to end; None for the text's end. Raises InvalidInput outside the text."""
    most = len(text.text)
    stop = most if end is None else end
    if not 0 <= start <= stop <= most:
        raise InvalidInput(
            f"start {start} and end {end} are not a part of this text, which has {most} characters: "
            f"0 <= start <= end <= {most}",
            param="start",
        )
    return start, stop


def span_of_page(text: OpenText, number: int) -> Span:
    """A page (slide, sheet) by its number. Raises NotFound."""
    pages: Sequence[Page] = text.marks.pages
    for at, page in enumerate(pages):
        if page.number == number:
            return page.start, pages[at + 1].start if at + 1 < len(pages) else len(text.text)
    if not pages:
        raise NotFound("this text has no pages; give start and end, or a heading", param="page")
    raise NotFound(f"no page {number}; there are pages {pages[0].number} to {pages[-1].number}", param="page")


def span_of_section(text: OpenText, heading: str) -> Span:
    """From a heading to the next of its level or a higher one.

    The heading by its title, letters' case left aside; by a part of it where only one has it. Raises
    NotFound, with the nearest titles, or InvalidInput, with their places, where several are meant.
    """
    headings = text.marks.headings
    if not headings:
        raise NotFound("this text has no headings; give start and end", param="heading")
    wanted = heading.strip().casefold()
    found = [one for one in headings if one.title.casefold() == wanted]
    found = found or [one for one in headings if wanted and wanted in one.title.casefold()]
    if not found:
        titles = [one.title for one in headings]
        near = difflib.get_close_matches(heading, titles, _SUGGESTED) or titles[:_SUGGESTED]
        listed = ", ".join(repr(title) for title in near)
        raise NotFound(f"no heading {heading!r}; there are {listed}", param="heading")
    if len(found) > 1:
        places = ", ".join(f"{one.title!r} at {one.start}" for one in found[:_SUGGESTED])
        more = f" and {len(found) - _SUGGESTED} more" if len(found) > _SUGGESTED else ""
        raise InvalidInput(
            f"{len(found)} headings are {heading!r}: {places}{more}; give start instead", param="heading"
        )
    return section(text, found[0])


def section(text: OpenText, heading: Heading) -> Span:
    """From a heading to the next of its level or a higher one."""
    after = (
        one.start for one in text.marks.headings if one.start > heading.start and one.level <= heading.level
    )
    return heading.start, next(after, len(text.text))


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Where a part of a text may be cut short: behind its sentences and lines, and at its end; ascending."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text, start, end) if found.end() < end]
    return [*ends, end]
