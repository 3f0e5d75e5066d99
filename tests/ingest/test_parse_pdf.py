"""PDF: pages, mended words, and the reasons a file is refused for."""

import io

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from kb.errors import BrokenDocument, NoText, TooLarge
from kb.ingest.formats import pdf
from kb.ingest.formats.pdf import mended
from kb.ingest.parse import parse
from kb.types import Page


def written(*pages: list[str], title: str = "", encrypt: StandardEncryption | None = None) -> bytes:
    """A PDF with the given lines on each page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=encrypt)
    canvas.setTitle(title)
    for lines in pages:
        for number, line in enumerate(lines):
            canvas.drawString(72, 720 - 16 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def test_each_page_is_marked_where_its_text_begins() -> None:
    """A page without text has no mark; the others keep their numbers."""
    document = parse(written(["First page", "second line"], [], ["Third page"], title="The Title"), "a.pdf")
    assert document.text == "First page\nsecond line\n\nThird page"
    assert document.pages == (Page(1, 0), Page(3, 24))
    assert document.text[24:].startswith("Third")
    assert (document.title, document.markup, document.media_type) == ("The Title", "plain", "application/pdf")


@pytest.mark.parametrize(
    "title", ["untitled", "Microsoft Word - x.docx", "report_final", "draft", "a b.tex", "(anonymous)"]
)
def test_what_programs_leave_as_title_is_none(title: str) -> None:
    """A file's name is not its title."""
    assert parse(written(["text"], title=title), "a.pdf").title is None


@pytest.mark.parametrize(
    ("parted", "expected"),
    [
        ("a representa\ufffetion of it", "a representation\nof it"),
        ("pre\ufffetrain it. We pre-train", "pre-train\nit. We pre-train"),
        ("a re\ufffesult. The result", "a result.\nThe result"),
        ("Anglo\ufffeSaxon times", "Anglo-Saxon\ntimes"),
        ("transfer\ufffelearning by transfer of learning", "transfer-learning\nby transfer of learning"),
        ("left-to\uffferight, or left-to-right", "left-to-right,\nor left-to-right"),
        ("in 2014\ufffe15", "in 2014-15"),
        ("self-\r\nmade", "self-\nmade"),
    ],
)
def test_words_parted_at_a_line_end_are_joined_as_the_document_writes_them(
    parted: str, expected: str
) -> None:
    """U+FFFE is PDFium's mark of a hyphen at a line end."""
    assert mended([parted]) == [expected]


def test_a_scan_is_refused_with_advice() -> None:
    """Pages of pictures hold no text."""
    with pytest.raises(NoText, match=r"^scan\.pdf: has no text layer on its 2 pages; run OCR first$"):
        parse(written([], []), "scan.pdf")


def test_an_encrypted_file_is_refused() -> None:
    """A password is needed, and there is none."""
    data = written(["secret"], encrypt=StandardEncryption("user", "owner", strength=128))
    with pytest.raises(BrokenDocument, match=r"^a\.pdf: is encrypted; save it without a password$"):
        parse(data, "a.pdf")


def test_a_damaged_file_is_refused() -> None:
    """A header alone is no PDF."""
    with pytest.raises(BrokenDocument, match=r"^a\.pdf: is a damaged PDF"):
        parse(b"%PDF-1.7\n" + b"rubbish " * 100, "a.pdf")


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any of them is read."""
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    with pytest.raises(TooLarge, match=r"^a\.pdf: has 3 pages; the limit is 2$"):
        parse(written(["a"], ["b"], ["c"]), "a.pdf")
