"""Hits are widened: to their neighbours, or to the section that they stand in."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from kb.catalog.documents import Documents, Opened
from kb.types import Expand, Hit, Passage

MAX_SECTION = 10_000
"""Code points of a section that come back; of a longer one, those around the hit."""

Span = tuple[int, int]


def expanded(hits: Sequence[Hit], by: Expand, documents: Documents) -> list[Hit]:
    """The hits on wider spans, best first; those that come to overlap in one version become one.

    `matches` keeps what matched. A hit whose document was deleted meanwhile is absent. Three statements at
    most, however many hits.
    """
    span = _section if by == "section" else _neighbours(hits, by, documents)
    of: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        of[hit.content_version_id].append(hit)
    wide = [
        replace(made, text=version.text[made.start : made.end])
        for version in documents.opened(list(of))
        for made in _merged([_widened(hit, span(hit, version)) for hit in of[version.id]])
    ]
    order = {hit.chunk_id: rank for rank, hit in enumerate(hits)}
    return sorted(wide, key=lambda hit: order[hit.chunk_id])


def _neighbours(hits: Sequence[Hit], number: int, documents: Documents) -> Callable[[Hit, Opened], Span]:
    # The chunks of a version have consecutive ids (kb/catalog/store.py).
    around = {hit.chunk_id: range(hit.chunk_id - number, hit.chunk_id + number + 1) for hit in hits}
    found = documents.passages(sorted({chunk_id for some in around.values() for chunk_id in some}))

    def span(hit: Hit, _: Opened) -> Span:
        there = [found[chunk_id] for chunk_id in around[hit.chunk_id] if chunk_id in found]
        mine = [one for one in there if one.content_version_id == hit.content_version_id]
        return min((one.start for one in mine), default=hit.start), max(
            (one.end for one in mine), default=hit.end
        )

    return span


def _section(hit: Hit, version: Opened) -> Span:
    """From the heading above the hit to the next of its level or higher; all of it where there is none."""
    above = bisect_right([heading.start for heading in version.headings], hit.start)
    start, level = 0, 7
    if above:
        start, level = version.headings[above - 1].start, version.headings[above - 1].level
    below = (one.start for one in version.headings[above:] if one.start >= hit.end and one.level <= level)
    end = next(below, len(version.text))
    if end - start > MAX_SECTION:
        start, end = _window(version.text, start, end, hit)
    end = max(hit.end, start + len(version.text[start:end].rstrip()))
    return start, end


def _window(text: str, start: int, end: int, hit: Hit) -> Span:
    """At most MAX_SECTION around a hit, its edges on line breaks where there are any."""
    spare = max(0, MAX_SECTION - (hit.end - hit.start))
    left = min(max(start, hit.start - spare // 2), max(start, end - MAX_SECTION))
    right = min(end, left + max(MAX_SECTION, hit.end - left))
    if left > start:
        left = text.find("\n", left, hit.start) + 1 or left
    if right < end and (broken := text.rfind("\n", hit.end, right)) >= 0:
        right = broken
    return left, right


def _widened(hit: Hit, span: Span) -> Hit:
    match = Passage(hit.content_id, hit.content_version_id, hit.chunk_id, hit.start, hit.end)
    return replace(hit, start=span[0], end=span[1], matches=(match,))


def _merged(hits: Sequence[Hit]) -> list[Hit]:
    """Of one version, best first: the better of two that overlap takes in the other's span."""
    order = {hit.chunk_id: rank for rank, hit in enumerate(hits)}
    made: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, hit.end)):
        if made and hit.start < made[-1].end:
            first, second = sorted((made[-1], hit), key=lambda one: order[one.chunk_id])
            matches = sorted((*first.matches, *second.matches), key=lambda one: order[one.chunk_id])
            made[-1] = replace(
                first,
                start=min(first.start, second.start),
                end=max(first.end, second.end),
                matches=tuple(matches),
                duplicates=(*first.duplicates, *second.duplicates),
            )
        else:
            made.append(hit)
    return made
