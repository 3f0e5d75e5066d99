"""The contract of parse(): what it raises, what it does to text, and where its marks point."""

import io
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kb.errors import BrokenDocument, DocumentRefused, NoText, TooLarge, UnsupportedFormat
from kb.ingest import parse as room
from kb.ingest.formats import archive, draft
from kb.ingest.formats.draft import Draft
from kb.ingest.parse import PARSERS, document_of, normalised, parse, supported
from kb.types import Document, Page

EXTENSIONS = [
    "txt",
    "md",
    "html",
    "xhtml",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "ipynb",
    "xml",
    "eml",
    "rtf",
    "svg",
]
EXTENSIONS += ["pdf", "docx", "pptx", "xlsx", "odt", "epub", "msg", "vtt", "py", "bin"]
BEGINNINGS = [
    b"",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"{\\rtf1",
    b"<!DOCTYPE html>",
    b"<?xml version='1.0'?><a>",
    b"<table><tr><td rowspan=3>",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff\xfe\0\0",
    b"\xef\xbb\xbf",
    b'{"cells": [',
    b"---\ntitle: x\n",
    b"From: a\nTo: b\nSubject: =?x?q?=\nDate: c\n\n",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
]


def check(document: Document) -> None:
    """What holds of every document: normalised text, and marks in order that point into it."""
    text = document.text
    assert text.strip()
    assert not set(text) & {"\r", "\0", "\f", "\v", "\x1b", "\x7f", "\ufeff"}
    assert not any("\ud800" <= character <= "\udfff" for character in text)
    starts = [page.start for page in document.pages]
    assert starts == sorted(set(starts))
    assert starts[:1] in ([], [0])
    assert all(start < len(text) for start in starts)
    for heading in document.headings:
        assert heading.start == 0 or text[heading.start - 1] == "\n"
        assert 1 <= heading.level <= 6
        assert heading.title == " ".join(heading.title.split()) != ""
    assert document.markup == "markdown" or not document.headings


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
       st.sampled_from(EXTENSIONS))  # fmt: skip
def test_any_bytes_under_any_name_are_parsed_or_refused(
    beginning: bytes, rest: bytes, extension: str
) -> None:
    """Nothing but DocumentRefused comes out, and its message begins with the name."""
    name = f"file.{extension}"
    try:
        document = parse(beginning + rest, name)
    except DocumentRefused as error:
        reason = str(error)
    else:
        check(document)
        return
    assert reason.startswith(f"{name}: ")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\f\0\ufeff# `=-|")))
def test_normalising_is_done_once_and_keeps_the_rest(text: str) -> None:
    """A second pass changes nothing, and clean text passes unchanged."""
    once = normalised(text)
    assert normalised(once) == once
    kept = "".join(c for c in text if c >= " " and c not in "\x7f\ufeff")
    assert "".join(c for c in once if c not in "\n\t") == kept


def test_text_is_normalised() -> None:
    """One kind of line end, and no character that no text has."""
    assert normalised("\ufeffa\r\nb\rc\fd\ve\0\x08f\x7f\tg\ud800h") == "a\nb\nc\nd\nef\tg\ufffdh"


def test_pages_are_marked_where_they_begin_and_empty_ones_left_out() -> None:
    """Numbers stay those of the document; offsets count after normalising."""
    document = document_of(Draft(pages=[(1, ""), (2, "two\r\n"), (3, " \n"), (4, "# four")]), "x/y")
    assert document.text == "two\n\n\n# four"
    assert document.pages == (Page(2, 0), Page(4, 6))
    assert document.headings[0].start == 6
    check(document)


def test_the_first_heading_of_the_first_level_is_the_title_for_want_of_another() -> None:
    """A title of the document's own comes first."""
    assert document_of(Draft("## a\n\n# b\n\n# c"), "x/y").title == "b"
    assert document_of(Draft("# b", title=" own\r\n title "), "x/y").title == "own title"
    assert document_of(Draft("## a"), "x/y").title is None
    assert document_of(Draft("# b", markup="plain"), "x/y").title is None


def test_no_parser_names_what_is_supported() -> None:
    """The refusal tells what would have been taken."""
    with pytest.raises(UnsupportedFormat) as refusal:
        parse(b"GIF89a\0\0", "a.gif")
    assert str(refusal.value) == f"a.gif: no parser for image/gif; supported: {', '.join(supported())}"
    assert {"pdf", "docx", "md"} <= set(supported())


def test_a_plain_archive_is_to_be_unpacked() -> None:
    """No archive in an archive, and none as such."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("a.txt", "text")
    with pytest.raises(UnsupportedFormat, match=r"^a\.zip: is an archive; unpack it"):
        parse(buffer.getvalue(), "a.zip")


def test_a_file_above_the_limit_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size is looked at before anything else."""
    monkeypatch.setattr(room, "MAX_BYTES", 10)
    with pytest.raises(TooLarge, match=r"^a\.txt: is 11 bytes; the limit is 10$"):
        parse(b"x" * 11, "a.txt")


