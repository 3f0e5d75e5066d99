"""HTML pages: which part of a page is its text, what it is called, and in which encoding it came."""

import re
from typing import Any

from kb.errors import BrokenDocument
from kb.ingest.formats.draft import Draft
from kb.ingest.formats.encoding import BOMS
from kb.ingest.formats.render import render
from kb.ingest.formats.text import decoded

DROPPED = (
    "script", "style", "nav", "template", "noscript", "iframe", "object", "embed", "svg", "canvas",
    "audio", "video", "button", "input", "select", "textarea", "dialog",
)  # fmt: skip
"""Elements that are machinery of the page, not its text."""

NAVIGATION = {"navigation", "banner", "search", "menu", "menubar", "toolbar", "contentinfo"}
UNSEEN_CLASSES = {
    "noprint", "mw-editsection", "vector-dropdown", "navbox", "sr-only", "visually-hidden", "hash-link",
    "headerlink",
}  # fmt: skip
"""Classes that MediaWiki, Bootstrap, Sphinx and Docusaurus give to what is no part of the text."""

HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)

MAIN_SHARE = 0.4
"""Share of the page's text that <main> must hold to be taken for the article; less, and it is a shell."""

DECLARED = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w-]+)|<\?xml[^>]+encoding=[\"']([\w-]+)", re.I)
VOID = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"
SELF_CLOSED = re.compile(rf"<(?!(?:{VOID})\b)([A-Za-z][\w:-]*)(\s[^<>]*)?/>")


def parse_html(data: bytes) -> Draft:
    """The page as Markdown; the title is its <title>, else its first <h1>."""
    return draft_of(decode_html(data))


def parse_xhtml(data: bytes) -> Draft:
    """As parse_html, for pages where `<a id="x"/>` closes itself as XML has it."""
    return draft_of(open_self_closed(decode_html(data)))


def open_self_closed(html: str) -> str:
    """XML's `<title/>` as `<title></title>`: an HTML parser takes the rest of the page for its content."""
    return SELF_CLOSED.sub(r"<\1\2></\1>", html)


def draft_of(html: str) -> Draft:
    """Markdown and title of a page."""
    page = tree_of(html)
    if page is None:
        return Draft()
    titles = [" ".join("".join(e.itertext()).split()) for e in [*page.iter("title"), *page.iter("h1")]]
    return Draft(render(article(page)), title=next(filter(None, titles), None))


def html_to_markdown(html: str) -> str:
    """A page or fragment as Markdown."""
    page = tree_of(html)
    return "" if page is None else render(article(page))


def decode_html(data: bytes) -> str:
    """The page's text by byte order mark, else by the charset it declares if that fits, else by letters."""
    declared = DECLARED.search(data[:4096])
    if declared and not any(data.startswith(bom) for bom, _ in BOMS):
        charset = (declared[1] or declared[2]).decode().lower()
        # WHATWG's Encoding Standard reads latin-1 as windows-1252, as the web does. A declaration that can be
        # read as ASCII is not in UTF-16, whatever it says.
        charset = {"iso-8859-1": "cp1252", "latin1": "cp1252", "ascii": "cp1252"}.get(charset, charset)
        if not charset.startswith(("utf-16", "utf-32", "ucs")):
            try:
                return data.decode(charset)
            except (LookupError, ValueError):
                pass  # Wrong declarations are common: the letters decide.
    return decoded(data)


def tree_of(html: str) -> Any:
    """The parsed page, or None for an empty one.

    libxml2's HTML parser reads no DTD, expands no entities of the document's own and fetches nothing.
    """
    import lxml.html

    # huge_tree lifts libxml2's cap of 10 MB on one text node; the depth it also lifts is render's to survive.
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True, no_network=True)
    data = html.replace("\0", "").encode("utf-8", errors="replace")
    try:
        page = lxml.html.document_fromstring(data, parser=parser)
    except lxml.html.etree.ParserError:
        return None  # Comments alone, or nothing: lxml's word for it is "Document is empty".
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        # The parser stops there without a word, and the rest of the page would be missing.
        raise BrokenDocument("nests its elements too deeply to be read")
    return page


def article(page: Any) -> Any:
    """The page without its machinery, narrowed to <main> where that holds the text."""
    for element in list(page.iter()):
        if element is page or not isinstance(element.tag, str):
            continue
        if element.tag in DROPPED or hidden(element):
            element.drop_tree()
    body = page.find("body")
    root = page if body is None else body
    mains = list(root.iter("main")) or root.xpath("//*[@role='main']") or list(root.iter("article"))
    if len(mains) == 1 and length(mains[0]) >= MAIN_SHARE * length(root):
        return mains[0]
    for element in list(root.iterchildren("footer")):
        # A page's own footer is links and notices; an article's footer stays.
        element.drop_tree()
    return root


def length(element: Any) -> int:
    """Characters of text in an element."""
    return sum(len(text.strip()) for text in element.itertext(with_tail=False) if isinstance(text, str))


def hidden(element: Any) -> bool:
    """Whether the element says that a reader of the page shall not see it, or that it is navigation."""
    get = element.get
    return (
        get("hidden") is not None
        or get("aria-hidden") == "true"
        or get("role") in NAVIGATION
        or not UNSEEN_CLASSES.isdisjoint((get("class") or "").split())
        or bool(HIDDEN.search(get("style") or ""))
    )
