"""Titles from a document's properties, where a template or a program has left less than a title."""

import io
import re

from kb.errors import BrokenDocument
from kb.ingest.formats.archive import Archive, local

RUBBISH = re.compile(
    r"^(untitled|\(anonymous\)|microsoft (word|powerpoint|office)|word document|powerpoint presentation"
    r"|(document|dokument|presentation|präsentation|slide|title|layout|template|book|mappe) ?\d*$"
    r"|(click to|insert|title of) |\[.*\]$)|\.(docx?|pptx?|dotx?|xlsx?|odt|rtf|pdf|tex|dvi|indd|qxd)$",
    re.I,
)


def likely_title(title: str | None) -> str | None:
    """The title on one line, or None for what a template, a program or a file name left there."""
    title = " ".join((title or "").replace("\0", "").split())
    if not re.search(r"[^\W\d_]{2}", title) or RUBBISH.search(title):
        return None
    # One word in lower case, or with signs for spaces, is a file's name without its ending.
    return None if re.fullmatch(r"\S*[_-]\S*|[a-z\d.]+", title) else title


def core_title(package: io.BytesIO) -> str | None:
    """dc:title of an OOXML package, if it is one."""
    archive = Archive(package.getvalue())
    return xml_title(archive, "docProps/core.xml")


def xml_title(archive: Archive, name: str) -> str | None:
    """The first `title` element of an archive's XML entry, if it is one."""
    if name not in archive.names:
        return None
    try:
        root = archive.xml(name)
    except BrokenDocument:
        return None  # The properties are an ornament: the text does not depend on them.
    return likely_title(next((e.text for e in root.iter() if local(e.tag) == "title"), None))
