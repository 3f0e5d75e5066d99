"""An HTML element tree as Markdown for reading, searching and quoting.

Headings, lists, tables, code, quotations and links are written as Markdown. Emphasis is dropped and nothing
is escaped but a `#` that would start a heading: words must be found, and quoted, as the page shows them.
Written here rather than taken from markdownify because of its tables (spans, nesting, rows without a header)
and of its time, which grows with the square of a list's length.
"""

import re
from typing import Any

from kb.ingest.formats.markdown import fenced, paragraphs, table

BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hr", "li", "main", "menu", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul",
}  # fmt: skip
HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
SKIPPED = {"head", "title", "meta", "link"}
SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")
ITEM = re.compile(r"\s*(?:- |\d+\. )")
RULE = re.compile(r"\|( --- \|)+|---|```\w*")
MAX_SPAN = 100
"""Columns or rows a cell may span: HTML allows 65,534 rows, and a hostile page would use them all."""

MAX_ADDRESS = 160
"""Characters of a link's address worth keeping: longer ones are tracking, and drown the words around them."""

LAYOUT_CELL = 1500
"""Characters beyond which a cell with a table in it is page layout rather than data."""


def render(root: Any) -> str:
    """Markdown of an lxml element; its bare text where it is nested too deeply to walk."""
    containers: set[Any] = {root}
    for element in root.iter(*BLOCKS):
        parent = element.getparent()
        while parent is not None and parent not in containers:
            containers.add(parent)
            parent = parent.getparent()
    try:
        return paragraphs(blocks_of(root, containers))
    except RecursionError:
        return paragraphs(root.itertext(with_tail=False))


def blocks_of(element: Any, containers: set[Any]) -> list[str]:
    """The element's content as blocks: each block element by its kind, text between them as paragraphs."""
    blocks: list[str] = []
    line: list[str] = [spaced(element.text)]

    def flush() -> None:
        text = tidy("".join(line))
        line.clear()
        if text:
            # The one escape: a paragraph that begins like a heading would become one.
            blocks.append(re.sub(r"^(#{1,6}\s)", r"\\\1", text, flags=re.M))

    for child in element:
        if isinstance(child.tag, str) and child.tag not in SKIPPED:
            if child.tag in BLOCKS or child in containers:
                flush()
                blocks.extend(block(child, containers))
            else:
                line.append(inline(child))
        line.append(spaced(child.tail))
    flush()
    return blocks


def block(element: Any, containers: set[Any]) -> list[str]:
    """One block element as Markdown blocks."""
    tag = element.tag
    if tag in HEADINGS:
        title = " ".join(inline(element, linked=False).split())
        return [f"{'#' * HEADINGS[tag]} {title}"] if title else []
    if tag == "pre":
        code = preformatted(element)
        return [fenced(code.strip("\n"), language_of(element))] if code.strip() else []
    if tag == "hr":
        return ["---"]
    if tag == "table":
        return table_blocks(element, containers)
    if tag in ("ul", "ol", "menu"):
        items = list_items(element, containers)
        return ["\n".join(items)] if items else []
    blocks = blocks_of(element, containers)
    if tag == "blockquote":
        quoted = paragraphs(blocks).split("\n")
        return ["\n".join(f"> {line}".rstrip() for line in quoted)] if blocks else []
    if tag == "dd":
        return [indented(": ", paragraphs(blocks))] if blocks else []
    return blocks


def list_items(element: Any, containers: set[Any]) -> list[str]:
    """A list's items, one string each, nested content indented under its mark."""
    start = element.get("start") or ""
    number = int(start) if start.isdecimal() and len(start) < 10 else 1
    items: list[str] = []
    for child in element:
        if not isinstance(child.tag, str):
            continue
        # A list directly in a list, as sloppy pages have it, belongs to the item above.
        stray = child.tag in ("ul", "ol") and bool(items)
        blocks = block(child, containers) if stray else blocks_of(child, containers)
        if not blocks:
            continue
        if stray:
            items[-1] += "\n" + indented("  ", blocks[0])
            continue
        # Tight when the item is a line with at most a list under it; else blocks keep their distance.
        tight = all(map(ITEM.match, blocks[1:]))
        mark = f"{number}. " if element.tag == "ol" else "- "
        items.append(indented(mark, ("\n" if tight else "\n\n").join(blocks)))
        number += 1
    return items


def indented(mark: str, text: str) -> str:
    """`text` behind a list mark, further lines indented to its width."""
    return mark + ("\n" + " " * len(mark)).join(text.split("\n")).replace(
        "\n" + " " * len(mark) + "\n", "\n\n"
    )


