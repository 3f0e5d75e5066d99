"""The texts of versions, kept in memory: they never change, so only their deletion has to be looked for."""

import sys
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kb.catalog.versions import Versions
from kb.tokens import count_tokens
from kb.types import Heading, MarkedText, Page, Version

# Of a server process. A text of more is read anew each time.
_KEPT_BYTES = 64_000_000


class Marks:
    """A text and where its pages, headings and lines begin."""

    def __init__(self, marked: MarkedText) -> None:
        self.text = marked.text
        self.pages = marked.pages
        self.headings = marked.headings
        self._page_starts = [page.start for page in marked.pages]
        self._heading_starts = [heading.start for heading in marked.headings]

    @cached_property
    def lines(self) -> Sequence[int]:
        """Where each line begins."""
        starts, at = [0], self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        return starts

    @cached_property
    def words(self) -> int:
        """How many runs of characters between blanks."""
        return len(self.text.split())

    @cached_property
    def tokens(self) -> int:
        """As `kb.tokens` counts them."""
        return count_tokens(self.text)

    def page(self, at: int) -> Page | None:
        """The page that an offset stands on."""
        number = bisect_right(self._page_starts, at)
        return self.pages[number - 1] if number else None

    def heading(self, at: int) -> Heading | None:
        """The last heading that begins at an offset or before it."""
        number = bisect_right(self._heading_starts, at)
        return self.headings[number - 1] if number else None

    def next_heading(self, at: int) -> Heading | None:
        """The first heading that begins at an offset or behind it."""
        number = bisect_right(self._heading_starts, at - 1)
        return self.headings[number] if number < len(self.headings) else None

    def line(self, at: int) -> int:
        """The line that an offset stands on, counted from 1."""
        return bisect_right(self.lines, at)


@dataclass(frozen=True, slots=True)
class OpenText:
    """A version as it is now, and its text."""

    version: Version
    marks: Marks

    @property
    def text(self) -> str:
        """All of it."""
        return self.marks.text


class Texts:
    """Opens versions. Thread-safe; whoever asks for a version that was deleted is told so at once."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Marks] = OrderedDict()
        self._bytes = 0

    def open(self, version_id: str) -> OpenText:
        """Raises NotFound."""
        return self.of(self._versions.get(version_id))

    def of(self, version: Version) -> OpenText:
        """One that was just seen to be there. Raises NotFound."""
        return OpenText(version, self._marks(version.id))

    def read(self, version: Version) -> OpenText:
        """One among many that are read only now: it takes no other's place. Raises NotFound."""
        with self._lock:
            kept = self._kept.get(version.id)
        return OpenText(version, kept or Marks(self._versions.marked(version.id)))

    def _marks(self, version_id: str) -> Marks:
        with self._lock:
            if version_id in self._kept:
                self._kept.move_to_end(version_id)
                return self._kept[version_id]
        marks = Marks(self._versions.marked(version_id))
        with self._lock:
            if version_id not in self._kept:
                self._kept[version_id] = marks
                self._bytes += sys.getsizeof(marks.text)
            while self._bytes > _KEPT_BYTES:
                _, left = self._kept.popitem(last=False)
                self._bytes -= sys.getsizeof(left.text)
        return marks
