"""Real files: every one is parsed or refused with a reason, and a handful of outcomes are pinned."""

import json
from pathlib import Path

import pytest

from kb.errors import BrokenDocument, DocumentRefused, NoText, UnsupportedFormat
from kb.ingest.parse import parse
from kb.types import Document

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MIXED = SHARED / "mixed-docs"
PAPERS = SHARED / "aragog-pdf" / "pdfs"
pytestmark = pytest.mark.skipif(not MIXED.is_dir(), reason="the shared collection mixed-docs is not here")

DOCLING = "docling-project__docling/tests/data"
MARKITDOWN = "microsoft__markitdown/packages/markitdown/tests/test_files"
SAMPLES = "py-pdf__sample-files"


def outcome(path: Path) -> Document | DocumentRefused:
    """The document, or the refusal."""
    try:
        return parse(path.read_bytes(), path.name)
    except DocumentRefused as refusal:
        return refusal


def test_every_file_is_parsed_or_refused_with_a_reason() -> None:
    """None raises anything else, and no more are refused than were found to deserve it."""
    refused: dict[str, int] = {}
    parsed = 0
    for path in sorted(p for p in MIXED.rglob("*") if p.is_file()):
        result = outcome(path)
        if isinstance(result, Document):
            assert result.text.strip()
            parsed += 1
        else:
            assert str(result).startswith(f"{path.name}: ")
            refused[type(result).__name__] = refused.get(type(result).__name__, 0) + 1
    assert refused == {"UnsupportedFormat": 15, "NoText": 10, "BrokenDocument": 10}
    assert parsed == 173


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        (
            f"{DOCLING}/doc/sources/legacy_sample.doc",
            UnsupportedFormat,
            "is an old Word file; save it as docx",
        ),
        (
            f"{DOCLING}/ppt/sources/legacy_sample.ppt",
            UnsupportedFormat,
            "is an old PowerPoint file; save it as pptx",
        ),
        (
            f"{DOCLING}/xls/sources/legacy_sample.xls",
            UnsupportedFormat,
            "is an old Excel file; save it as xlsx",
        ),
        (f"{DOCLING}/pages/sources/pages_2013.pages", UnsupportedFormat, "is an Apple iWork file; export it"),
        (f"{MARKITDOWN}/random.bin", UnsupportedFormat, "is neither text nor a known document format"),
        (f"{MARKITDOWN}/test_files.zip", UnsupportedFormat, "is an archive; unpack it"),
        (
            f"{SAMPLES}/005-libreoffice-writer-password/libreoffice-writer-password.pdf",
            BrokenDocument,
            "is encrypted",
        ),
        (f"{DOCLING}/jats/sources/elife-56337.nxml", BrokenDocument, "declares a DOCTYPE"),
        (
            f"{DOCLING}/ocr/sources/ocr_test_rotated_90.pdf",
            NoText,
            "has no text layer on its 1 page; run OCR first",
        ),
        (f"{SAMPLES}/012-libreoffice-form/libreoffice-form.odt", NoText, "holds no text"),
    ],
)
def test_refusals_tell_why(path: str, kind: type[DocumentRefused], reason: str) -> None:
    """The reason is one a user can act on."""
    result = outcome(MIXED / path)
    assert type(result) is kind
    assert str(result).startswith(f"{Path(path).name}: {reason}")