def inline(element: Any, *, linked: bool = True) -> str:
    """The text of an inline element, with spaces kept at its ends; link addresses only where `linked`."""
    tag = element.tag
    if tag == "br":
        return "\n"
    if tag == "img":
        return spaced(element.get("alt"))
    if tag == "wbr":
        return ""
    if tag == "math":
        source = element.get("alttext") or "".join(element.xpath(".//*[local-name()='annotation']/text()"))
        if source:
            return spaced(source)
    parts = [spaced(element.text)]
    for child in element:
        if isinstance(child.tag, str) and child.tag not in SKIPPED:
            parts.append(inline(child, linked=linked))
        parts.append(spaced(child.tail))
    text = "".join(parts)
    if tag == "a" and linked:
        return link(text, (element.get("href") or "").strip())
    if tag in ("code", "kbd", "samp", "tt") and text.strip() and "`" not in text and "\n" not in text:
        return text.replace(text.strip(), f"`{text.strip()}`", 1)
    return text


def link(text: str, href: str) -> str:
    """A link's words, with its address where that is a whole one: a relative path leads nowhere from here."""
    words = text.strip()
    if not words or len(href) > MAX_ADDRESS or not re.match(r"(https?://|mailto:)[^\s()]+$", href, re.I):
        return text
    scheme = re.compile(r"^(https?://|mailto:)")
    if scheme.sub("", words).rstrip("/") == scheme.sub("", href).rstrip("/"):
        return text
    return text.replace(words, f"[{words}]({href})", 1)


def preformatted(element: Any) -> str:
    """Text with its line ends kept, <br> being one."""
    return "".join([element.text or "", *(part for child in element for part in pre_parts(child))])


def pre_parts(child: Any) -> list[str]:
    """What a child of <pre> adds to it."""
    inner = "\n" if child.tag == "br" else preformatted(child) if isinstance(child.tag, str) else ""
    return [inner, child.tail or ""]


def language_of(pre: Any) -> str:
    """The language of a code block as its class or its <code>'s tells it, else nothing."""
    names = f"{pre.get('class') or ''} {' '.join(code.get('class') or '' for code in pre.iter('code'))}"
    match = re.search(r"\blang(?:uage)?-([\w+#-]+)", names)
    return match[1] if match else ""


def table_blocks(element: Any, containers: set[Any]) -> list[str]:
    """A pipe table with its spans filled in, below its caption; a layout table as the blocks in its cells."""
    cells = [c for tr in element.iter("tr") if owner(tr) is element for c in tr.iterchildren("td", "th")]
    captions = [block for c in element.iterchildren("caption") for block in blocks_of(c, containers)]
    layout = (
        element.get("role") in ("presentation", "none")
        or len(cells) <= 1
        or any(next(c.iter(*HEADINGS), None) is not None for c in cells)
        or any(next(c.iter("table"), None) is not None and len(text_of(c)) > LAYOUT_CELL for c in cells)
    )
    if layout:
        return captions + [b for c in cells for b in blocks_of(c, containers)]
    return [*captions, table(grid(element, containers))]


def owner(tr: Any) -> Any:
    """The table a row belongs to."""
    return next(tr.iterancestors("table"), None)


def text_of(element: Any) -> str:
    """All text in an element."""
    return "".join(element.itertext(with_tail=False))


def grid(element: Any, containers: set[Any]) -> list[list[str]]:
    """A table's cells in rows and columns.

    A cell that spans rows is repeated in each, so that a row reads on its own; one that spans columns
    stands in the first of them.
    """
    rows: list[list[str]] = []
    carried: dict[int, tuple[int, str]] = {}  # column -> rows still to fill, and with what
    for tr in element.iter("tr"):
        if owner(tr) is not element:
            continue  # a row of a table within a cell
        row: list[str] = []
        for td in [*tr.iterchildren("td", "th"), None]:
            while len(row) in carried:
                left, text = carried.pop(len(row))
                if left > 1:
                    carried[len(row)] = left - 1, text
                row.append(text)
            if td is None:
                break
            text, down = flat(td, containers), span(td, "rowspan")
            for column in range(span(td, "colspan")):
                content = text if column == 0 else ""
                if down > 1:
                    carried[len(row)] = down - 1, content
                row.append(content)
        if any(row):
            rows.append(row)
    return rows


def flat(td: Any, containers: set[Any]) -> str:
    """A cell's content on one line: list items and rows of a table in it part by semicolons."""
    parts: list[str] = []
    for part in blocks_of(td, containers):
        lines = [line for line in part.split("\n") if not RULE.fullmatch(line)]
        if ITEM.match(part):
            part = "; ".join(ITEM.sub("", line).strip() for line in lines if line.strip())
        elif len(lines) > 1 and part.startswith("| "):
            part = "; ".join(line.strip("| ").replace(" | ", ", ") for line in lines)
        else:
            part = " ".join(lines).strip("`")
        parts.append(" ".join(part.split()))
    return " ".join(filter(None, parts))


def span(td: Any, name: str) -> int:
    """A cell's rowspan or colspan, within reason."""
    value = (td.get(name) or "1").strip()
    return min(MAX_SPAN, max(1, int(value))) if value.isdecimal() and len(value) < 6 else 1


def spaced(text: str | None) -> str:
    """Text with each run of white space as one space."""
    return SPACE.sub(" ", text) if text else ""


def tidy(text: str) -> str:
    """A paragraph without surplus space around its lines."""
    return "\n".join(filter(None, (SPACE.sub(" ", line).strip() for line in text.split("\n"))))
