"""PPTX: one page a slide, its title as heading, with tables, charts and the speaker's notes."""

from collections.abc import Iterator
from typing import Any

from kb.ingest.formats.archive import checked_package
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.markdown import paragraphs, table
from kb.ingest.formats.titles import core_title

MAX_DEPTH = 20
"""Groups within groups that are followed; drawing programs nest them, but not so deep."""


def parse_pptx(data: bytes) -> Draft:
    """The slides in order. Shapes are read from top to bottom, then from left to right."""
    import pptx

    package = checked_package(data)
    title = core_title(package)
    presentation = pptx.Presentation(package)
    pages = [(number, slide_text(slide)) for number, slide in enumerate(presentation.slides, start=1)]
    return Draft(title=title, pages=pages)


def slide_text(slide: Any) -> str:
    """A slide as Markdown."""
    title = slide.shapes.title
    blocks = []
    if title is not None and (words := " ".join(title.text_frame.text.split())):
        blocks.append(f"# {words}")
    for shape in ordered(slide.shapes):
        if title is None or shape.shape_id != title.shape_id:
            blocks.extend(shape_blocks(shape, 0))
    if (
        slide.has_notes_slide
        and (frame := slide.notes_slide.notes_text_frame) is not None
        and frame.text.strip()
    ):
        blocks.append("Notes: " + lines_of(frame.text))
    return paragraphs(blocks)


def ordered(shapes: Any) -> list[Any]:
    """Shapes as they are read; those without a position, as placeholders may be, first."""
    return sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0))


def shape_blocks(shape: Any, depth: int) -> Iterator[str]:
    """What a shape says: the text of its frame, the cells of its table, the data of its chart."""
    if depth < MAX_DEPTH and hasattr(shape, "shapes"):
        for inner in ordered(shape.shapes):
            yield from shape_blocks(inner, depth + 1)
    elif getattr(shape, "has_table", False):
        yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
    elif getattr(shape, "has_chart", False):
        yield chart_text(shape.chart.part._element)
    elif shape.has_text_frame:
        yield frame_text(shape)
    elif words := described(shape):
        yield words


def frame_text(shape: Any) -> str:
    """A text frame's paragraphs; of a content placeholder with several, as the list it shows."""
    from pptx.enum.shapes import PP_PLACEHOLDER

    listing = shape.is_placeholder and shape.placeholder_format.type in (
        PP_PLACEHOLDER.BODY,
        PP_PLACEHOLDER.OBJECT,
    )
    lines = [(paragraph.level, lines_of(paragraph.text)) for paragraph in shape.text_frame.paragraphs]
    lines = [(level, line) for level, line in lines if line]
    if listing and len(lines) > 1:
        return "\n".join(f"{'  ' * level}- {line}" for level, line in lines)
    return paragraphs(line for _, line in lines)


def lines_of(text: str) -> str:
    """Text with its line breaks (vertical tabs in PowerPoint) and without surplus space around its lines."""
    return "\n".join(filter(None, map(str.strip, text.replace("\v", "\n").split("\n"))))


def chart_text(chart: Any) -> str:
    """A chart's title, and its series as a table with the categories as rows.

    Read from the XML (ECMA-376 part 1, 21.2), since python-pptx knows only the flat kinds of chart.
    """
    title = "".join(chart.xpath("./c:chart/c:title//a:t/text()"))
    names: list[str] = []
    columns: list[dict[int, str]] = []
    categories: dict[int, str] = {}
    for series in chart.xpath(".//c:ser"):
        names.append("".join(series.xpath("./c:tx//c:v/text()")))
        columns.append(points(series.xpath("./*[self::c:val or self::c:yVal]//c:pt")))
        categories |= points(series.xpath("./*[self::c:cat or self::c:xVal]//c:pt"))
    indices = sorted({index for column in [categories, *columns] for index in column})
    rows = [
        ["", *names],
        *([categories.get(i, ""), *(column.get(i, "") for column in columns)] for i in indices),
    ]
    return paragraphs([title, table(rows) if indices else ""])


def points(elements: Any) -> dict[int, str]:
    """Values by index; numbers without the noise of their binary form."""
    values = {int(e.get("idx")): "".join(e.xpath("./c:v/text()")).strip() for e in elements}
    return {
        i: f"{float(v):.12g}" if "." in v and v.replace(".", "").isdecimal() else v for i, v in values.items()
    }


def described(shape: Any) -> str:
    """A picture's alternative text, unless it is the name of its file."""
    properties = shape._element.xpath(".//p:cNvPr[@descr]")
    words = " ".join(properties[0].get("descr").split()) if properties else ""
    return "" if words.lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".svg", ".emf", ".wmf")) else words
