"""HTML, EPUB and mail."""

import io
import zipfile
from email.message import EmailMessage

import pytest

from kb.errors import BrokenDocument, NoText
from kb.ingest.formats.html import html_to_markdown
from kb.ingest.parse import parse


def test_a_page_gives_its_article() -> None:
    """What is machinery, navigation or hidden is dropped; structure stays."""
    html = """<!DOCTYPE html><html><head><title>The
      Page</title><style>x{}</style></head><body>
      <nav>Home</nav><script>var x = "<p>no</p>"</script><template>no</template>
      <main><h1>Head <em>line</em></h1>
      <p>Some <b>bold</b>&nbsp;text<br>next line, <a href="https://x.org/a">a link</a>,
      <a href="/rel">relative</a>,
      <a href="https://x.org">x.org</a>.</p>
      <p hidden>no</p><div style="display: none">no</div><p aria-hidden="true">no</p>
      <ul><li>one<ul><li>deeper</li></ul></li><li><p>two</p></li></ul>
      <ol start="3"><li>three</li></ol>
      <pre><code class="language-py">def f():
    return 1</code></pre>
      <blockquote><p>said</p></blockquote>
      <p># no heading</p></main><footer>Imprint</footer></body></html>"""
    document = parse(html.encode(), "a.html")
    assert document.text == (
        "# Head line\n\n"
        "Some bold text\nnext line, [a link](https://x.org/a), relative, x.org.\n\n"
        "- one\n  - deeper\n- two\n\n"
        "3. three\n\n"
        "```py\ndef f():\n    return 1\n```\n\n"
        "> said\n\n"
        "\\# no heading"
    )
    assert document.title == "The Page"
    assert [(h.level, h.title) for h in document.headings] == [(1, "Head line")]


def test_tables_keep_their_grid() -> None:
    """Spans are filled in, nested tables and lists flattened, layout tables dissolved."""
    table = (
        "<table><caption>Cap</caption><tr><th>a<th>b<th>c<tr><td rowspan=2>1<td colspan=2>2|3<tr><td>4"
        "<td><ul><li>x<li>y</ul><tr><td><table><tr><td>p<td>q<tr><td>r<td>s</table><td>5</table>"
    )
    assert html_to_markdown(table) == (
        "Cap\n\n| a | b | c |\n| --- | --- | --- |\n| 1 | 2\\|3 |\n| 1 | 4 | x; y |\n| p, q; r, s | 5 |"
    )
    assert html_to_markdown("<table role=presentation><tr><td><p>a<p>b<td>c</table>") == "a\n\nb\n\nc"
    assert html_to_markdown("<table><tr><td><h2>T</h2>x<td>y</table>") == "## T\n\nx\n\ny"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('<meta charset="koi8-r"><p>Привет, мир'.encode("koi8-r"), "Привет, мир"),
        ('<meta charset="iso-8859-1"><p>“quoted”'.encode("cp1252"), "“quoted”"),
        ('<meta charset="utf-8"><p>Größe'.encode("cp1252"), "Größe"),
        ('<meta charset="nonsense"><p>Größe'.encode(), "Größe"),
        ('<meta charset="utf-16"><p>Größe'.encode(), "Größe"),
        ('<meta charset="ascii"><p>Größe'.encode("utf-16"), "Größe"),
    ],
)
def test_a_page_is_read_in_its_charset(data: bytes, expected: str) -> None:
    """As declared where that is true, by its letters where not."""
    assert parse(data, "a.html").text == expected


def test_self_closed_elements_of_xhtml_do_not_swallow_the_page() -> None:
    """An HTML parser alone would read everything after <title/> as the title."""
    data = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><p>x</p></html>'
    assert parse(data, "a.xhtml").text == "x"


def test_a_page_nested_beyond_reason_is_read_or_refused() -> None:
    """Depth costs neither the stack nor another exception."""
    assert parse(b"<div>" * 1500 + b"deep" + b"</div>" * 1500, "a.html").text == "deep"
    with pytest.raises(BrokenDocument, match=r"^a\.html: nests its elements too deeply"):
        parse(b"<div>" * 3000 + b"deep", "a.html")


