"""Documents that are zip archives: opened only after their directory has been found harmless."""

import io
import re
import zipfile
import zlib
from typing import Any

from kb.errors import BrokenDocument, TooLarge

MAX_ENTRIES = 10_000
"""A novel as EPUB has 300 entries, a deck of 500 slides about 3,000."""

MAX_EXPANDED = 500_000_000
"""Bytes all entries may expand to: five times the largest upload, and an eighth of the parser's memory."""

MAX_RATIO = 200
"""Expansion of one entry beyond RATIO_FROM. XML of real sheets reaches 50; a bomb of zeros reaches 1,000."""

RATIO_FROM = 10_000_000
"""Bytes below which an entry may expand as it likes: small ones are repetitive, and cannot harm."""

OTHER_ENCODING = re.compile(
    rb"<\?xml[^>]*?encoding\s*=\s*[\"']\s*(?!utf-?8|utf-?16|us-ascii|iso-8859-|windows-125)", re.I
)
MARKUP = (".xml", ".rels", ".vml", ".opf", ".ncx")


class Archive:
    """A zip archive within limits: its names, and reads that stop at what the directory declared.

    Raises BrokenDocument for a damaged or encrypted archive, TooLarge for one that expands too far.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(data))
            entries = self.zip.infolist()
        except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError) as error:
            raise BrokenDocument(f"is a damaged or truncated archive ({error})") from error
        if len(entries) > MAX_ENTRIES:
            raise TooLarge(f"holds {len(entries):,} files; the limit is {MAX_ENTRIES:,}")
        expanded = 0
        for entry in entries:
            expanded += entry.file_size
            if entry.flag_bits & 0x1:
                raise BrokenDocument("is encrypted; save it without a password")
            if entry.file_size > RATIO_FROM and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
                raise TooLarge(f"expands more than {MAX_RATIO}-fold, as archive bombs do")
        if expanded > MAX_EXPANDED:
            raise TooLarge(f"expands to {expanded:,} bytes; the limit is {MAX_EXPANDED:,}")
        self.names = {entry.filename for entry in entries}
        self.left = MAX_EXPANDED

    def read(self, name: str) -> bytes:
        """The bytes of an entry. What is read in all stays below MAX_EXPANDED, read twice counting twice."""
        try:
            with self.zip.open(name) as entry:
                # zipfile never yields more than the directory's file_size, whatever the stream holds;
                # the count here stops many entries from sharing one compressed stream.
                data = entry.read(self.left + 1)
        except KeyError as error:
            raise BrokenDocument(f"lacks its part {name}") from error
        except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError, ValueError) as error:
            raise BrokenDocument(f"is damaged in its part {name} ({error})") from error
        self.left -= len(data)
        if self.left < 0:
            raise TooLarge(f"expands to more than {MAX_EXPANDED:,} bytes")
        return data

    def xml(self, name: str) -> Any:
        """The root element of an XML entry, as xml.etree has it. Raises BrokenDocument."""
        return xml_root(self.read(name))


def checked_package(data: bytes) -> io.BytesIO:
    """An OOXML package that a library may open on its own: limits kept, no DOCTYPE in any of its XML parts.

    Libraries differ in whether they expand entities; without a DOCTYPE there are none to expand (ECMA-376
    forbids one in every part).
    """
    archive = Archive(data)
    for name in sorted(archive.names):
        if name.lower().endswith(MARKUP):
            refuse_doctype(archive.read(name))
    return io.BytesIO(data)


def refuse_doctype(data: bytes) -> None:
    """Raises BrokenDocument if the XML declares a DOCTYPE, or an encoding in which one could hide."""
    # UTF-16 becomes readable for this purpose by leaving out its zero bytes.
    plain = data.replace(b"\0", b"") if b"\0" in data[:4] else data
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise BrokenDocument(
            "declares a DOCTYPE in its XML, refused because entities can be bombs; remove it"
        )
    if OTHER_ENCODING.match(plain[:400].lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")):
        raise BrokenDocument("is XML in an encoding that is not supported; save it as UTF-8")


def xml_root(data: bytes) -> Any:
    """The root element of XML without entity declarations. Raises BrokenDocument."""
    from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped,unused-ignore]
    from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped,unused-ignore]

    try:
        return fromstring(data, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise BrokenDocument("declares entities in its XML, which can be bombs") from error
    except (ParseError, ValueError, LookupError) as error:
        raise BrokenDocument(f"is not well-formed XML ({error})") from error


def local(tag: object) -> str:
    """An element's name without its namespace; nothing for comments and processing instructions."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
