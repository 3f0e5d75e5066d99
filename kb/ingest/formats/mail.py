"""Mail: EML by the standard library, Outlook's MSG by its property streams."""

import datetime
import struct
from collections.abc import Sequence
from typing import Any

from kb.errors import BrokenDocument
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.encoding import decode
from kb.ingest.formats.html import decode_html, html_to_markdown


def parse_eml(data: bytes) -> Draft:
    """Header lines, the best body (plain text before HTML), and the names of what is attached."""
    import email
    import email.policy

    message = email.message_from_bytes(data, policy=email.policy.default)
    headers = [(name, header(message, name)) for name in ("Subject", "From", "To", "Cc", "Date")]
    body = ""
    for kind in ("plain", "html"):
        part = message.get_body(preferencelist=(kind,))
        if part is not None and not body.strip():
            body = part_text(part)
    attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    return letter(headers, body, attached)


def header(message: Any, name: str) -> str:
    """A decoded header on one line; as it was sent where it breaks the rules of RFC 5322."""
    try:
        value = str(message.get(name) or "")
    except (ValueError, IndexError, AttributeError, TypeError, LookupError):
        # The standard library's header parser stumbles over some malformed addresses and dates.
        value = next((str(raw) for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    return " ".join(value.split())


def part_text(part: Any) -> str:
    """The text of a body part in its charset, or in the one its letters show; HTML as Markdown."""
    raw = part.get_payload(decode=True) or b""
    if part.get_content_type() == "text/html":
        charset = part.get_content_charset()
        try:
            return html_to_markdown(raw.decode(charset or "utf-8"))
        except (LookupError, ValueError):
            return html_to_markdown(decode_html(raw))
    try:
        return str(raw.decode(part.get_content_charset() or "utf-8"))
    except (LookupError, ValueError):
        return decode(raw) or raw.decode("utf-8", errors="replace")


def letter(headers: Sequence[tuple[str, str]], body: str, attached: Sequence[str]) -> Draft:
    """A message as text; its subject is the title."""
    lines = [f"{name}: {value}" for name, value in headers if value]
    blocks = ["\n".join(lines), body.strip()]
    if attached:
        blocks.append("Attachments: " + ", ".join(" ".join(name.split()) for name in attached))
    title = next((value for name, value in headers if name == "Subject" and value), None)
    return Draft("\n\n".join(filter(None, blocks)), title=title)


# Property ids of [MS-OXPROPS]; a stream is named by id and type: 001F UTF-16, 001E 8-bit, 0102 binary.
SUBJECT, SENDER_NAME, SENDER_ADDRESS, SMTP_ADDRESS = "0037", "0C1A", "0C1F", "5D01"
DISPLAY_TO, DISPLAY_CC, BODY, HTML_BODY = "0E04", "0E03", "1000", "1013"
LONG_FILENAME, SHORT_FILENAME, DISPLAY_NAME = "3707", "3704", "3001"
SUBMIT_TIME, DELIVERY_TIME, CODEPAGE, INTERNET_CODEPAGE = 0x0039, 0x0E06, 0x3FFD, 0x3FDE


def parse_msg(data: bytes) -> Draft:
    """As parse_eml, for a message saved by Outlook ([MS-OXMSG])."""
    import olefile

    with olefile.OleFileIO(data) as ole:
        fixed = fixed_properties(ole)
        codepage = codec(fixed.get(CODEPAGE) or fixed.get(INTERNET_CODEPAGE) or 0)
        name = string(ole, [], SENDER_NAME, codepage)
        address = string(ole, [], SMTP_ADDRESS, codepage) or string(ole, [], SENDER_ADDRESS, codepage)
        sender = f"{name} <{address}>" if name and "@" in address and name != address else name or address
        headers = [
            ("Subject", string(ole, [], SUBJECT, codepage)),
            ("From", sender),
            ("To", string(ole, [], DISPLAY_TO, codepage)),
            ("Cc", string(ole, [], DISPLAY_CC, codepage)),
            ("Date", filetime(fixed.get(SUBMIT_TIME) or fixed.get(DELIVERY_TIME) or 0)),
        ]
        body = string(ole, [], BODY, codec(fixed.get(INTERNET_CODEPAGE) or 0) or codepage)
        if not body.strip():
            html = stream(ole, [f"__substg1.0_{HTML_BODY}0102"])
            body = html_to_markdown(decode_html(html)) if html else string(ole, [], HTML_BODY, codepage)
        folders = sorted({path[0] for path in ole.listdir() if path[0].startswith("__attach_version1.0_")})
        attached = [attachment(ole, folder, codepage) for folder in folders]
    if not any(value for _, value in headers) and not body:
        raise BrokenDocument("is an Outlook file without a subject, sender or body")
    return letter([(name, " ".join(value.split())) for name, value in headers], body, attached)


def attachment(ole: Any, folder: str, codepage: str) -> str:
    """What an attachment is called."""
    names = (string(ole, [folder], prop, codepage) for prop in (LONG_FILENAME, SHORT_FILENAME, DISPLAY_NAME))
    return next(filter(None, names), "without a name")


def stream(ole: Any, path: list[str]) -> bytes:
    """A stream's bytes; none where it is missing."""
    return bytes(ole.openstream(path).read()) if ole.exists(path) else b""


def string(ole: Any, folder: list[str], prop: str, codepage: str) -> str:
    """A string property in Unicode, else in the message's code page, else by its letters."""
    if wide := stream(ole, [*folder, f"__substg1.0_{prop}001F"]):
        return wide.decode("utf-16-le", errors="replace").rstrip("\0")
    narrow = stream(ole, [*folder, f"__substg1.0_{prop}001E"]).rstrip(b"\0")
    try:
        return narrow.decode(codepage or "utf-8")
    except (LookupError, ValueError):
        return decode(narrow) or narrow.decode("cp1252", errors="replace")


def fixed_properties(ole: Any) -> dict[int, int]:
    """Numbers and times by property id: 16-byte entries after a header of 32 ([MS-OXMSG] 2.4)."""
    data = stream(ole, ["__properties_version1.0"])[32:]
    entries = (data[i : i + 16] for i in range(0, len(data) - 15, 16))
    return {tag >> 16: value for tag, _, value in (struct.unpack("<IIQ", entry) for entry in entries)}


def codec(codepage: int) -> str:
    """Python's name for a Windows code page."""
    known = {
        65001: "utf-8",
        20127: "ascii",
        20866: "koi8_r",
        21866: "koi8_u",
        51932: "euc_jp",
        54936: "gb18030",
    }
    codepage &= 0xFFFFFFFF  # A number takes the lower half of its entry; the upper is not always zero.
    if 28591 <= codepage <= 28605:
        return f"iso8859_{codepage - 28590}"
    return known.get(codepage) or (f"cp{codepage}" if codepage else "")


def filetime(value: int) -> str:
    """A Windows FILETIME (100 ns since 1601) in ISO form; nothing for none or one out of range."""
    try:
        moment = datetime.datetime(1601, 1, 1) + datetime.timedelta(microseconds=value // 10)
    except OverflowError:
        return ""
    return f"{moment.isoformat(' ', 'seconds')} UTC" if value else ""
