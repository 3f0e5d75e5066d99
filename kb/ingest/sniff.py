"""What a file is, from its content first; its extension only decides between kinds of text."""

import io
import json
import re
import struct
import zipfile
import zlib
from pathlib import PurePath

from kb.errors import BrokenDocument, NoText, UnsupportedFormat
from kb.ingest.formats.encoding import looks_like_text

OFFICE = "application/vnd.openxmlformats-officedocument."
DOCX = OFFICE + "wordprocessingml.document"
PPTX = OFFICE + "presentationml.presentation"
XLSX = OFFICE + "spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
EPUB = "application/epub+zip"
MSG = "application/vnd.ms-outlook"
NOTEBOOK = "application/x-ipynb+json"

TEXT_KINDS = {
    "md": "text/markdown", "markdown": "text/markdown", "mdx": "text/markdown", "qmd": "text/markdown",
    "rmd": "text/markdown", "csv": "text/csv", "tsv": "text/tab-separated-values",
    "html": "text/html", "htm": "text/html", "xhtml": "application/xhtml+xml", "xht": "application/xhtml+xml",
    "xml": "application/xml", "nxml": "application/xml", "rss": "application/xml", "atom": "application/xml",
    "xsd": "application/xml", "json": "application/json", "geojson": "application/json",
    "jsonl": "application/x-ndjson", "ndjson": "application/x-ndjson", "ipynb": NOTEBOOK,
    "eml": "message/rfc822", "mht": "message/rfc822", "mhtml": "message/rfc822",
    "yaml": "application/yaml", "yml": "application/yaml", "toml": "application/toml", "vtt": "text/vtt",
    "rst": "text/x-rst", "adoc": "text/asciidoc", "asciidoc": "text/asciidoc", "tex": "application/x-tex",
    "svg": "image/svg+xml",
}  # fmt: skip
"""Extensions of text whose kind its content does not show. Any other is text/plain."""

SOURCE = {
    "astro", "c", "cc", "cpp", "cs", "cshtml", "css", "cxx", "ejs", "erb", "go", "gohtml", "h", "hbs", "hpp",
    "j2", "java", "jinja", "jinja2", "js", "jsp", "jsx", "kt", "less", "lua", "m", "mjs", "mustache", "php",
    "phtml", "pl", "ps1", "py", "r", "rb", "rs", "scala", "scss", "sh", "sql", "svelte", "swift", "tmpl",
    "tpl",
    "ts", "tsx", "twig", "vue", "xsl", "xslt",
}  # fmt: skip
"""Extensions of source code and page templates, which stay text even where they begin like HTML or XML."""

PACKAGES = (
    # Content type of the main part in [Content_Types].xml; those of macro-enabled variants begin with ms-.
    (re.compile(rb"wordprocessingml\.(document|template)\.main|ms-word\.\w+\.macroEnabled"), DOCX),
    (re.compile(rb"presentationml\.(presentation|slideshow|template)\.main|ms-powerpoint\.\w+\.macro"), PPTX),
    (re.compile(rb"spreadsheetml\.(sheet|template)\.main|ms-excel\.(sheet|template)\.macro"), XLSX),
)
OPEN_DOCUMENT = {ODT, ODT + "-template", ODS, ODS + "-template", ODP, ODP + "-template", EPUB}

