"""Markdown in and out: headings of a text, and tables for the formats that have cells."""

import re
from collections.abc import Iterable, Sequence

from kb.errors import TooLarge
from kb.ingest.formats.draft import MAX_CHARACTERS, Draft
from kb.ingest.formats.text import decoded
from kb.types import Heading

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
NOT_A_PARAGRAPH = re.compile(r" {4}|\t|\s*([-*+>|]|\d+[.)])(\s|$)|\s*\|")
FRONT_MATTER = re.compile(
    r"\ufeff?---[ \t]*\r?\n(?=[\w-]+[ \t]*:)(.*?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL
)
MAX_TITLE = 1_000
"""Characters of a heading that are looked at."""

FRONT_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t\r]*$", re.MULTILINE)


def parse_markdown(data: bytes) -> Draft:
    """Markdown as it stands; the title is that of its YAML front matter, if any."""
    text = decoded(data)
    front = FRONT_MATTER.match(text)
    title = FRONT_TITLE.search(front[1]) if front else None
    return Draft(text, title=title[1].strip("\"'") if title else None)


def headings_of(text: str) -> tuple[Heading, ...]:
    """ATX and setext headings outside fences and front matter, in order.

    A setext heading is one line underlined: a longer paragraph above `---` is more often text above a rule.
    """
    headings: list[Heading] = []
    front = FRONT_MATTER.match(text)
    offset = front.end() if front else 0
    fence = ""
    above: tuple[int, str] | None = (
        None  # a paragraph of a single line so far, which `===` would make a heading
    )
    blank = True
    for line in lines_of(text, offset):
        start, offset, line = offset, offset + len(line), line.rstrip("\n")
        mark = FENCE.match(line)
        if fence:
            # Closed by at least as many of the same mark with nothing after it (CommonMark 4.5).
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
            continue
        if mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence, above, blank = mark[1], None, True
            continue
        if atx := ATX.match(line):
            if title := plain_title(atx[2] or ""):
                headings.append(Heading(len(atx[1]), title, start))
            above, blank = None, True
        elif above and (under := UNDERLINE.match(line)):
            if title := plain_title(above[1]):
                headings.append(Heading(1 if under[1][0] == "=" else 2, title, above[0]))
            above, blank = None, True
        elif not line.strip():
            above, blank = None, True
        else:
            above = (start, line) if blank and not NOT_A_PARAGRAPH.match(line) else None
            blank = False
    return tuple(headings)


def lines_of(text: str, start: int) -> Iterable[str]:
    """Lines of text[start:], each with its "\\n". splitlines would also cut at U+2028 and the like."""
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def plain_title(title: str) -> str:
    """A heading's words without closing marks, emphasis, link targets and surplus space."""
    # The patterns below look ahead in a line from each mark in it; a line of megabytes is no heading.
    title = title[:MAX_TITLE].strip()
    opened = title.rstrip("#")
    title = opened if opened.endswith((" ", "\t")) or not opened else title
    title = re.sub(r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1", title)
    title = re.sub(r"(\*\*|__|`)(.+?)\1", r"\2", title)
    title = re.sub(r"(?<!\w)([*_])(\S(?:.*?\S)?)\1(?!\w)", r"\2", title)
    return " ".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", title).split())


def cell(value: str) -> str:
    """A table cell's text on one line, its pipes escaped."""
    return " ".join(value.split()).replace("|", "\\|")


def table(rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; the first row is the header. Trailing empty cells are dropped, the header is widened.

    Only the header is padded to full width: padding each row would let one wide row among a million
    short ones grow without bound, and Markdown reads missing cells as empty.
    """
    trimmed = [trim(row) for row in rows]
    width = max(map(len, trimmed), default=0)
    if not width:
        return ""
    header = [*trimmed[0], *[""] * (width - len(trimmed[0]))]
    lines = [row_line(header), "|" + " --- |" * width]
    size = 0
    for row in trimmed[1:]:
        line = row_line(row or [""])
        size += len(line)
        if size > MAX_CHARACTERS:
            raise TooLarge(f"holds a table of more than {MAX_CHARACTERS:,} characters; split it")
        lines.append(line)
    return "\n".join(lines)


def row_line(row: Sequence[str]) -> str:
    """One line of a pipe table."""
    return "| " + " | ".join(map(cell, row)) + " |"


def trim(row: Sequence[str]) -> list[str]:
    """The row without its trailing empty cells."""
    end = len(row)
    while end and not row[end - 1].strip():
        end -= 1
    return list(row[:end])


def fenced(text: str, language: str = "") -> str:
    """`text` in a code fence longer than any run of backticks in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def paragraphs(blocks: Iterable[str]) -> str:
    """Blocks that hold something, with a blank line between them."""
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip())
