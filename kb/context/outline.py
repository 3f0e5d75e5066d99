"""A document as packing sees it: where its chunks stand and how many tokens each takes."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

Range = tuple[int, int]
"""Chunks of a document by their places in it, half-open."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The chunks of one version, in order. sections: of each, the heading path that it stands under.

    tokens: of each, with what lies between it and a neighbour. reference: of the line that names a passage
    of it, but for its heading.
    """

    version_id: str
    title: str
    uri: str
    starts: Sequence[int]
    ends: Sequence[int]
    tokens: Sequence[int]
    pages: Sequence[int | None]
    sections: Sequence[str | None]
    section_starts: Sequence[int]
    reference: int

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, offset: int) -> int:
        """The chunk that an offset stands in, or the last before it."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def covering(self, start: int, end: int) -> Range:
        """The chunks that a span touches."""
        first = self.at(start)
        while first < len(self) and self.ends[first] <= start:
            first += 1
        last = first
        while last < len(self) and self.starts[last] < end:
            last += 1
        return first, last

    def around(self, chunks: Range) -> Range:
        """With a neighbour on each side."""
        return max(0, chunks[0] - 1), min(len(self), chunks[1] + 1)

    def section(self, chunks: Range) -> Range:
        """With all that stands under the same headings."""
        first, last = chunks
        if first == last:
            return chunks
        before = bisect_right(self.section_starts, first) - 1
        after = bisect_right(self.section_starts, last - 1)
        ends = self.section_starts[after] if after < len(self.section_starts) else len(self)
        return self.section_starts[before], ends


def section_starts(sections: Sequence[str | None]) -> list[int]:
    """Where the heading path changes, from chunk to chunk; the first chunk is one of them."""
    return [at for at, name in enumerate(sections) if at == 0 or name != sections[at - 1]]
