"""EPUB: the chapters in the order of the spine."""

import posixpath
from typing import Any
from urllib.parse import unquote

from kb.errors import BrokenDocument
from kb.ingest.formats.archive import Archive, local
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.html import decode_html, html_to_markdown, open_self_closed
from kb.ingest.formats.markdown import headings_of, paragraphs

FONT_OBFUSCATION = (b"www.idpf.org/2008/embedding", b"ns.adobe.com/pdf/enc#RC")
CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def parse_epub(data: bytes) -> Draft:
    """The book as Markdown. A chapter without a heading gets the label it has in the table of contents."""
    archive = Archive(data)
    if "META-INF/encryption.xml" in archive.names:
        # Obfuscated fonts are listed there as well, and do not hinder reading.
        encryption = archive.read("META-INF/encryption.xml")
        if b"CipherReference" in encryption and not any(font in encryption for font in FONT_OBFUSCATION):
            raise BrokenDocument("is encrypted; only books without copy protection can be read")
    container = archive.xml("META-INF/container.xml")
    path = next((e.get("full-path") for e in container.iter() if local(e.tag) == "rootfile"), None)
    if not path:
        raise BrokenDocument("names no package document in META-INF/container.xml")
    package = archive.xml(path)
    folder = posixpath.dirname(path)
    manifest = {e.get("id"): e for e in package.iter() if local(e.tag) == "item"}
    spine = [e.get("idref") for e in package.iter() if local(e.tag) == "itemref"]
    labels = contents_of(archive, manifest, folder)
    chapters: list[str] = []
    # A spine may name a chapter twice; it is read once.
    for item in (manifest[key] for key in dict.fromkeys(spine) if key in manifest):
        name = resolved(folder, item.get("href") or "")
        kind = item.get("media-type") if item.get("properties") != "nav" else ""
        if kind not in CHAPTERS or name not in archive.names:
            continue
        text = html_to_markdown(open_self_closed(decode_html(archive.read(name))))
        label = labels.get(name)
        if text and label and not headings_of(text):
            text = f"# {label}\n\n{text}"
        chapters.append(text)
    title = next((" ".join((e.text or "").split()) for e in package.iter() if local(e.tag) == "title"), None)
    return Draft(paragraphs(chapters), title=title or None)


def contents_of(archive: Archive, manifest: dict[Any, Any], folder: str) -> dict[str, str]:
    """The first label the table of contents (EPUB 3 nav or EPUB 2 NCX) gives to each file."""
    labels: dict[str, str] = {}
    for item in manifest.values():
        name = resolved(folder, item.get("href") or "")
        navigation = "nav" in (item.get("properties") or "").split()
        ncx = item.get("media-type") == "application/x-dtbncx+xml"
        if name not in archive.names or not (navigation or ncx):
            continue
        try:
            root = archive.xml(name)
        except BrokenDocument:
            continue  # The text does not depend on its table of contents.
        for point in root.iter():
            if local(point.tag) == "navPoint":
                target = next((e.get("src") for e in point if local(e.tag) == "content"), None)
                label = next((e for e in point if local(e.tag) == "navLabel"), None)
            elif navigation and local(point.tag) == "a":
                target, label = point.get("href"), point
            else:
                continue
            words = " ".join("".join(label.itertext()).split()) if label is not None else ""
            if target and words:
                labels.setdefault(resolved(posixpath.dirname(name), target), words)
    return labels


def resolved(folder: str, href: str) -> str:
    """The archive name of a link in a file of `folder`."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
