"""One contract for every search engine, and what each of them sends and reads."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kb.errors import InvalidInput, RemoteFailed
from kb.protocols import WebSearch
from kb.types import ANYWHERE, Domains, UserLocation, WebHit
from kb.web.brave import BraveSearch
from kb.web.domains import admits
from kb.web.guard import Guard
from kb.web.searxng import SearxngSearch


@dataclass
class Scripted:
    """An engine over a server that answers as the engine's documentation has it."""

    engine: WebSearch
    site: Any
    says: Callable[[list[dict[str, str]]], bytes]

    def answers(self, body: bytes, status: str = "200 OK") -> None:
        """The same to every query."""
        self.site.says("/search", body, "content-type: application/json", status=status)

    def found(self, *pages: dict[str, str]) -> None:
        """These pages, as the engine tells of them."""
        self.answers(self.says(list(pages)))

    def asked(self) -> dict[str, list[str]]:
        """The parameters of the last request."""
        return parse_qs(urlsplit(self.site.requests[-1].split(b" ")[1].decode()).query)

    def search(self, query: str = "pump", count: int = 10, domains: Domains = ANYWHERE) -> list[WebHit]:
        """In an event loop of its own."""
        return asyncio.run(self.engine.search(query, count=count, domains=domains))


def page(url: str, title: str = "Title", snippet: str = "Snippet", published: str = "") -> dict[str, str]:
    """What an engine knows of a page."""
    return {"url": url, "title": title, "snippet": snippet, "published": published}


def searxng(pages: list[dict[str, str]]) -> bytes:
    """As docs.searxng.org, "Search API", and its own answers have it."""
    results = [
        {
            "url": one["url"],
            "title": one["title"],
            "content": one["snippet"],
            "publishedDate": one["published"] or None,
        }
        for one in pages
    ]
    return json.dumps({"query": "pump", "results": results, "unresponsive_engines": []}).encode()


def brave(pages: list[dict[str, str]]) -> bytes:
    """As the reference of the Brave Search API has it."""
    results = [
        {"type": "search_result", "url": one["url"], "title": one["title"], "description": one["snippet"]}
        | ({"page_age": one["published"]} if one["published"] else {})
        for one in pages
    ]
    return json.dumps({"type": "search", "web": {"type": "search", "results": results}}).encode()


@pytest.fixture(params=["searxng", "brave"])
def scripted(request: pytest.FixtureRequest, site: Any, tmp_path: Path) -> Scripted:
    """Every engine in turn."""
    guard = Guard(allow=(ip_network("127.0.0.9/32"),))
    if request.param == "searxng":
        return Scripted(SearxngSearch(f"http://127.0.0.9:{site.port}/", guard), site, searxng)
    key = tmp_path / "key"
    key.write_text("k-123\n")
    return Scripted(BraveSearch(key, f"http://127.0.0.9:{site.port}/search", guard), site, brave)


def test_hits_come_in_the_engines_order_with_what_it_says_of_them(scripted: Scripted) -> None:
    """Address, title, snippet and date."""
    scripted.found(
        page("https://a.example/1", "One", "first", "2024-05-06T00:00:00"), page("https://b.example/2", "Two")
    )
    assert scripted.search() == [
        WebHit("https://a.example/1", "One", "first", "2024-05-06T00:00:00"),
        WebHit("https://b.example/2", "Two", "Snippet", ""),
    ]


def test_no_more_hits_come_than_are_asked_for_and_each_address_once(scripted: Scripted) -> None:
    """Engines of engines repeat themselves."""
    scripted.found(*(page(f"https://a.example/{number % 4}") for number in range(8)))
    assert [hit.url for hit in scripted.search(count=3)] == [f"https://a.example/{one}" for one in range(3)]


