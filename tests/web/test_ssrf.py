"""Every place that takes an address, by every way to say "this machine": the canary there is hit 0 times.

Each test then has the same place hit the canary with the guard taken away, so that a miss means something.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from inside import HOSTS, OPEN, OPENED, REDIRECTS, UNGUARDED, Rebinding, Site, running

from kb.errors import KbError
from kb.remote.server import Address, RemoteServer
from kb.remote.session import connected
from kb.types import ANYWHERE, WebHit
from kb.web.guard import Guard
from kb.web.page import Pages
from kb.web.research import Research
from kb.web.searxng import SearxngSearch

SECRET = "a secret of the inside"

Place = Callable[[str, Guard], str]
"""Takes an address, and gives all that whoever named it is told."""


class Finds:
    """A search engine that finds one address."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def search(self, query: str, **_: Any) -> list[WebHit]:
        """Whatever was asked."""
        return [WebHit(self._url, "Pumps", "", "")]


@pytest.fixture(params=["page", "result of a search", "server_url"])
def place(request: pytest.FixtureRequest, reader: Any, embedder: Any) -> Place:
    """A page, what an engine says where one is, and a server of tools."""

    async def page(url: str, guard: Guard) -> str:
        return (await Pages(guard, reader).read(url)).text

    async def found(url: str, guard: Guard) -> str:
        research = Research(Finds(url), Pages(guard, reader), lambda: embedder)
        findings = await research.find("a secret", 1000)
        return str([one.text for one in findings.passages]) + str(findings.unread)

    async def tools(url: str, guard: Guard) -> str:
        server = RemoteServer("theirs", Address(url, allow=guard.allow))
        async with connected(server, resolve=guard.resolve) as session:
            return str(await session.list_tools())

    ask = {"page": page, "result of a search": found, "server_url": tools}[request.param]

    def told(url: str, guard: Guard) -> str:
        try:
            return asyncio.run(ask(url, guard))
        except KbError as error:
            return str(error)

    return told


@pytest.mark.parametrize("host", HOSTS)
def test_directly(place: Place, host: str, canary: Site) -> None:
    """Neither is it reached, nor does anybody learn where a name leads."""
    told = place(f"http://{host}:{canary.port}/", Guard(OPENED))
    assert canary.hits == 0
    assert SECRET not in told
    place(f"http://127.1:{canary.port}/", Guard(UNGUARDED))
    assert canary.hits > 0


@pytest.mark.parametrize("host", HOSTS)
def test_by_a_redirect(place: Place, host: str, canary: Site, site: Site) -> None:
    """Of a place that may be reached."""
    site.says("/", b"", f"location: http://{host}:{canary.port}/", status=REDIRECTS[3])
    told = place(f"http://{OPEN}:{site.port}/", Guard(OPENED))
    assert (site.hits > 0, canary.hits) == (True, 0)
    assert SECRET not in told
    place(f"http://127.1:{canary.port}/", Guard(UNGUARDED))
    assert canary.hits > 0


