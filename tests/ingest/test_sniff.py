"""Kinds are told by content; extensions only choose among kinds of text."""

import io
import zipfile

import pytest

from kb.errors import BrokenDocument, NoText, UnsupportedFormat
from kb.ingest import sniff as kinds
from kb.ingest.sniff import sniff


def zipped(**entries: str) -> bytes:
    """A zip archive; `__` in a name stands for a slash, `_dot_` for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return buffer.getvalue()


def content_types(main: str) -> bytes:
    """A package that declares `main` as the type of its main part."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "[Content_Types].xml", f'<Types><Override ContentType="application/{main}+xml"/></Types>'
        )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b"%PDF-1.7\n", "notes.txt", "application/pdf"),
        (b"\xef\xbb\xbf\r\n%PDF-1.7\n", "a.bin", "application/pdf"),
        (b"junk from a mail gateway\n%PDF-1.7\n", "scan.pdf", "application/pdf"),
        (b"A text that explains %PDF-1.7 headers", "a.txt", "text/plain"),
        (b"{\\rtf1\\ansi hello}", "a.doc", "application/rtf"),
        (b"# Title\n", "a.md", "text/markdown"),
        (b"# Title\n", "README.MARKDOWN", "text/markdown"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b"a\tb\n", "a.tsv", "text/tab-separated-values"),
        (b"print('<html>')\n", "a.py", "text/plain"),
        (b"<!DOCTYPE html>\n<html></html>", "a.php", "text/plain"),
        (b"<!DOCTYPE html><title>x</title>", "a.txt", "text/html"),
        (b"\xff\xfe" + "<html><p>x".encode("utf-16-le"), "page", "text/html"),
        (
            b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>',
            "a.html",
            "application/xhtml+xml",
        ),
        (b"<p>a fragment", "a.html", "text/html"),
        (b"<p>a fragment", "a.md", "text/markdown"),
        (b'<?xml version="1.0"?><feed/>', "feed", "application/xml"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><text>x</text></svg>", "a.svg", "image/svg+xml"),
        (b'{"a": 1}', "a.json", "application/json"),
        (b'{"a": 1}', "answer", "application/json"),
        (b"{ not json }", "answer", "text/plain"),
        (b'{"a": 1}\n{"a": 2}\n', "a.jsonl", "application/x-ndjson"),
        (b'{"cells": [], "nbformat": 4}', "a.json", kinds.NOTEBOOK),
        (b'{"cells": []}', "a.ipynb", kinds.NOTEBOOK),
        (b"From: a@b.c\nTo: d@e.f\nSubject: x\nDate: y\n\nbody", "saved", "message/rfc822"),
        (b"From: here\nTo: there\n\nA poem", "poem.txt", "text/plain"),
        (b"key: value\n", "a.yaml", "application/yaml"),
        (b"just words", "LICENSE", "text/plain"),
        (b"BZh is how bzip2 files begin", "a.txt", "text/plain"),
        (b"\x89PNG\r\n\x1a\n\0\0", "photo.txt", "image/png"),
        (b"\x1f\x8b\x08\0", "a.md", "application/gzip"),
        (zipped(a_dot_txt="x"), "a.docx", "application/zip"),
        (zipped(mimetype="application/epub+zip"), "a.zip", kinds.EPUB),
        (zipped(mimetype="application/vnd.oasis.opendocument.text"), "a.docx", kinds.ODT),
        (zipped(mimetype="application/vnd.oasis.opendocument.spreadsheet-template"), "a", kinds.ODS),
        (
            content_types("vnd.openxmlformats-officedocument.wordprocessingml.document.main"),
            "a.zip",
            kinds.DOCX,
        ),
        (content_types("vnd.ms-word.template.macroEnabledTemplate.main"), "a.dotm", kinds.DOCX),
        (content_types("vnd.openxmlformats-officedocument.presentationml.slideshow.main"), "a", kinds.PPTX),
        (content_types("vnd.ms-excel.sheet.macroEnabled.main"), "a.xlsm", kinds.XLSX),
    ],
)
def test_the_kind_follows_the_content(data: bytes, name: str, expected: str) -> None:
    """Magic bytes and beginnings win over the extension."""
    assert sniff(data, name) == expected


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.csv", "a.html", "a.json", "a.unknown"])
def test_binary_is_refused_under_any_name_of_text(name: str) -> None:
    """Bytes that are no text stay out, whatever they are called."""
    with pytest.raises(UnsupportedFormat, match=rf"^{name}: is neither text nor a known document format"):
        sniff(bytes(range(256)) * 8, name)


@pytest.mark.parametrize("data", [b"", b" \r\n\t", b"\0\0\0\0"])
def test_an_empty_file_holds_no_text(data: bytes) -> None:
    """White space and zeros are as empty as nothing."""
    with pytest.raises(NoText, match=r"^a\.md: is empty"):
        sniff(data, "a.md")


def test_a_truncated_archive_is_broken() -> None:
    """A zip without its directory is told from an unknown format."""
    with pytest.raises(BrokenDocument, match=r"^a\.docx: is a damaged or truncated archive"):
        sniff(zipped(a="x" * 1000)[:500], "a.docx")


def test_a_damaged_compound_file_is_broken() -> None:
    """The magic of Outlook and old Office files alone does not make one."""
    with pytest.raises(BrokenDocument, match=r"^a\.msg: is a damaged compound file"):
        sniff(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\xff" * 2000, "a.msg")
