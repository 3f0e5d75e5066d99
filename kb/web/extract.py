"""The main text of a web page, as a parser of `kb.ingest.sandbox`. The only file that imports trafilatura.

Runs in a child process: `python -m kb.web.extract`.
"""

from collections.abc import Callable

from kb.ingest.formats.draft import Draft
from kb.ingest.formats.html import (
    DROPPED,
    decode_html,
    draft_of,
    hidden,
    html_to_markdown,
    open_self_closed,
    tree_of,
)
from kb.ingest.formats.markdown import parse_markdown
from kb.ingest.formats.pdf import parse_pdf
from kb.ingest.formats.text import parse_text
from kb.ingest.parse import parse
from kb.ingest.sandbox import main
from kb.types import Document


def parse_page(data: bytes) -> Draft:
    """Title, date and main text of a page, without its machinery and what it says nobody shall see.

    Where trafilatura finds no main text, as in very short pages, it is all that the page shows.
    """
    return _draft_of(decode_html(data))


def parse_xhtml_page(data: bytes) -> Draft:
    """As parse_page, for pages where `<a id="x"/>` closes itself."""
    return _draft_of(open_self_closed(decode_html(data)))


PARSERS: dict[str, Callable[[bytes], Draft]] = {
    "text/html": parse_page,
    "application/xhtml+xml": parse_xhtml_page,
    "text/plain": parse_text,
    "text/markdown": parse_markdown,
    "application/pdf": parse_pdf,
}
"""What a page of the web may be."""


def parse_fetched(data: bytes, name: str) -> Document:
    """As kb.ingest.parse.parse."""
    return parse(data, name, PARSERS)


def _draft_of(html: str) -> Draft:
    import trafilatura

    tree = tree_of(html)
    if tree is None:
        return Draft()
    # Of structured data in scripts, before those go.
    said = trafilatura.extract_metadata(tree)
    for element in list(tree.iter()):
        if (
            element is not tree
            and isinstance(element.tag, str)
            and (element.tag in DROPPED or hidden(element))
        ):
            element.drop_tree()
    whole = draft_of(html)
    # Its own Markdown escapes `_` and `[`: words must be found, and quoted, as the page shows them.
    main = trafilatura.extract(tree, output_format="html", include_comments=False)
    return Draft(
        html_to_markdown(main) if main else whole.text, title=said.title or whole.title, date=said.date
    )


if __name__ == "__main__":
    main(parse_fetched)
