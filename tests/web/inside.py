"""Every way to say "this machine", and servers on addresses of it: one that is open, and one that is not.

Linux answers at all of 127.0.0.0/8, so what is open and what is not can differ by the address alone.
"""

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

OPEN = "127.0.0.9"
"""Stands for the public network: where it is opened by a guard, and nothing else is."""

OPENED = (ip_network(f"{OPEN}/32"),)
UNGUARDED = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
"""What a guard is opened to that is as good as none: by it the canary is reached."""

REDIRECTS = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect",
             "308 Permanent Redirect"]  # fmt: skip

HOSTS = [
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001",
    "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0", "127.0.0.1.", "127.255.255.254",
    "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "224.0.0.1",
    "255.255.255.255", "8.8.8.8@127.0.0.1", "user:secret@localhost", "8.8.8.8%2f@127.0.0.1",
    "[::1]", "[::]",
    "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fec0::1]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]",
    "[fd00:ec2::254]", "[ff02::1]", "[::ffff:169.254.169.254]", "192.0.0.192",
    "①②⑦.⓪.⓪.①", "127。0。0。1",
]  # fmt: skip
"""Every way to say "this machine", or its metadata, that a resolver or a translator is known to take."""


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


def running(
    site: Site, address: str, family: socket.AddressFamily = socket.AF_INET, port: int = 0
) -> Callable[[], None]:
    """A site in threads, and what stops it."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            site.hits += 1
            request = b""
            while (line := self.rfile.readline(65_536)) not in (b"\r\n", b""):
                request += line
            length = re.search(rb"(?i)content-length: (\d+)", request)
            # What is not read when it is closed would have the reply thrown away.
            self.rfile.read(int(length[1]) if length else 0)
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

    server = Server((address, port), Handler)
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return stop


class Rebinding:
    """A resolver whose answer is another each time, the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """What comes next."""
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
