"""A search engine and the pages that it finds, at an address that the operator opened."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Linux answers at all of 127.0.0.0/8: this one is open to pages of a search, the rest of loopback is not.
OPEN = "127.0.0.9"
HOURS = "The shop opens at nine in the morning. It closes at five, and on Fridays at eight."
RENTAL = "Bicycles can be rented behind the shop for twelve euros a day."
PAGES = {"/hours": ("Opening hours", HOURS), "/rental": ("Rental", RENTAL)}


@dataclass
class Site:
    """asked: the questions to the engine, in order. found: addresses that it gives instead of its pages."""

    url: str
    asked: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def page(self, name: str) -> str:
        """Its address."""
        return f"{self.url}/{name}"


@contextmanager
def served() -> Iterator[Site]:
    """Raises OSError where this system has no such address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if asked.path == "/search":
                site.asked.append(parse_qs(asked.query)["q"][0])
                results = [{"url": url, "title": "A page"} for url in site.found or map(site.page, _NAMES)]
                self.reply("application/json", json.dumps({"results": results}))
            else:
                title, text = PAGES[asked.path]
                head = f"<html><head><title>{title}</title></head><body><article><h1>{title}</h1>"
                self.reply("text/html; charset=utf-8", f"{head}<p>{text}</p></article></body></html>")

        def reply(self, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not here."""

    server = ThreadingHTTPServer((OPEN, 0), Handler)
    site = Site(f"http://{OPEN}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_NAMES = [path.removeprefix("/") for path in PAGES]