def test_what_is_outside_of_the_domains_never_comes(scripted: Scripted) -> None:
    """Whatever the engine makes of the operators that it is sent."""
    scripted.found(
        page("https://docs.a.example/1"),
        page("https://a.example.evil.test/2"),
        page("https://b.example/3"),
        page("https://bad.a.example/4"),
        page("https://a.example@evil.test/5"),
        page("https://A.Example:8443/6"),
    )
    domains = Domains(allowed=("a.example",), blocked=("bad.a.example",))
    assert [hit.url for hit in scripted.search(domains=domains)] == [
        "https://docs.a.example/1",
        "https://A.Example:8443/6",
    ]
    assert scripted.asked()["q"] == ["pump site:a.example -site:bad.a.example"]


def test_what_is_no_web_address_never_comes(scripted: Scripted) -> None:
    """An engine's answer is somebody else's data."""
    urls = ["file:///etc/passwd", "javascript:alert(1)", "//a.example/1", "https://", "http://[", "x" * 5000]
    scripted.found(*map(page, urls), page("https://a.example/1"))
    assert [hit.url for hit in scripted.search()] == ["https://a.example/1"]


@pytest.mark.parametrize("body", [b"<html>blocked</html>", b"[1, 2]", b"\xff\xfe"])
def test_an_answer_that_is_no_json_object_is_an_error(scripted: Scripted, body: bytes) -> None:
    """And not an empty list."""
    scripted.answers(body)
    with pytest.raises(RemoteFailed, match="JSON"):
        scripted.search()


@pytest.mark.parametrize("body", [b"{}", b'{"results": 3, "web": []}', b'{"results": [1], "web": null}'])
def test_an_answer_without_results_finds_nothing(scripted: Scripted, body: bytes) -> None:
    """Whatever stands in their place."""
    scripted.answers(body)
    assert scripted.search() == []


@pytest.mark.parametrize("status", ["403 Forbidden", "429 Too Many Requests", "500 Error"])
def test_an_error_status_is_told(scripted: Scripted, status: str) -> None:
    """With its number."""
    scripted.answers(b"{}", status=status)
    with pytest.raises(RemoteFailed, match=status[:3]):
        scripted.search()


def test_a_searxng_whose_engines_are_all_silent_says_so(site: Any) -> None:
    """What debian's searx 1.1 answered when its engine failed: no results is not the same."""
    site.says("/search", b'{"results": [], "unresponsive_engines": [["local", "HTTP error"]]}')
    engine = SearxngSearch(f"http://127.0.0.9:{site.port}")
    with pytest.raises(RemoteFailed, match="HTTP error"):
        asyncio.run(engine.search("pump", count=3, domains=ANYWHERE))


def test_brave_is_sent_its_key_the_country_and_a_query_that_it_takes(site: Any, tmp_path: Path) -> None:
    """At most 400 characters and 50 words; the key is read anew for each request, and is in no address."""
    site.says("/search", brave([]))
    (tmp_path / "key").write_text("first")
    guard = Guard(allow=(ip_network("127.0.0.9/32"),))
    engine = BraveSearch(tmp_path / "key", f"http://127.0.0.9:{site.port}/search", guard)
    (tmp_path / "key").write_text("second\n")
    where = UserLocation(country="de", city="Berlin")
    asyncio.run(engine.search("word " * 300, count=5, domains=ANYWHERE, location=where))
    head, _, rest = site.requests[-1].partition(b"\r\n")
    assert b"x-subscription-token: second\r\n" in rest.lower()
    assert b"second" not in head
    sent = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)
    assert (sent["country"], sent["count"]) == (["DE"], ["5"])
    assert sent["q"] == [" ".join(["word"] * 25)]


def test_brave_without_a_key_names_the_file(tmp_path: Path) -> None:
    """Before anything is asked."""
    engine = BraveSearch(tmp_path / "none")
    with pytest.raises(InvalidInput, match="none"):
        asyncio.run(engine.search("pump", count=5, domains=ANYWHERE))


@pytest.mark.parametrize(
    ("url", "held"),
    [
        ("https://a.example/x", True),
        ("https://www.a.example./x", True),
        ("https://notа.example/", False),
        ("https://xa.example/", False),
        ("ftp://a.example/", False),
        ("https://a.example", True),
    ],
)
def test_a_domain_is_its_name_and_all_below_it(url: str, held: bool) -> None:
    """Whole labels only."""
    assert admits(Domains(allowed=("A.example",)), url) is held
