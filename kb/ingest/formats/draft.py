"""What a format's parser hands back, before offsets exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_CHARACTERS = 50_000_000
"""Text a document may yield. War and Peace has 3 million; ten times the longest book is a data dump."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Text as the format gave it: either `text`, or `pages` as (number, text) in reading order.

    Not yet normalised, so nothing in it may be pointed at by offset; `kb.ingest.parse` does both.
    title: the document's own title where the format has a field for one, else None. date: when it says
    that it was published, YYYY-MM-DD, where its parser looks for that.
    """

    text: str = ""
    markup: Literal["markdown", "plain"] = "markdown"
    title: str | None = None
    pages: Sequence[tuple[int, str]] = ()
    date: str | None = None
