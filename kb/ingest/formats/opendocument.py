"""ODT, ODS and ODP: content.xml walked directly."""

import re
from collections.abc import Iterator
from typing import Any

from kb.errors import BrokenDocument, TooLarge
from kb.ingest.formats.archive import Archive, local
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.markdown import paragraphs, table
from kb.ingest.formats.sheets import MAX_CELLS, sheet_text
from kb.ingest.formats.titles import xml_title

DROPPED = {
    "annotation",
    "annotation-end",
    "tracked-changes",
    "deletion",
    "sequence-decls",
    "forms",
    "note-citation",
}
MAX_REPEAT = 1_000
"""Repetitions of a filled cell or row that are written out; longer ones are mere formatting."""


def parse_odt(data: bytes) -> Draft:
    """A text document as Markdown."""
    archive, body = opened(data, "text")
    return Draft(paragraphs(blocks_of(body)), title=xml_title(archive, "meta.xml"))


def parse_ods(data: bytes) -> Draft:
    """Each sheet as a page with a heading and its tables."""
    archive, body = opened(data, "spreadsheet")
    sheets = [element for element in body if local(element.tag) == "table"]
    pages = [(n, sheet_text(attribute(s, "name"), table_rows(s))) for n, s in enumerate(sheets, start=1)]
    return Draft(title=xml_title(archive, "meta.xml"), pages=pages)


def parse_odp(data: bytes) -> Draft:
    """Each slide as a page; its title frame is the heading."""
    archive, body = opened(data, "presentation")
    slides = [element for element in body if local(element.tag) == "page"]
    pages = [(n, slide_text(s)) for n, s in enumerate(slides, start=1)]
    return Draft(title=xml_title(archive, "meta.xml"), pages=pages)


def opened(data: bytes, kind: str) -> tuple[Archive, Any]:
    """The archive and the element that holds its content."""
    archive = Archive(data)
    manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive.names else b""
    if b"encryption-data" in manifest:
        raise BrokenDocument("is encrypted; save it without a password")
    root = archive.xml("content.xml")
    body = next((e for e in root.iter() if local(e.tag) == kind), None)
    if body is None:
        raise BrokenDocument(f"has no {kind} in its content.xml")
    # A paragraph with any formatting of its own has an automatic style, whose parent is the one that counts.
    styles = (e for e in root.iter() if local(e.tag) == "style")
    titles = {
        "Title",
        *(attribute(e, "name") for e in styles if attribute(e, "parent-style-name") == "Title"),
    }
    for paragraph in body.iter():
        if local(paragraph.tag) == "p" and attribute(paragraph, "style-name") in titles:
            paragraph.set("title", "true")
    return archive, body


def attribute(element: Any, name: str) -> str:
    """An attribute by its local name, since only the prefix differs between OpenDocument's versions."""
    return next((value for key, value in element.attrib.items() if local(key) == name), "")


def blocks_of(element: Any) -> Iterator[str]:
    """The blocks within an element, in order."""
    for child in element:
        kind = local(child.tag)
        if kind == "h":
            level = attribute(child, "outline-level")
            words = " ".join(words_of(child).split())
            if words:
                yield f"{'#' * min(6, int(level) if level.isdecimal() and level != '0' else 1)} {words}"
        elif kind == "p":
            words = words_of(child).strip()
            yield f"# {' '.join(words.split())}" if words and child.get("title") else words
            yield from framed(child)
        elif kind == "list":
            yield "\n".join(list_lines(child, 0))
        elif kind == "table":
            yield table(list(table_rows(child)))
        elif kind not in DROPPED:
            yield from blocks_of(child)


def framed(paragraph: Any) -> Iterator[str]:
    """The text boxes and tables anchored in a paragraph, which words_of leaves out."""
    for element in paragraph.iter():
        if local(element.tag) == "text-box":
            yield from blocks_of(element)


def words_of(element: Any) -> str:
    """A paragraph's text with its spaces, tabs and line breaks; notes in brackets."""
    parts = [element.text or ""]
    for child in element:
        kind = local(child.tag)
        if kind == "s":
            count = attribute(child, "c")
            parts.append(" " * (min(MAX_REPEAT, int(count)) if count.isdecimal() and len(count) < 6 else 1))
        elif kind == "tab":
            parts.append("\t")
        elif kind == "line-break":
            parts.append("\n")
        elif kind == "note":
            parts.append(" [" + " ".join(words_of(child).split()) + "]")
        elif kind not in DROPPED and kind not in ("frame", "text-box", "custom-shape"):
            parts.append(words_of(child))
        parts.append(child.tail or "")
    return "".join(parts)


def list_lines(element: Any, depth: int) -> Iterator[str]:
    """A list's items as lines, nested lists indented."""
    for item in element:
        first = True
        for child in item:
            if local(child.tag) == "list":
                yield from list_lines(child, depth + 1)
            elif words := "; ".join(" ".join(block.split()) for block in blocks_of([child]) if block.strip()):
                yield "  " * depth + ("- " if first else "  ") + words
                first = False


def table_rows(element: Any) -> Iterator[list[str]]:
    """A table's rows of cells, repetitions written out where they hold something."""
    left = MAX_CELLS
    for row in own_rows(element):
        cells: list[str] = []
        gap = 0
        for cell in row:
            if local(cell.tag) not in ("table-cell", "covered-table-cell"):
                continue
            words = shown(cell)
            times = repeats(cell, "number-columns-repeated")
            if not words:
                # Kept back until a filled cell follows: the last one repeats to column 16,384.
                gap += times
                continue
            cells += [""] * min(gap, MAX_REPEAT) + [words] * min(times, MAX_REPEAT)
            gap = 0
        for _ in range(min(repeats(row, "number-rows-repeated"), MAX_REPEAT if cells else 1)):
            left -= len(cells) + 1
            if left < 0:
                raise TooLarge(f"has more than {MAX_CELLS:,} cells; split it")
            yield cells


def own_rows(element: Any) -> Iterator[Any]:
    """The rows of a table, header rows and groups of rows included, those of tables in its cells not."""
    for child in element:
        kind = local(child.tag)
        if kind == "table-row":
            yield child
        elif kind in ("table-header-rows", "table-rows", "table-row-group"):
            yield from own_rows(child)


def shown(cell: Any) -> str:
    """A cell's text; a date as ISO however it is displayed."""
    if attribute(cell, "value-type") == "date" and (date := attribute(cell, "date-value")):
        return re.sub(r"T00:00:00$", "", date).replace("T", " ")
    # Lists and tables within a cell are read as their paragraphs: a line has no room for their form.
    return " ".join(" ".join(words_of(e).split()) for e in cell.iter() if local(e.tag) in ("p", "h")).strip()


def repeats(element: Any, name: str) -> int:
    """How often a cell or row is repeated."""
    value = attribute(element, name)
    return max(1, int(value)) if value.isdecimal() and len(value) < 9 else 1


def slide_text(slide: Any) -> str:
    """A slide as Markdown, its title first, its notes last."""
    titles: list[str] = []
    blocks: list[str] = []
    notes: list[str] = []
    for child in slide:
        text = paragraphs(blocks_of([child]))
        if local(child.tag) == "notes":
            notes.append(text)
        elif attribute(child, "class") == "title" and text:
            titles.append("# " + " ".join(text.split()))
        else:
            blocks.append(text)
    spoken = paragraphs(notes)
    return paragraphs([*titles, *blocks, f"Notes: {spoken}" if spoken else ""])
