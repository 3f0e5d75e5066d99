"""Servers on addresses of loopback: some that the operator opened, and a canary that nobody may reach."""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from kb.ingest.sandbox import ParserProcess
from kb.web.guard import Guard
from kb.web.page import Pages

# Linux answers at all of 127.0.0.0/8: what is open and what is not differ by the address alone.
OPEN = "127.0.0.9"


@dataclass
class Site:
    """A bare server. replies: by path, query or not, bytes as they are sent; requests: as they came."""

    port: int = 0
    replies: dict[str, bytes] = field(default_factory=dict)
    requests: list[bytes] = field(default_factory=list)
    hits: int = 0

    def says(self, path: str, body: bytes = b"", *headers: str, status: str = "200 OK") -> None:
        """One path's reply."""
        head = "\r\n".join(
            [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
        )
        self.replies[path] = head.encode() + b"\r\n\r\n" + body


def running(site: Site, address: str, family: socket.AddressFamily = socket.AF_INET) -> Callable[[], None]:
    """A site in threads, and what stops it."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            site.hits += 1
            request = b""
            while (line := self.rfile.readline(65_536)) not in (b"\r\n", b""):
                request += line
            site.requests.append(request)
            path = request.split(b" ")[1].decode() if b" " in request else ""
            missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            self.wfile.write(site.replies.get(path) or site.replies.get(path.partition("?")[0], missing))

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        allow_reuse_address = True
        daemon_threads = True

        def server_bind(self) -> None:
            if family is socket.AF_INET6:
                # Both families, so that nothing of this machine misses it.
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

        def handle_error(self, *_: object) -> None:
            """Who leaves in the middle is part of the test."""

    server = Server((address, 0), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return stop


@pytest.fixture
def new_site() -> Iterator[Callable[[], Site]]:
    """Makes sites at the address that is open, each at a port of its own."""
    stops = []

    def make() -> Site:
        made = Site()
        try:
            stops.append(running(made, OPEN))
        except OSError:
            pytest.skip(f"this system has no {OPEN}")
        return made

    yield make
    for stop in stops:
        stop()


@pytest.fixture
def site(new_site: Callable[[], Site]) -> Site:
    """One of them."""
    return new_site()


@pytest.fixture
def canary() -> Iterator[Site]:
    """Listens at every address of this machine, of both families, and counts who comes."""
    made = Site()
    made.says("/", b"a secret of the inside")
    stop = running(made, "::", socket.AF_INET6)
    yield made
    stop()


@pytest.fixture(scope="session")
def reader() -> Iterator[ParserProcess]:
    """The parser of pages, in the process that it runs in."""
    with ParserProcess(seconds=5, command=("-m", "kb.web.extract")) as parser:
        yield parser


@pytest.fixture
def pages(reader: ParserProcess) -> Pages:
    """Pages of the sites at the address that is open, and nowhere else inside."""
    return Pages(Guard(allow=(ip_network(f"{OPEN}/32"),)), reader)