def test_a_page_of_comments_holds_no_text() -> None:
    """Nor does one of machinery alone."""
    for page in (b"<!-- only -->", b"<html><script>x</script></html>"):
        with pytest.raises(NoText, match=r"^a\.html: holds no text$"):
            parse(page, "a.html")


def test_an_image_speaks_by_its_alternative_text() -> None:
    """No address, no data."""
    assert html_to_markdown('<p>A <img src="data:image/png;base64,AAAA" alt="duck"> here') == "A duck here"


def epub(**chapters: str) -> bytes:
    """A book with the given chapters, all of them in the spine and in the table of contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr("META-INF/container.xml", '<c><rootfile full-path="OPS/p.opf"/></c>')
        items = "".join(
            f'<item id="{c}" href="{c}%20x.xhtml" media-type="application/xhtml+xml"/>' for c in chapters
        )
        spine = "".join(f'<itemref idref="{c}"/>' for c in reversed(chapters))
        ncx = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        book.writestr("OPS/p.opf", f"<p><title>Book</title><m>{items}{ncx}</m><spine>{spine}</spine></p>")
        points = "".join(
            f"<navPoint><navLabel><text>Label {c}</text></navLabel>"
            f"<content src='{c}%20x.xhtml#top'/></navPoint>"
            for c in chapters
        )
        book.writestr(
            "OPS/toc.ncx", f'<!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "x.dtd"><ncx>{points}</ncx>'
        )
        for name, text in chapters.items():
            book.writestr(f"OPS/{name} x.xhtml", f"<html><head><title/></head><body>{text}</body></html>")
    return buffer.getvalue()


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    """A chapter without a heading gets its label from the table of contents."""
    document = parse(epub(a="<p>last</p>", b="<h2>Own</h2><p>first</p>"), "a.epub")
    assert document.text == "## Own\n\nfirst\n\n# Label a\n\nlast"
    assert document.title == "Book"


def test_a_protected_book_is_refused() -> None:
    """Encrypted chapters are noise."""
    data = io.BytesIO(epub(a="x"))
    with zipfile.ZipFile(data, "a") as book:
        book.writestr("META-INF/encryption.xml", "<e><CipherReference URI='OPS/a.xhtml'/></e>")
    with pytest.raises(BrokenDocument, match=r"^a\.epub: is encrypted"):
        parse(data.getvalue(), "a.epub")


def message(**headers: str) -> EmailMessage:
    """A message with subject, sender and receiver."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "Ann Äther <ann@x.org>", "bob@x.org"
    mail["Subject"], mail["Date"] = "Grüße", "Mon, 02 Jan 2023 10:00:00 +0000"
    return mail


HEADERS = "Subject: Grüße\nFrom: Ann Äther <ann@x.org>\nTo: bob@x.org\nDate: Mon, 02 Jan 2023 10:00:00 +0000"


def test_a_message_gives_headers_body_and_the_names_of_attachments() -> None:
    """Plain text is preferred to HTML."""
    mail = message()
    mail.set_content("Plain bödy\n")
    mail.add_alternative("<p>HTML body</p>", subtype="html")
    mail.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="report.pdf")
    document = parse(mail.as_bytes(), "a.eml")
    assert document.text == f"{HEADERS}\n\nPlain bödy\n\nAttachments: report.pdf"
    assert document.title == "Grüße"


def test_a_message_in_html_alone_is_read_as_such() -> None:
    """Its structure stays."""
    mail = message()
    mail.set_content("<h2>News</h2><p>One &amp; two</p>", subtype="html")
    assert parse(mail.as_bytes(), "a.eml").text == f"{HEADERS}\n\n## News\n\nOne & two"


def test_a_wrong_charset_in_a_message_is_no_obstacle() -> None:
    """The letters decide."""
    data = b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\nGr\xfc\xdfe aus M\xfcnchen"
    assert parse(data, "a.eml").text == "Subject: x\n\nGrüße aus München"
