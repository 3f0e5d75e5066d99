"""DOCX, PPTX, XLSX and OpenDocument, made by the libraries that write them."""

import datetime
import io
import zipfile

import docx
import openpyxl
import pptx
import pytest
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from kb.errors import BrokenDocument, NoText, TooLarge
from kb.ingest.formats import sheets
from kb.ingest.formats.titles import likely_title
from kb.ingest.parse import parse
from kb.types import Page


def saved(document: object) -> bytes:
    """The bytes a library writes."""
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    """As Markdown; its title is that of its properties."""
    word = docx.Document()
    word.core_properties.title = "Annual Report"
    word.add_heading("Big Title", 0)
    word.add_heading("Chapter", 1)
    word.add_paragraph("Some text.")
    word.add_heading("Section", 2)
    word.add_paragraph("first", style="List Bullet")
    word.add_paragraph("second", style="List Bullet")
    table = word.add_table(2, 2)
    for cell, text in zip((c for row in table.rows for c in row.cells), ["a", "b|c", "1", "2"], strict=True):
        cell.text = text
    document = parse(saved(word), "a.docx")
    assert document.text == (
        "# Big Title\n\n# Chapter\n\nSome text.\n\n## Section\n\n- first\n- second\n\n"
        "| a | b\\|c |\n| --- | --- |\n| 1 | 2 |"
    )
    assert document.title == "Annual Report"
    assert [(h.level, h.title) for h in document.headings] == [
        (1, "Big Title"),
        (1, "Chapter"),
        (2, "Section"),
    ]


def test_a_template_leaves_no_title() -> None:
    """The first heading is a better one."""
    word = docx.Document()
    word.core_properties.title = "Word Document"
    word.add_heading("Heading", 1)
    assert parse(saved(word), "a.docx").title == "Heading"


@pytest.mark.parametrize(
    "title",
    [None, "", "...", "Document1", "Microsoft Word - x", "[Title]", "old.docx", "PowerPoint Presentation",
     "Slide 1", "Click to add title", "my_report_final", "draft"],
)  # fmt: skip
def test_what_templates_and_programs_leave_is_no_title(title: str | None) -> None:
    """Placeholders and names of files."""
    assert likely_title(title) is None


@pytest.mark.parametrize("title", ["Titles of honour", "Documents of 1848", "BERT", "Self-help now"])
def test_titles_that_resemble_them_stay(title: str) -> None:
    """Words of templates begin titles as well."""
    assert likely_title(f" {title}\n") == title


def test_formulas_of_word_are_written_out() -> None:
    """In the sentence they stand in."""
    word = docx.Document()
    paragraph = word.add_paragraph("Area ")
    math = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    run = "<m:r><m:t>{}</m:t></m:r>".format
    formula = (
        f"<m:oMath {math}>{run('A=π')}<m:sSup><m:e>{run('r')}</m:e><m:sup>{run('2')}</m:sup></m:sSup>"
        f"<m:f><m:num>{run('1')}</m:num><m:den>{run('a+b')}</m:den></m:f></m:oMath>"
    )
    paragraph._p.append(docx.oxml.parse_xml(formula))
    assert parse(saved(word), "a.docx").text == "Area A=πr^21/(a+b)"


def test_slides_are_pages_with_tables_charts_and_notes() -> None:
    """Each slide's title is a heading."""
    deck = pptx.Presentation()
    deck.core_properties.title = "PowerPoint Presentation"
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Opening"
    first.placeholders[1].text_frame.text = "point"
    deeper = first.placeholders[1].text_frame.add_paragraph()
    deeper.text, deeper.level = "detail", 1
    first.notes_slide.notes_text_frame.text = "say hello"
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Numbers"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for at, text in zip([(0, 0), (0, 1), (1, 0), (1, 1)], ["k", "v", "x", "1"], strict=True):
        table.cell(*at).text = text
    data = CategoryChartData()
    data.categories = ["Q1", "Q2"]
    data.add_series("Sales", (1.5, 2))
    second.shapes.add_chart(XL_CHART_TYPE.PIE, Inches(1), Inches(4), Inches(4), Inches(2), data)
    document = parse(saved(deck), "a.pptx")
    assert document.text == (
        "# Opening\n\n- point\n  - detail\n\nNotes: say hello\n\n"
        "# Numbers\n\n| k | v |\n| --- | --- |\n| x | 1 |\n\n"
        "|  | Sales |\n| --- | --- |\n| Q1 | 1.5 |\n| Q2 | 2 |"
    )
    assert document.pages == (Page(1, 0), Page(2, document.text.index("# Numbers")))
    assert document.title == "Opening"