def test_text_above_the_limit_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may yield a large text."""
    monkeypatch.setattr(room, "MAX_CHARACTERS", 10)
    with pytest.raises(TooLarge, match=r"^a\.txt: holds 11 characters of text; the limit is 10$"):
        parse(b"x" * 11, "a.txt")
    assert draft.MAX_CHARACTERS == 50_000_000


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (
            ZeroDivisionError("by zero\nmore"),
            BrokenDocument,
            "a.txt: cannot be read (ZeroDivisionError: by zero)",
        ),
        (RecursionError(), BrokenDocument, "a.txt: cannot be read (RecursionError: no details)"),
        (MemoryError(), TooLarge, "a.txt: needs more memory than a document may use; split it"),
        (NoText("holds nothing"), NoText, "a.txt: holds nothing"),
    ],
)
def test_what_a_parser_throws_becomes_a_refusal(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception], message: str
) -> None:
    """Whatever a library raises, the caller sees a refusal with the cause."""

    def parser(data: bytes) -> Draft:
        raise raised

    monkeypatch.setitem(PARSERS, "text/plain", parser)
    with pytest.raises(kind) as refusal:
        parse(b"text", "a.txt")
    assert type(refusal.value) is kind
    assert str(refusal.value) == message
    assert refusal.value.__cause__ is raised


def bomb(size: int, name: str = "content.xml", entries: int = 1) -> bytes:
    """An OpenDocument text whose content expands to `size` zeros, `entries` times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        for number in range(entries):
            target.writestr(f"{number or ''}{name}", b"\0" * size)
    return buffer.getvalue()


def test_an_archive_bomb_is_refused_by_its_ratio() -> None:
    """Zeros compress a thousandfold; documents do not."""
    with pytest.raises(TooLarge, match=r"^a\.odt: expands more than 200-fold"):
        parse(bomb(20_000_000), "a.odt")


def test_an_archive_is_refused_by_its_expanded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum over all entries counts, read or not."""
    monkeypatch.setattr(archive, "MAX_EXPANDED", 5_000)
    with pytest.raises(TooLarge, match=r"^a\.odt: expands to 6,039 bytes; the limit is 5,000$"):
        parse(bomb(3_000, entries=2), "a.odt")


def test_an_archive_is_refused_by_its_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of a million names is a bomb of its own."""
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    with pytest.raises(TooLarge, match=r"^a\.odt: holds 5 files; the limit is 3$"):
        parse(bomb(10, entries=4), "a.odt")


def test_what_is_read_counts_as_well_as_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries read again and again stop at the limit."""
    monkeypatch.setattr(archive, "MAX_EXPANDED", 5_000)
    opened = archive.Archive(bomb(3_000))
    assert len(opened.read("content.xml")) == 3_000
    with pytest.raises(TooLarge, match="expands to more than 5,000 bytes"):
        opened.read("content.xml")


def test_an_entry_that_lies_about_its_size_is_refused() -> None:
    """The stream is not read beyond what the directory declares."""
    data = bytearray(bomb(100_000))
    for at in (data.find(b"content.xml") - 8, data.rfind(b"content.xml") - 22):
        data[at : at + 4] = (500).to_bytes(4, "little")  # uncompressed size in the local and central header
    with pytest.raises(BrokenDocument, match=r"^a\.odt: is damaged in its part content\.xml"):
        parse(bytes(data), "a.odt")


DOCTYPE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "boom">]>'


def package(main: str, **parts: str) -> bytes:
    """An OOXML package with a DOCTYPE in one part."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("[Content_Types].xml", f'<Types><Override ContentType="{main}"/></Types>')
        target.writestr("part.xml", DOCTYPE + "<a>&x;</a>")
    return buffer.getvalue()


def open_document() -> bytes:
    """An OpenDocument text with an entity."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        target.writestr("content.xml", DOCTYPE + "<a>&x;</a>")
    return buffer.getvalue()


def book() -> bytes:
    """An EPUB with an entity in its container."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("mimetype", "application/epub+zip")
        target.writestr("META-INF/container.xml", DOCTYPE + "<a>&x;</a>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: package("application/vnd.ms-word.document.macroEnabled.main+xml"), "a.docx"),
        (lambda: package("application/vnd.ms-powerpoint.presentation.macroEnabled.main+xml"), "a.pptx"),
        (lambda: package("application/vnd.ms-excel.sheet.macroEnabled.main+xml"), "a.xlsx"),
        (open_document, "a.odt"),
        (book, "a.epub"),
        (lambda: (DOCTYPE + "<a>&x;</a>").encode(), "a.xml"),
        (lambda: (DOCTYPE + "<a>&x;</a>").encode("utf-16"), "a.xml"),
        (lambda: b'<?xml version="1.0" encoding="utf-7"?><a>+ADwAIQ-</a>', "a.xml"),
    ],
)
def test_xml_with_entities_is_refused_everywhere(make: Callable[[], bytes], name: str) -> None:
    """No entity is expanded, in whatever a library would read."""
    with pytest.raises(BrokenDocument, match=rf"^{name}: (declares|is XML in an encoding)"):
        parse(make(), name)
