"""PDF: the text layer page by page, with words mended that were parted at line ends."""

import re
from collections import Counter
from collections.abc import Sequence

from kb.errors import BrokenDocument, NoText, TooLarge
from kb.ingest.formats.draft import MAX_CHARACTERS, Draft
from kb.ingest.formats.titles import likely_title

MAX_PAGES = 10_000
"""Ten volumes of a code of law; more is a dump of scans or a bomb of empty pages."""

PARTED = re.compile(
    r"((?:[^\W\d_]{1,60}-){0,4}[^\W\d_]{1,60})[\ufffe\u0002\u00ad](?:\r?\n)?([^\W\d_]{1,60})(\S*) ?"
)
"""A word parted at a line end; PDFium puts U+FFFE for the hyphen and drops the line end."""

WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
PASSWORD_ERROR = 4  # FPDF_ERR_PASSWORD, public/fpdfview.h


def parse_pdf(data: bytes) -> Draft:
    """The text layer in content order, page by page; the title is that of the metadata, if it is one."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == PASSWORD_ERROR or "password" in str(error).lower():
            raise BrokenDocument("is encrypted; save it without a password") from error
        raise BrokenDocument(f"is a damaged PDF ({error})") from error
    try:
        if len(document) > MAX_PAGES:
            raise TooLarge(f"has {len(document):,} pages; the limit is {MAX_PAGES:,}")
        pages: list[str] = []
        size = 0
        for number in range(len(document)):
            page = document[number]
            layer = page.get_textpage()
            text = layer.get_text_range()
            layer.close()
            page.close()
            size += len(text)
            if size > MAX_CHARACTERS:
                raise TooLarge(f"holds more than {MAX_CHARACTERS:,} characters of text; split it")
            pages.append(text)
        title = document.get_metadata_value("Title")
    finally:
        document.close()
    if not any(map(str.strip, pages)):
        count = "1 page" if len(pages) == 1 else f"{len(pages):,} pages"
        raise NoText(f"has no text layer on its {count}; run OCR first")
    return Draft(markup="plain", title=likely_title(title), pages=list(enumerate(mended(pages), start=1)))


def mended(pages: Sequence[str]) -> list[str]:
    """The pages with words joined that a line end parted, the line end moved behind the word.

    Whether the hyphen belongs to the word is judged by the document's own use: `pre-training` elsewhere keeps
    it in `pre-|training`; where neither form occurs the hyphen goes, as most are the typesetter's.
    """
    used = Counter(word for page in pages for word in map(str.lower, WORD.findall(PARTED.sub(" ", page))))

    def join(match: re.Match[str]) -> str:
        left, right, rest = match.groups()
        # A capital after the hyphen (`Bi-LSTM`, `Anglo-|Saxon`) is never a typesetter's.
        proper = right[0].isupper() and not left.isupper()
        whole, hyphened = left + right, f"{left}-{right}"
        as_whole, as_hyphened = used[whole.lower()], used[hyphened.lower()]
        # Unknown in either form: a compound if both halves are words here, and too long to be syllables.
        compound = (
            not as_whole and min(len(left), len(right)) > 3 and used[left.lower()] and used[right.lower()]
        )
        return f"{hyphened if proper or compound or as_hyphened > as_whole else whole}{rest}\n"

    # What is marked but joins no two words, as in `2014\ufffe15`, is a hyphen.
    return [
        re.sub("[\ufffe\u0002]", "-", PARTED.sub(join, page)).replace("\r\n", "\n").strip() for page in pages
    ]