BINARIES = (
    (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"), (b"\x1f\x8b", "application/gzip"), (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"), (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"), (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x7fELF", "application/x-executable"), (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"), (b"ID3", "audio/mpeg"), (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"), (b"%!PS", "application/postscript"), (b"RIFF", "application/x-riff"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"), (b"\x1aE\xdf\xa3", "video/matroska"),
    (b"PAR1", "application/vnd.apache.parquet"),
)  # fmt: skip
MZ = re.compile(rb"MZ.{58}[\x40-\xff]\0", re.S)

HTML = re.compile(r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.I | re.S)
HTML_FRAGMENT = re.compile(
    r"\s*<(?:head|body|title|h[1-6]|p|div|table|[ou]l|section|article|main)[\s>/]", re.I
)
XHTML = re.compile(r"\s*<\?xml|[^>]*xhtml", re.I)
XML = re.compile(r"\s*<\?xml\s")
SVG = re.compile(r"\s*(?:<\?xml[^>]*\?>\s*)?(?:<!(?:--.*?--|DOCTYPE[^>]*)>\s*)*<svg[\s>]", re.S)
MAIL_HEADER = re.compile(
    r"^(From|To|Subject|Date|Message-ID|Received|MIME-Version|Return-Path|Delivered-To|Content-Type"
    r"|Content-Transfer-Encoding|Cc|Reply-To|DKIM-Signature|X-[\w-]+):",
    re.I | re.M,
)
FIELD_LINE = re.compile(r"(?:From .*\n)?(?:[!-9;-~]+:.*\n(?:[ \t].*\n)*)+")
HEAD = 4096
"""Characters of a text that are looked at to tell its kind."""


def sniff(data: bytes, name: str) -> str:
    """The media type of `data`, whether or not there is a parser for it.

    A PDF called .txt is a PDF. Raises NoText for an empty file, BrokenDocument for a damaged archive,
    UnsupportedFormat for bytes that are neither a known format nor text.
    """
    if not data.strip(b"\0 \t\r\n\f\v"):
        raise NoText(f"{name}: is empty")
    extension = PurePath(name).suffix.lower().lstrip(".")
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return zip_type(data, name)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return ole_type(data, name)
    # Readers accept up to a kilobyte before the header; here, of a file that says it is a PDF.
    start = data[:1024].lstrip(b"\xef\xbb\xbf\0 \t\r\n")
    if start.startswith(b"%PDF-") or (extension == "pdf" and b"%PDF-" in data[:1024]):
        return "application/pdf"
    if start.startswith(b"{\\rtf"):
        return "application/rtf"
    for magic, media_type in BINARIES:
        # Magic of letters alone also begins words: only what is no text is taken for it.
        if data.startswith(magic) and (not magic.isalnum() or not looks_like_text(data)):
            return media_type
    if MZ.match(data):
        return "application/vnd.microsoft.portable-executable"
    if data[4:8] == b"ftyp":
        return "video/mp4"
    if not looks_like_text(data):
        raise UnsupportedFormat(f"{name}: is neither text nor a known document format")
    return text_type(data, extension)


def zip_type(data: bytes, name: str) -> str:
    """OOXML by its main part's content type, OpenDocument and EPUB by the mimetype entry; else plain zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            if "[Content_Types].xml" in names:
                with archive.open("[Content_Types].xml") as entry:
                    types = entry.read(1_000_000)
                for pattern, media_type in PACKAGES:
                    if pattern.search(types):
                        return media_type
            if "mimetype" in names:
                with archive.open("mimetype") as entry:
                    declared = entry.read(100).decode("ascii", errors="replace").strip()
                if declared in OPEN_DOCUMENT:
                    return declared.removesuffix("-template")
                return declared if re.fullmatch(r"[\w.+-]+/[\w.+-]+", declared) else "application/zip"
            if "META-INF/container.xml" in names:
                return EPUB
            if names & {"buildVersionHistory.plist", "Index.zip"} or any(n.endswith(".iwa") for n in names):
                return "application/vnd.apple.iwork"
            return "application/zip"
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OSError) as error:
        raise BrokenDocument(f"{name}: is a damaged or truncated archive ({error})") from error


def ole_type(data: bytes, name: str) -> str:
    """What an OLE compound file holds, by its streams: mail, old Office documents, an encrypted package."""
    import olefile

    try:
        with olefile.OleFileIO(data) as ole:
            streams = {path[0] for path in ole.listdir(streams=True, storages=True)}
    except (OSError, ValueError, IndexError, TypeError, struct.error) as error:
        raise BrokenDocument(f"{name}: is a damaged compound file ({error})") from error
    if "EncryptedPackage" in streams:
        raise BrokenDocument(f"{name}: is encrypted; save it without a password")
    for stream, media_type in (
        ("__properties_version1.0", MSG),
        ("WordDocument", "application/msword"),
        ("PowerPoint Document", "application/vnd.ms-powerpoint"),
        ("Workbook", "application/vnd.ms-excel"),
        ("Book", "application/vnd.ms-excel"),
    ):
        if stream in streams:
            return media_type
    return "application/x-ole-storage"


def text_type(data: bytes, extension: str) -> str:
    """The kind of a text: by its beginning where that is unmistakable, else by the extension."""
    head = readable_head(data)
    kind = TEXT_KINDS.get(extension, "text/plain")
    if extension in SOURCE:
        return "text/plain"
    if SVG.match(head):
        return "image/svg+xml"
    if kind == "application/json" and b'"nbformat"' in data[:HEAD] + data[-HEAD:] and b'"cells"' in data:
        return NOTEBOOK
    if kind in ("text/markdown", "text/csv", "text/tab-separated-values", "message/rfc822"):
        # These may hold any markup in their lines; only a whole page of HTML under their name is a mistake.
        return html_kind(head) if HTML.match(head) and kind != "message/rfc822" else kind
    if HTML.match(head):
        return html_kind(head)
    if kind in ("text/html", "application/xhtml+xml"):
        return "application/xml" if XML.match(head) and "<html" not in head.lower() else kind
    if XML.match(head):
        return "application/xml"
    if kind == "text/plain":
        return plain_kind(data, head, extension)
    return kind


def plain_kind(data: bytes, head: str, extension: str) -> str:
    """Mail, HTML and JSON among what has no telling extension."""
    fields = FIELD_LINE.match(head)
    if fields and len({m[1].lower() for m in MAIL_HEADER.finditer(fields[0])}) >= 4:
        return "message/rfc822"
    if not extension:
        if HTML_FRAGMENT.match(head):
            return "text/html"
        if head.lstrip().startswith(("{", "[")):
            try:
                json.loads(data)
                return "application/json"
            except (ValueError, RecursionError):
                pass
    return "text/plain"


def html_kind(head: str) -> str:
    """XHTML where the page says so, else HTML."""
    return "application/xhtml+xml" if XHTML.match(head[:500]) else "text/html"


def readable_head(data: bytes) -> str:
    """The beginning of a text, its ASCII readable in any encoding: kinds announce themselves in ASCII."""
    start = data[: 4 * HEAD].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")
    return start.decode("latin-1")[:HEAD].replace("\r\n", "\n")