@pytest.mark.parametrize(
    ("path", "title", "pages", "headings", "excerpt"),
    [
        (f"{DOCLING}/docx/sources/word_tables.docx", "Test with tables", 0, 1,
         "| Cell 1.0 | Merged Cell 1.1 2.1 | Cell 1.2 |\n| Cell 2.0 | Merged Cell 1.1 2.1 | Cell 2.2 |"),
        (f"{DOCLING}/docx/sources/table_with_equations.docx", None, 0, 0, "x=(-b±√(b^2-4ac))/2a"),
        (f"{DOCLING}/docx/sources/Strict.docx", None, 0, 0, "Some text"),
        (f"{DOCLING}/pptx/sources/pptx_chart.pptx", "Quarterly Duck Survey", 2, 2, "| 2020 | 130 | 95 |"),
        (f"{DOCLING}/xlsx/sources/xlsx_02_sample_sales_data.xlsm", None, 1, 1,
         "| Widget B | 2024-01-02 | 10 | 12000 |"),
        (f"{DOCLING}/odf/sources/text_document_01.odt", "Title", 0, 4,
         "  - bullet list 2.1\n  - bullet list 2.2"),
        (f"{DOCLING}/odf/sources/odf_presentation_01.odp", "Test Table Slide", 3, 2, "# Second slide title"),
        (f"{DOCLING}/epub/sources/epub_purvis_poetry.epub", "Poetry", 0, 19, "## The Grave of the Slave"),
        (f"{DOCLING}/email/sources/msg_with_attachment.msg", "Email with Attachment", 0, 0,
         "2026-05-20 10:30:00 UTC\n\nThis email contains an attachment.\n\nAttachments: test.txt, "),
        (f"{MARKITDOWN}/test_outlook_msg.msg", "Test Email Message", 0, 0,
         "From: M. C. Kurtuluş <test.sender@"),
        (f"{MARKITDOWN}/test_mskanji.csv", None, 0, 0, "| 髙橋淳 | 35 | 名古屋 |"),
        (f"{MARKITDOWN}/test_wikipedia.html", "Microsoft - Wikipedia", 0, 31, "# Microsoft\n"),
        (f"{SAMPLES}/026-latex-multicolumn/multicolumn.pdf", None, 3, 0, "Lorem ipsum dolor sit amet"),
    ],
)  # fmt: skip
def test_documents_are_read_as_a_reader_would(
    path: str, title: str | None, pages: int, headings: int, excerpt: str
) -> None:
    """Title, pages, headings and a telling piece of text."""
    result = outcome(MIXED / path)
    assert isinstance(result, Document)
    assert (result.title, len(result.pages), len(result.headings)) == (title, pages, headings)
    assert excerpt in result.text


def test_every_encoding_is_read_exactly() -> None:
    """Eighteen encodings of the same articles, each against its own codec."""
    paths = sorted((MIXED / "encodings-generated").iterdir())
    assert len(paths) == 18
    for path in paths:
        encoding = path.name.split(".", 1)[1].removesuffix(".txt")
        expected = path.read_bytes().decode(encoding).replace("\r\n", "\n").replace("\ufeff", "")
        assert parse(path.read_bytes(), path.name).text == expected, path.name


@pytest.mark.parametrize(
    ("name", "corpus"),
    [("xquad_en.utf-32.txt", "en"), ("xquad_de.latin-1.txt", "de"), ("xquad_ro.iso8859-16.txt", "ro")],
)
def test_decoded_text_is_that_of_the_source(name: str, corpus: str) -> None:
    """The first paragraphs of the collection the files were made from."""
    lines = (SHARED / "xquad" / corpus / "corpus.jsonl").read_text("utf-8").splitlines()
    paragraphs = {json.loads(line)["text"].replace("\ufeff", "") for line in lines}
    text = parse((MIXED / "encodings-generated" / name).read_bytes(), name).text
    assert sum(paragraph in text for paragraph in paragraphs) >= 20


def test_papers_in_two_columns_are_read_in_order() -> None:
    """Pages are marked, and words parted by the typesetter are whole again."""
    papers = {path.stem: parse(path.read_bytes(), path.name) for path in sorted(PAPERS.glob("*.pdf"))}
    assert len(papers) == 15
    bert = papers["bert"]
    assert len(bert.pages) == 16
    assert (
        "Transformers. Unlike recent language representation\nmodels (Peters et al., 2018a; Radford\n"
        "et al., 2018), BERT is designed to pre-train\ndeep bidirectional representations"
    ) in bert.text
    # The left column of a page is read before the right one.
    places = [
        bert.text.index(words) for words in ("We introduce a new", "1 Introduction", "original vocabulary id")
    ]
    assert places == sorted(places)
    assert places[2] < bert.pages[1].start
    assert not any("\ufffe" in paper.text for paper in papers.values())
    assert papers["llm_long_tail"].title == "Large Language Models Struggle to Learn Long-Tail Knowledge"
