"""Pages of the web: fetched, read, and kept for some minutes as they were read."""

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from kb.errors import DocumentRefused, NotFound, RemoteFailed
from kb.ingest.pipeline import Parser
from kb.types import Document
from kb.web.guard import Fetched, Guard, Limits, shown

LIMITS = Limits(bytes=10_000_000, connect_seconds=5, seconds=15)
"""Of one page."""

PARSE_SECONDS = 10.0
"""Time to find a page's text; a long one takes a tenth of a second."""

FRESH_SECONDS = 600.0
"""How long a page is taken to be as it was read."""

MOST_CHARACTERS = 2_000_000
"""Of a page, beyond which it is cut: as long as three novels."""

_KEPT_CHARACTERS = 32_000_000
_SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/pdf": ".pdf",
}
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_ID = "web_"


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page as it was read. id: of this address with this text. url: where it was in the end. published:
    when it says it was, "" where it does not. read_at: seconds since 1970."""

    id: str
    url: str
    title: str
    published: str
    document: Document
    read_at: float

    @property
    def text(self) -> str:
        """What spans are offsets into."""
        return self.document.text


def is_web(version_id: str) -> bool:
    """Whether an id is of a page of the web, not of a content version."""
    return version_id.startswith(_ID)


class Pages:
    """Reads pages, and keeps the last of them as they were read.

    Thread-safe. parser: of `kb.web.extract`, in a process of its own. clock: seconds since 1970.
    """

    def __init__(self, guard: Guard, parser: Parser, clock: Callable[[], float] = time.time) -> None:
        self._guard, self._parser, self._clock = guard, parser, clock
        self._lock = threading.Lock()
        self._by_id: OrderedDict[str, WebPage] = OrderedDict()
        self._latest: dict[str, str] = {}
        self._characters = 0

    async def read(self, url: str) -> WebPage:
        """A page, from memory if it was read within FRESH_SECONDS.

        Nothing that it links to or embeds is loaded. Raises AddressRefused, RemoteFailed, RemoteTimeout.
        """
        with self._lock:
            known = self._by_id.get(self._latest.get(url, ""))
            if known and self._clock() - known.read_at < FRESH_SECONDS:
                self._by_id.move_to_end(known.id)
                return known
        fetched = await self._guard.fetch(url, headers={"accept": ", ".join(_SUFFIXES)}, limits=LIMITS)
        page = await asyncio.to_thread(self._parsed, fetched)
        self._keep(url, page)
        return page

    def get(self, page_id: str) -> WebPage:
        """A page that was read, as it was then. Raises NotFound where it is no longer kept."""
        with self._lock:
            if found := self._by_id.get(page_id):
                return found
        raise NotFound(f"the page {page_id} is no longer in memory", param="id")

    def _parsed(self, fetched: Fetched) -> WebPage:
        at = shown(fetched.url)
        if fetched.status != 200:
            raise RemoteFailed(f"{at} answers {fetched.status}")
        suffix = _SUFFIXES.get(fetched.media_type or "text/html")
        if suffix is None:
            raise RemoteFailed(f"{at} is {fetched.media_type[:60]}, not a page of text")
        name = f"page{suffix}"
        try:
            document = self._parser.parse(_declared(fetched, suffix), name)
        except DocumentRefused as error:
            raise RemoteFailed(f"{at}: {str(error).removeprefix(f'{name}: ')}") from error
        document = _cut(document)
        name = hashlib.sha256(f"{fetched.url}\0{document.text}".encode()).hexdigest()[:32]
        title = document.title or at
        return WebPage(_ID + name, fetched.url, title, document.date or "", document, self._clock())

    def _keep(self, url: str, page: WebPage) -> None:
        with self._lock:
            if known := self._by_id.pop(page.id, None):
                self._characters -= len(known.text)
            self._by_id[page.id] = page
            self._characters += len(page.text)
            self._latest[url] = page.id
            while self._characters > _KEPT_CHARACTERS and len(self._by_id) > 1:
                gone, dropped = self._by_id.popitem(last=False)
                self._characters -= len(dropped.text)
                self._latest = {url: held for url, held in self._latest.items() if held != gone}


def _declared(fetched: Fetched, suffix: str) -> bytes:
    """A page whose server names its encoding, with that in front, where its parser looks first.

    So it comes before what the page itself declares, as WHATWG's HTML standard has it.
    """
    if suffix not in (".html", ".xhtml") or not fetched.charset.isascii() or not fetched.charset:
        return fetched.content
    if fetched.content.startswith(_BOMS) or not fetched.charset.replace("-", "").replace("_", "").isalnum():
        return fetched.content
    return f'<meta charset="{fetched.charset}">'.encode() + fetched.content


def _cut(document: Document) -> Document:
    text = document.text[:MOST_CHARACTERS]
    if len(text) == len(document.text):
        return document
    pages = tuple(page for page in document.pages if page.start < MOST_CHARACTERS)
    headings = tuple(heading for heading in document.headings if heading.start < MOST_CHARACTERS)
    return Document(
        text, document.media_type, document.title, document.markup, pages, headings, document.date
    )