def test_sheets_are_pages_with_tables() -> None:
    """Dates in ISO form, percentages as such, captions above, gaps between tables, no empty edges."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Costs"
    sheet["B2"] = "Costs of the year"
    for row in (
        ["item", "when", "share", "ok"],
        ["pa|per", datetime.date(2024, 2, 3), 0.125, True],
        [None, None, 0.3],
    ):
        sheet.append([None, *row])
    sheet["D4"].number_format = "0.0%"
    sheet["B9"], sheet["C9"], sheet["B10"], sheet["C10"] = (
        "x",
        "y",
        0.1 + 0.2,
        datetime.datetime(2024, 2, 3, 4, 5),
    )
    book.create_sheet("Empty")
    book.create_sheet("Last")["A1"] = "alone"
    document = parse(saved(book), "a.xlsx")
    assert document.text == (
        "## Costs\n\nCosts of the year\n\n"
        "| item | when | share | ok |\n| --- | --- | --- | --- |\n"
        "| pa\\|per | 2024-02-03 | 12.5% | TRUE |\n|  |  | 0.3 |\n\n"
        "| x | y |\n| --- | --- |\n| 0.3 | 2024-02-03 04:05:00 |\n\n"
        "## Last\n\nalone"
    )
    assert [page.number for page in document.pages] == [1, 3]
    assert document.text[document.pages[1].start :].startswith("## Last")
    assert document.title is None


def test_a_cell_in_the_last_corner_costs_nothing() -> None:
    """A sheet is what it holds, not what its dimension says."""
    book = openpyxl.Workbook()
    book.active["XFD3000"] = "corner"
    assert parse(saved(book), "a.xlsx").text == "## Sheet\n\ncorner"


def test_too_many_cells_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps count, since they take time."""
    monkeypatch.setattr(sheets, "MAX_CELLS", 10_000)
    book = openpyxl.Workbook()
    book.active["XFD1"] = "far"
    with pytest.raises(TooLarge, match=r"^a\.xlsx: has more than 10,000 cells"):
        parse(saved(book), "a.xlsx")


def test_an_empty_workbook_holds_no_text() -> None:
    """A sheet's name alone is no text."""
    with pytest.raises(NoText, match=r"^a\.xlsx: holds no text$"):
        parse(saved(openpyxl.Workbook()), "a.xlsx")


@pytest.mark.parametrize("name", ["a.docx", "a.pptx", "a.xlsx"])
def test_a_damaged_package_is_refused(name: str) -> None:
    """A flipped byte in the middle of the text is noticed."""
    whole = {"a.docx": docx.Document, "a.pptx": pptx.Presentation, "a.xlsx": openpyxl.Workbook}[name]()
    data = saved(whole)
    with pytest.raises(BrokenDocument, match=rf"^{name}: is a damaged or truncated archive"):
        parse(data[: len(data) // 2], name)


def open_document(kind: str, body: str, styles: str = "") -> bytes:
    """An OpenDocument file with the given body."""
    names = " ".join(
        f'xmlns:{p}="urn:{p}"' for p in ("office", "text", "table", "draw", "style", "presentation")
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        target.writestr("content.xml", f"<r {names}>{styles}<office:{kind}>{body}</office:{kind}></r>")
    return buffer.getvalue()


def test_an_open_document_text_keeps_its_structure() -> None:
    """Headings, lists, tables, notes; comments go."""
    body = (
        '<text:p text:style-name="P1">The Title</text:p>'
        '<text:h text:outline-level="2">Part</text:h>'
        "<text:p>a<text:s text:c='2'/>b<text:line-break/>c<text:note>"
        "<text:note-citation>1</text:note-citation>"
        "<text:note-body><text:p>note</text:p></text:note-body></text:note><office:annotation><text:p>no</text:p>"
        "</office:annotation></text:p>"
        "<text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>deep</text:p>"
        "</text:list-item></text:list></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>h</text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="2">'
        "<table:table-cell><text:p>v</text:p></table:table-cell>"
        "</table:table-row></table:table>"
    )
    styles = '<style:style style:name="P1" style:parent-style-name="Title"/>'
    document = parse(open_document("text", body, styles), "a.odt")
    assert document.text == (
        "# The Title\n\n## Part\n\na  b\nc [note]\n\n- one\n  - deep\n\n| h |\n| --- |\n| v |\n| v |"
    )


def test_an_open_document_sheet_is_not_blown_up_by_repeated_cells() -> None:
    """The empty rest of a sheet is one element that repeats a million times."""
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>".format
    row = "<table:table-row{}>{}</table:table-row>".format
    filler = '<table:table-cell table:number-columns-repeated="16384"/>'
    body = f'<table:table table:name="S1">{row("", cell("a") + cell("b"))}{row("", cell("1") + cell("2"))}'
    body += row(' table:number-rows-repeated="1048576"', filler) + "</table:table>"
    assert (
        parse(open_document("spreadsheet", body), "a.ods").text
        == "## S1\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    )


def test_open_document_slides_are_pages() -> None:
    """The title frame first, the notes last."""
    frame = "<draw:frame{}><draw:text-box><text:p>{}</text:p></draw:text-box></draw:frame>".format
    head = frame(' presentation:class="title"', "Head")
    notes = f"<presentation:notes>{frame('', 'spoken')}</presentation:notes>"
    body = f"<draw:page>{frame('', 'body')}{head}{notes}</draw:page>"
    body += f"<draw:page>{frame('', 'second')}</draw:page>"
    document = parse(open_document("presentation", body), "a.odp")
    assert document.text == "# Head\n\nbody\n\nNotes: spoken\n\nsecond"
    assert [page.number for page in document.pages] == [1, 2]
