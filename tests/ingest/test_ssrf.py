"""Documents that name addresses of this machine in every way their formats have: none is loaded for them."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import docx
import httpx2
import openpyxl
import pptx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from inside import Site
from reportlab.pdfgen.canvas import Canvas

from kb.errors import DocumentRefused
from kb.ingest.parse import parse

TEMPLATE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate"
WORDS = "Open the brine valve first, then start the pump."
HTML = """<!DOCTYPE html><html><head><base href="{0}"><meta http-equiv="refresh" content="0;url={0}">
<link rel="stylesheet" href="{0}"><script src="{0}"></script><style>@import url({0});</style></head><body
background="{0}"><p>{1}</p><img src="{0}"><iframe src="{0}"></iframe><a href="{0}">{0}</a></body></html>"""
XHTML = """<?xml version="1.0"?><?xml-stylesheet href="{0}"?><!DOCTYPE html SYSTEM "{0}" [<!ENTITY % a SYSTEM
"{0}"> %a; <!ENTITY b SYSTEM "{0}">]><html xmlns="http://www.w3.org/1999/xhtml" xmlns:xi=
"http://www.w3.org/2001/XInclude"><body><p>{1}</p><p>&b;</p><xi:include href="{0}"/></body></html>"""


def saved(document: Any) -> bytes:
    """The bytes a library writes."""
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def zipped(**parts: str) -> bytes:
    """An archive; names with dots and slashes written out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return buffer.getvalue()


def rewritten(package: bytes, part: str, old: str, new: str) -> bytes:
    """An archive with some bytes of a part replaced, which must be there."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as before, zipfile.ZipFile(buffer, "w") as after:
        assert old in before.read(part).decode()
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, data.replace(old.encode(), new.encode(), 1) if name == part else data)
    return buffer.getvalue()


def word(address: str) -> bytes:
    """A template, a picture and a link elsewhere."""
    made = docx.Document()
    made.add_paragraph(WORDS)
    for kind in (RELATIONSHIP_TYPE.IMAGE, RELATIONSHIP_TYPE.HYPERLINK):
        made.part.relate_to(address, kind, is_external=True)
    made.part.relate_to(address, TEMPLATE, is_external=True)
    return saved(made)


def word_with_entity(address: str) -> bytes:
    """Its XML has a part of itself elsewhere."""
    declared = f'<!DOCTYPE x SYSTEM "{address}" [<!ENTITY a SYSTEM "{address}">]><w:document'
    package = rewritten(word(address), "word/document.xml", "<w:document", declared)
    return rewritten(package, "word/document.xml", WORDS, f"{WORDS} &a;")


def slides(address: str) -> bytes:
    """A film and a link elsewhere."""
    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = WORDS
    slide.part.relate_to(address, RELATIONSHIP_TYPE.IMAGE, is_external=True)
    return saved(made)


def sheet(address: str) -> bytes:
    """Formulas that ask another server."""
    made = openpyxl.Workbook()
    made.active.append(
        [WORDS, f'=WEBSERVICE("{address}")', f"='{address}[a.xlsx]S'!A1", f'=IMAGE("{address}")']
    )
    made.active["A2"].hyperlink = address
    return saved(made)


def open_document(address: str) -> bytes:
    """A picture elsewhere."""
    spaces = 'xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0" ' + (
        'xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:x="http://www.w3.org/1999/xlink" '
        'xmlns:d="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    )
    body = f'<o:body><o:text><t:p>{WORDS}<d:image x:href="{address}"/></t:p></o:text></o:body>'
    content = f"<o:document-content {spaces}>{body}</o:document-content>"
    return zipped(mimetype="application/vnd.oasis.opendocument.text", content_xml=content)


def book(address: str) -> bytes:
    """Chapters elsewhere."""
    container = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    container += '<rootfile full-path="b.opf"/></rootfiles></container>'
    package = f"""<package xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="b" href="{address}" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="b"/><itemref idref="a"/></spine></package>"""
    chapter = XHTML.format(address, WORDS)
    return zipped(mimetype="application/epub+zip", **{"META-INF__container_xml": container}, b_opf=package,
                  a_xhtml=chapter)  # fmt: skip


def pdf(address: str) -> bytes:
    """A link, and something to be done when it is opened."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 720, WORDS)
    canvas.linkURL(address, (72, 700, 300, 740))
    canvas.save()
    action = f"/Type /Catalog /OpenAction << /S /URI /URI ({address}) >>".encode()
    return buffer.getvalue().replace(b"/Type /Catalog", action)


def as_text(text: str) -> Callable[[str], bytes]:
    """A format that is text."""
    return lambda address: text.format(address, WORDS).encode()


MADE: dict[str, Callable[[str], bytes]] = {
    "a.html": as_text(HTML),
    "a.xhtml": as_text(XHTML),
    "a.mht": as_text(
        "MIME-Version: 1.0\nContent-Type: text/html\nContent-Location: {0}\n\n" + HTML.replace("\n", " ")
    ),
    "a.eml": as_text("From: a@b.c\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/html\n\n" + HTML),
    "a.md": as_text('{1}\n\n![x]({0}) [y]({0}) <{0}>\n\n[z]: {0}\n\n<img src="{0}">'),
    "a.rst": as_text("{1}\n\n.. image:: {0}\n\n.. include:: {0}\n\n.. raw:: html\n   :url: {0}\n"),
    "a.tex": as_text("{1} \\input{{{0}}} \\includegraphics{{{0}}}"),
    "a.xml": as_text(
        '<?xml version="1.0"?><!DOCTYPE a SYSTEM "{0}" [<!ENTITY b SYSTEM "{0}">]><a>{1} &b;</a>'
    ),
    "a.svg": as_text('<svg xmlns="http://www.w3.org/2000/svg"><text>{1}</text><image href="{0}"/></svg>'),
    "a.rtf": as_text("{{\\rtf1 {1} {{\\field{{\\*\\fldinst INCLUDEPICTURE {0} }}}}{{\\*\\template {0}}}}}"),
    "a.json": as_text('{{"$schema": "{0}", "$ref": "{0}", "text": "{1}"}}'),
    "a.csv": as_text('{1},"=WEBSERVICE(""{0}"")"\nx,{0}\n'),
    "a.ipynb": as_text(
        '{{"nbformat": 4, "nbformat_minor": 5, "metadata": {{}}, "cells": [{{"cell_type": "markdown", '
        '"metadata": {{}}, "source": ["{1} ![x]({0})"]}}]}}'
    ),
    "a.docx": word,
    "b.docx": word_with_entity,
    "a.pptx": slides,
    "a.xlsx": sheet,
    "a.odt": open_document,
    "a.epub": book,
    "a.pdf": pdf,
}
REFUSED = ["a.xml", "b.docx"]


@pytest.mark.parametrize("name", MADE)
def test_what_a_document_names_is_not_loaded(name: str, canary: Site) -> None:
    """Pictures, templates, entities, what formulas ask for, and what is to be done when it is opened."""
    address = f"http://127.0.0.1:{canary.port}/"
    data = MADE[name](address)
    if name in REFUSED:
        with pytest.raises(DocumentRefused, match="declares a DOCTYPE"):
            parse(data, name)
    else:
        assert "brine valve" in parse(data, name).text
    assert canary.hits == 0
    httpx2.get(address, trust_env=False)
    assert canary.hits == 1
