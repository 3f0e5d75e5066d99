"""Bytes become a Document: the kind is sniffed, one parser is asked, and its text is normalised once.

Runs in the calling process; `kb.ingest.sandbox` runs it in a limited child, which is how files of unknown
origin are to be parsed.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from kb.errors import BrokenDocument, DocumentRefused, NoText, TooLarge, UnsupportedFormat
from kb.ingest import sniff as kinds
from kb.ingest.formats import data as structured
from kb.ingest.formats import epub, html, mail, opendocument, pdf, sheets, slides, text, word
from kb.ingest.formats.draft import MAX_CHARACTERS, Draft
from kb.ingest.formats.markdown import headings_of, parse_markdown
from kb.types import Document, Page

MAX_BYTES = 100_000_000
"""Size of a file. With its expanded text and a parser's tree it must fit the memory of the child process."""

PAGE_BREAK = "\n\n"
"""Stands between pages, so that no word or line runs over a page mark."""

PARSERS: dict[str, Callable[[bytes], Draft]] = {
    "text/plain": text.parse_text,
    "text/markdown": parse_markdown,
    "text/html": html.parse_html,
    "application/xhtml+xml": html.parse_xhtml,
    "application/pdf": pdf.parse_pdf,
    kinds.DOCX: word.parse_docx,
    kinds.PPTX: slides.parse_pptx,
    kinds.XLSX: sheets.parse_xlsx,
    kinds.ODT: opendocument.parse_odt,
    kinds.ODS: opendocument.parse_ods,
    kinds.ODP: opendocument.parse_odp,
    kinds.EPUB: epub.parse_epub,
    "text/csv": sheets.parse_csv,
    "text/tab-separated-values": sheets.parse_tsv,
    "application/json": structured.parse_json,
    "application/x-ndjson": text.parse_text,
    kinds.NOTEBOOK: structured.parse_notebook,
    "application/xml": structured.parse_xml,
    "image/svg+xml": structured.parse_xml,
    "message/rfc822": mail.parse_eml,
    kinds.MSG: mail.parse_msg,
    "application/rtf": text.parse_rtf,
    "text/vtt": text.parse_text,
    "text/x-rst": text.parse_text,
    "text/asciidoc": text.parse_text,
    "application/x-tex": text.parse_text,
    "application/yaml": text.parse_text,
    "application/toml": text.parse_text,
}

SUPPORTED = (
    "txt", "md", "html", "pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "csv", "tsv", "json",
    "jsonl", "ipynb", "xml", "eml", "msg", "rtf", "rst", "adoc", "tex", "vtt", "yaml", "toml", "source code",
)  # fmt: skip

ADVICE = {
    "application/msword": "is an old Word file; save it as docx",
    "application/vnd.ms-powerpoint": "is an old PowerPoint file; save it as pptx",
    "application/vnd.ms-excel": "is an old Excel file; save it as xlsx",
    "application/vnd.apple.iwork": "is an Apple iWork file; export it as PDF or an Office format",
    "application/zip": "is an archive; unpack it and add the files in it",
    "application/gzip": "is an archive; unpack it and add the files in it",
}
"""What to do about kinds that come up often and have no parser."""

# C0 controls and DEL but for tab and newline, lone surrogates, and the byte order mark wherever it stands.
UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff]")
SURROGATES = re.compile("[\ud800-\udfff]")


def parse(data: bytes, name: str, parsers: Mapping[str, Callable[[bytes], Draft]] = PARSERS) -> Document:
    """The document in `data`, a file called `name`. parsers: by media type.

    Raises nothing but DocumentRefused, whatever the bytes: UnsupportedFormat, BrokenDocument (damaged or
    encrypted), NoText (empty or scanned), TooLarge. Messages begin with the name.
    """
    try:
        if len(data) > MAX_BYTES:
            raise TooLarge(f"is {len(data):,} bytes; the limit is {MAX_BYTES:,}")
        media_type = kinds.sniff(data, name)
        parser = parsers.get(media_type)
        if parser is None:
            reason = ADVICE.get(media_type, f"no parser for {media_type}")
            raise UnsupportedFormat(f"{reason}; supported: {', '.join(supported())}")
        return document_of(parser(data), media_type)
    except DocumentRefused as error:
        message = str(error)
        if message.startswith(f"{name}: "):
            raise
        raise type(error)(f"{name}: {message}") from error
    except MemoryError as error:
        raise TooLarge(f"{name}: needs more memory than a document may use; split it") from error
    # The one place where everything is caught: hostile bytes go through third-party parsers here, and what
    # those raise has no bounds. The cause is kept in the message and in the chain.
    except Exception as error:
        raise BrokenDocument(f"{name}: cannot be read ({type(error).__name__}: {brief(error)})") from error


def supported() -> list[str]:
    """The kinds of files that parse() reads, as a user names them."""
    return list(SUPPORTED)


def document_of(draft: Draft, media_type: str) -> Document:
    """The draft's text normalised and put together, with the offsets of its pages and headings."""
    pages: tuple[Page, ...] = ()
    if draft.pages:
        body, pages = joined(draft.pages)
    else:
        body = normalised(draft.text)
    if len(body) > MAX_CHARACTERS:
        raise TooLarge(f"holds {len(body):,} characters of text; the limit is {MAX_CHARACTERS:,}")
    if not body.strip():
        raise NoText("holds no text")
    headings = headings_of(body) if draft.markup == "markdown" else ()
    title = " ".join(normalised(draft.title or "").split())
    if not title:
        title = next((heading.title for heading in headings if heading.level == 1), "")
    return Document(body, media_type, title or None, draft.markup, pages, headings, draft.date)


def joined(drafts: Sequence[tuple[int, str]]) -> tuple[str, tuple[Page, ...]]:
    """The pages that hold text, in one, with the mark of each. Numbers stay those of the document."""
    parts: list[str] = []
    pages: list[Page] = []
    start = 0
    for number, draft in drafts:
        part = normalised(draft)
        if part.strip():
            pages.append(Page(number, start))
            parts.append(part)
            start += len(part) + len(PAGE_BREAK)
    return PAGE_BREAK.join(parts), tuple(pages)


def normalised(body: str) -> str:
    """The text with `\\n` as its only line end and nothing in it that no text has; otherwise unchanged.

    Form feeds and vertical tabs become newlines, lone surrogates U+FFFD; NUL, other C0 controls and byte
    order marks go. Must come before any offset is taken.
    """
    if "\r" in body:
        body = body.replace("\r\n", "\n").replace("\r", "\n")
    if "\f" in body or "\v" in body:
        body = body.replace("\f", "\n").replace("\v", "\n")
    if UNWANTED.search(body):
        body = UNWANTED.sub("", body)
    return SURROGATES.sub("\ufffd", body) if not body.isascii() else body


def brief(error: Exception) -> str:
    """An exception's first line, cut to a length that fits a message."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no details"
