"""DOCX: mammoth reads the styles, lists, notes and tables; formulas are written out before it drops them."""

import io
import re
import zipfile
from typing import Any

from kb.ingest.formats.archive import checked_package, local
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.html import html_to_markdown
from kb.ingest.formats.titles import core_title

STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh\n" + "\n".join(
    f"p[style-name='{name} {level}'] => h{level}:fresh"
    for level in range(1, 7)
    for name in ("heading", "Überschrift", "Titre", "Título", "Titolo", "Kop", "Rubrik", "Nagłówek")
)
MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
UNREAD = ("word/media/", "word/embeddings/", "word/fonts/", "word/theme/", "docProps/", "customXml/")
STYLE_PART = re.compile(r"word/styles\d*\.xml")
PROSE_PART = re.compile(r"word/(document|footnotes|endnotes)\d*\.xml")


def parse_docx(data: bytes) -> Draft:
    """The document as Markdown, with formulas as linear text; the title is the properties' if it is one."""
    import mammoth  # type: ignore[import-untyped,unused-ignore]

    package = checked_package(data)
    html = mammoth.convert_to_html(
        prepared(package),
        style_map=STYLES,
        # A data URI for each picture would dwarf the text.
        convert_image=mammoth.images.img_element(lambda image: {"src": ""}),
        include_embedded_style_map=False,
        external_file_access=False,
    ).value
    return Draft(html_to_markdown(html), title=core_title(package))


def prepared(package: io.BytesIO) -> io.BytesIO:
    """The package as mammoth reads it best: formulas as text, no pictures, and of the styles only names.

    mammoth passes over formulas, and spends half a second on the formatting in a usual template's styles.
    """
    rewritten = io.BytesIO()
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(rewritten, "w") as target:
        for entry in source.infolist():
            if entry.filename.startswith(UNREAD):
                continue
            content = source.read(entry)
            if STYLE_PART.fullmatch(entry.filename):
                content = named_styles(content)
            elif b"oMath" in content and PROSE_PART.fullmatch(entry.filename):
                content = plain_formulas(content)
            target.writestr(entry.filename, content)
    rewritten.seek(0)
    return rewritten


def xml_tree(xml: bytes) -> Any:
    """A part's root in lxml, which can write it back; checked_package has seen that it has no entities."""
    from lxml import etree

    return etree.fromstring(xml, etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))


def written(root: Any) -> bytes:
    """A tree as a part again."""
    from lxml import etree

    return bytes(etree.tostring(root, encoding="utf-8", xml_declaration=True))


def named_styles(xml: bytes) -> bytes:
    """The styles with their names and numbering alone."""
    root = xml_tree(xml)
    for style in list(root):
        if local(style.tag) != "style":
            root.remove(style)
            continue
        for part in list(style):
            if local(part.tag) == "pPr":
                for setting in list(part):
                    if local(setting.tag) != "numPr":
                        part.remove(setting)
            elif local(part.tag) != "name":
                style.remove(part)
    return written(root)


def plain_formulas(xml: bytes) -> bytes:
    """The part with a text run in place of each m:oMath."""
    from lxml import etree

    root = xml_tree(xml)
    word = etree.QName(root).namespace
    for formula in list(root.iter(f"{MATH}oMath")):
        run = etree.Element(f"{{{word}}}r")
        text = etree.SubElement(run, f"{{{word}}}t")
        text.text = f" {linear(formula)} "
        parent = formula.getparent()
        if parent.tag == f"{MATH}oMathPara":
            # A displayed formula stands outside any run; its wrapper would hide it from mammoth.
            parent.addprevious(run)
            parent.remove(formula)
        else:
            parent.replace(formula, run)
    return written(root)


def linear(element: Any) -> str:
    """Office Math (ECMA-376 part 1, 22.1) as one line: `x^2`, `a/(b+1)`, `√(x)`, `∑_(i=1)^n`."""
    kind = local(element.tag)
    if kind == "t":
        return (element.text or "").replace("\u2061", "")  # the invisible sign between sin and x
    parts = [(local(child.tag), linear(child)) for child in element]
    part = dict(parts)
    if kind == "f":
        return f"{grouped(part.get('num', ''))}/{grouped(part.get('den', ''))}"
    if kind in ("sSup", "sSub", "sSubSup", "nary"):
        sign = element.find(f"{MATH}naryPr/{MATH}chr")
        head = part.get("e", "") if kind != "nary" else "∫" if sign is None else sign.get(f"{MATH}val", "")
        below = f"_{grouped(part['sub'])}" if part.get("sub") else ""
        above = f"^{grouped(part['sup'])}" if part.get("sup") else ""
        return head + below + above + (part.get("e", "") if kind == "nary" else "")
    if kind == "rad":
        return f"{part.get('deg', '')}√({part.get('e', '')})"
    if kind == "d":
        signs = {local(c.tag): c.get(f"{MATH}val", "") for c in element.iterfind(f"{MATH}dPr/*")}
        inner = signs.get("sepChr", "|").join(text for name, text in parts if name == "e")
        return f"{signs.get('begChr', '(')}{inner}{signs.get('endChr', ')')}"
    if kind in ("m", "mr"):
        inner = ("; " if kind == "m" else ", ").join(text for name, text in parts if name in ("mr", "e"))
        return f"[{inner}]" if kind == "m" else inner
    return "".join(text for _, text in parts)


def grouped(text: str) -> str:
    """A part of a formula in parentheses where it is more than one sign."""
    return text if len(text) <= 1 or text.isalnum() else f"({text})"
