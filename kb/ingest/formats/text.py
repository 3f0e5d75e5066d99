"""Plain text of any kind: prose, logs, configuration, source code, markup without a parser here; and RTF."""

from kb.errors import BrokenDocument
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.encoding import decode


def parse_text(data: bytes) -> Draft:
    """The text as it stands."""
    return Draft(decoded(data), markup="plain")


def decoded(data: bytes) -> str:
    """The text of `data` in whatever encoding. Raises BrokenDocument when none fits."""
    text = decode(data)
    if text is None:
        raise BrokenDocument("is not text in any known encoding")
    return text


def parse_rtf(data: bytes) -> Draft:
    """The words of a Rich Text file, its formatting left behind."""
    from striprtf.striprtf import rtf_to_text  # type: ignore[import-untyped,unused-ignore]

    # RTF is ASCII with escapes; stray 8-bit bytes are in the code page most writers mean.
    text: str = rtf_to_text(  # type: ignore[no-untyped-call,unused-ignore]
        data.decode("cp1252", errors="replace"), errors="replace"
    )
    return Draft(text.strip(), markup="plain")