@pytest.mark.parametrize("status", REDIRECTS)
def test_by_any_redirect(place: Place, status: str, canary: Site, site: Site, request: Any) -> None:
    """Without the guard a page's leads there; a server of tools is not followed to another origin at all."""
    site.says("/", b"", f"location: http://127.0.0.1:{canary.port}/", status=status)
    told = place(f"http://{OPEN}:{site.port}/", Guard(OPENED))
    assert (site.hits > 0, canary.hits) == (True, 0)
    assert SECRET not in told
    place(f"http://{OPEN}:{site.port}/", Guard(UNGUARDED))
    assert (canary.hits > 0) == ("server_url" not in request.node.name)


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data", "unix", "dict", "ldap", "jar", "ws"])
def test_by_another_scheme(place: Place, scheme: str, canary: Site, site: Site) -> None:
    """Named at once, or by a redirect."""
    address = f"{scheme}://127.0.0.1:{canary.port}/etc/passwd"
    site.says("/", b"", f"location: {address}", status=REDIRECTS[3])
    told = place(address, Guard(UNGUARDED)) + place(f"http://{OPEN}:{site.port}/", Guard(UNGUARDED))
    assert (canary.hits, "root:" in told) == (0, False)
    place(f"http://127.0.0.1:{canary.port}/", Guard(UNGUARDED))
    assert canary.hits > 0


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["::1"], ["10.0.0.1"], [OPEN, "127.0.0.1"]])
def test_by_rebinding(place: Place, answers: Sequence[str], site: Site) -> None:
    """A name of the public network, that is another one's when it is connected to again, at the same port."""
    canary = Site()
    canary.says("/again", SECRET.encode())
    stop = running(canary, "127.0.0.1", port=site.port)
    try:
        # Within its origin, where also a server of tools is followed, on a connection of its own.
        site.says("/", b"", "location: /again", status=REDIRECTS[3])
        resolve = Rebinding([OPEN], answers)
        told = place(f"http://rebound.test:{site.port}/", Guard(OPENED, resolve))
        assert (site.hits, canary.hits, len(resolve.asked)) == (1, 0, 2)
        assert SECRET not in told
        place(f"http://rebound.test:{site.port}/", Guard(UNGUARDED, Rebinding([OPEN], ["127.0.0.1"])))
        assert canary.hits > 0
    finally:
        stop()


PAGE = """<html><head><base href="{0}"><meta http-equiv="refresh" content="0; url={0}"><title>Pumps</title>
<link rel="canonical" href="{0}"><link rel="alternate" type="application/rss+xml" href="{0}">
<link rel="amphtml" href="{0}"><meta property="og:image" content="{0}"><script src="{0}"></script>
<script type="application/ld+json">{{"@context": "{0}", "@type": "Article", "url": "{0}"}}</script>
<link rel="stylesheet" href="{0}"><style>@import url({0});</style></head><body><article>
<p>The circulation pump of the plant is started as soon as the brine valve has been opened. {0}</p>
<img src="{0}" srcset="{0} 2x"><iframe src="{0}"></iframe><object data="{0}"></object><embed src="{0}">
<svg><image href="{0}"/><use href="{0}#a"/></svg><video poster="{0}"><source src="{0}"></video>
<a href="{0}" ping="{0}">more</a>
</article></body></html>"""


@pytest.mark.parametrize("kind", ["text/html", "application/xhtml+xml", "text/plain", "text/markdown"])
def test_what_a_page_names_is_not_loaded(kind: str, reader: Any, canary: Site, site: Site) -> None:
    """Pictures, frames, a canonical address or the one that it wants to be left for."""
    address = f"http://127.0.0.1:{canary.port}/"
    page = PAGE.format(address)
    if "xhtml" in kind:
        page = f'<!DOCTYPE html SYSTEM "{address}" [<!ENTITY % x SYSTEM "{address}"> %x;]>{page}'
    site.says("/", page.encode(), f"content-type: {kind}")
    at = f"http://{OPEN}:{site.port}/"
    read = asyncio.run(Pages(Guard(UNGUARDED), reader).read(at))
    assert ("circulation pump" in read.text, read.url, canary.hits) == (True, at, 0)
    asyncio.run(Guard(UNGUARDED).fetch(address))
    assert canary.hits == 1


@pytest.mark.parametrize("status", REDIRECTS)
def test_an_engine_is_where_its_operator_says(status: str, canary: Site, site: Site) -> None:
    """It may be on a private network, so what it answers must not lead to other places there."""
    site.says("/search", b"", f"location: http://127.0.0.1:{canary.port}/", status=status)
    engine = SearxngSearch(f"http://{OPEN}:{site.port}")
    with pytest.raises(KbError, match=r"redirects .*127\.0\.0\.1"):
        asyncio.run(engine.search("pump", count=3, domains=ANYWHERE))
    assert (site.hits, canary.hits) == (1, 0)
    asyncio.run(Guard(UNGUARDED).fetch(f"http://{OPEN}:{site.port}/search"))
    assert canary.hits == 1
