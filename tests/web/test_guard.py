"""Nothing inside is reached, by whichever way; and no answer takes more than it may."""

import asyncio
import gzip
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from certificate import self_signed
from inside import HOSTS, OPENED, UNGUARDED, Rebinding

from kb.errors import AddressRefused, RemoteFailed, RemoteTimeout
from kb.web.guard import Fetched, Guard, Limits, shown


def fetch(url: str, guard: Guard | None = None, **more: Any) -> Fetched:
    """One GET; only what is OPENED may be reached beside the public network."""
    return asyncio.run((guard or Guard(allow=OPENED)).fetch(url, **more))


@pytest.mark.parametrize("host", HOSTS)
def test_no_way_to_say_this_machine_reaches_it(host: str, canary: Any) -> None:
    """Directly."""
    with pytest.raises((AddressRefused, RemoteFailed)):
        fetch(f"http://{host}:{canary.port}/", limits=Limits(connect_seconds=5, seconds=5))
    assert canary.hits == 0


@pytest.mark.parametrize("host", HOSTS)
def test_no_redirect_reaches_this_machine(host: str, site: Any, canary: Any) -> None:
    """Each is an address of its own."""
    site.says("/", b"", f"location: http://{host}:{canary.port}/", status="302 Found")
    with pytest.raises((AddressRefused, RemoteFailed)):
        fetch(f"http://127.0.0.9:{site.port}/", limits=Limits(connect_seconds=5, seconds=5))
    assert (site.hits, canary.hits) == (1, 0)


def test_the_canary_sings(canary: Any) -> None:
    """Where its address is open it is reached, so that to be missed means something."""
    opened = Guard(allow=UNGUARDED)
    assert fetch(f"http://127.1:{canary.port}/", opened).content == b"a secret of the inside"
    assert fetch(f"http://[::1]:{canary.port}/", opened).content == b"a secret of the inside"
    assert canary.hits == 2


def test_a_name_that_is_rebound_is_resolved_once_for_a_connection(site: Any, canary: Any) -> None:
    """What was checked is what is connected to; the next connection is checked anew."""
    site.says("/", b"public")
    resolve = Rebinding(["127.0.0.9"], ["127.0.0.1"])
    guard = Guard(allow=OPENED, resolve=resolve)
    assert fetch(f"http://rebound.test:{site.port}/", guard).content == b"public"
    assert resolve.asked == ["rebound.test"]
    assert b"host: rebound.test:" in site.requests[0].lower()
    with pytest.raises(AddressRefused, match=r"rebound\.test is not an address of the public network"):
        fetch(f"http://rebound.test:{canary.port}/", guard)
    assert canary.hits == 0


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.9", "127.0.0.1"], ["127.0.0.1", "127.0.0.9"], ["127.0.0.9", "::1"], ["8.8.8.8", "10.0.0.1"]],
)
def test_a_name_that_stands_for_something_inside_too_is_refused(
    answers: list[str], canary: Any, site: Any
) -> None:
    """Whichever of its addresses would have been taken."""
    with pytest.raises(AddressRefused):
        fetch(f"http://both.test:{canary.port}/", Guard(allow=OPENED, resolve=Rebinding(answers)))
    assert (canary.hits, site.hits) == (0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://127.0.0.9/", "gopher://127.0.0.9:70/_x", "//127.0.0.9/", "127.0.0.9",
        "", "http://", "http:///x", "http://user:secret@127.0.0.9/", "http://127.0.0.9:99999/",
        "data:text/plain,x", "http://[::1", "http://\x00/", "unix:///var/run/docker.sock",
    ],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url: str, canary: Any) -> None:
    """Before anything is resolved, and without a password in the message."""
    resolve = Rebinding(["127.0.0.9"])
    with pytest.raises(AddressRefused) as raised:
        fetch(url, Guard(allow=OPENED, resolve=resolve))
    assert resolve.asked == []
    assert "secret" not in str(raised.value)


def test_proxies_of_the_environment_are_not_asked(
    site: Any, canary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would resolve for themselves."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    site.says("/", b"as it is")
    assert fetch(f"http://127.0.0.9:{site.port}/").content == b"as it is"
    assert canary.hits == 0


def test_redirects_are_followed_and_headers_stay_at_their_origin(site: Any, new_site: Any) -> None:
    """Where the redirect leads the key was not given; a path of the same origin gets it."""
    other = new_site()
    site.says("/a", b"", "location: /b?x=1", status="301 Moved Permanently")
    site.says("/b?x=1", b"", f"location: http://127.0.0.9:{other.port}/c", status="307 Temporary Redirect")
    other.says("/c", b"found", "content-type: text/html; charset=utf-8")
    keys = {"x-api-key": "k", "authorization": "Bearer t"}
    found = fetch(f"http://127.0.0.9:{site.port}/a", headers=keys)
    assert found == Fetched(f"http://127.0.0.9:{other.port}/c", 200, "text/html", b"found", "utf-8")
    assert [b"x-api-key: k" in one and b"Bearer t" in one for one in site.requests] == [True, True]
    assert [b"x-api-key" in one.lower() or b"Bearer" in one for one in other.requests] == [False]


def test_five_redirects_are_followed_and_no_more(site: Any) -> None:
    """A circle ends."""
    for number in range(5):
        site.says(f"/{number}", b"", f"location: /{number + 1}", status="302 Found")
    site.says("/5", b"there")
    assert fetch(f"http://127.0.0.9:{site.port}/0").content == b"there"
    site.says("/5", b"", "location: /0", status="302 Found")
    with pytest.raises(RemoteFailed, match="redirects more than 5 times"):
        fetch(f"http://127.0.0.9:{site.port}/0")
    assert site.hits == 12


def test_an_answer_may_be_as_large_as_is_allowed_and_no_larger(site: Any) -> None:
    """By its own word, or without one."""
    url, most = f"http://127.0.0.9:{site.port}/", Limits(bytes=100_000)
    site.says("/", b"x" * 100_000)
    assert len(fetch(url, limits=most).content) == 100_000
    site.says("/", b"x" * 100_001)
    with pytest.raises(RemoteFailed, match=r"answers with more than 100,000 bytes"):
        fetch(url, limits=most)
    site.replies["/"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_001
    with pytest.raises(RemoteFailed, match=r"answers with more than 100,000 bytes"):
        fetch(url, limits=most)


def test_a_packed_answer_is_counted_as_it_is_unpacked(site: Any) -> None:
    """A gigabyte of blanks ends at the limit, having taken no more memory than that."""
    url = f"http://127.0.0.9:{site.port}/"
    site.says("/", gzip.compress(b"packed ") + gzip.compress(b"twice"), "content-encoding: gzip")
    assert fetch(url).content == b"packed twice"
    packed = gzip.compress(b" " * 100_000_000, 9)
    site.says("/", packed, "content-encoding: gzip")
    tracemalloc.start()
    with pytest.raises(RemoteFailed, match=r"more than 1,000,000 bytes"):
        fetch(url, limits=Limits(bytes=1_000_000))
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("packed", ["br", "zstd", "deflate", "gzip, gzip"])
def test_what_is_packed_in_another_way_is_refused(packed: str, site: Any) -> None:
    """It was not asked for, and could not be unpacked by portions."""
    site.says("/", b"x", f"content-encoding: {packed}")
    with pytest.raises(RemoteFailed, match="was not asked for"):
        fetch(f"http://127.0.0.9:{site.port}/")


def test_headers_have_a_limit(site: Any) -> None:
    """A hundred kilobytes, whether in one or in many."""
    url = f"http://127.0.0.9:{site.port}/"
    site.says("/", b"", "x: " + "y" * 60_000)
    assert fetch(url).status == 200
    for headers in (["x: " + "y" * 200_000], [f"x{n}: y" for n in range(40_000)]):
        site.says("/", b"", *headers)
        with pytest.raises(RemoteFailed, match="cannot be read"):
            fetch(url)


def test_a_server_that_says_nothing_is_left_in_time() -> None:
    """Before its first byte; and with a byte now and then, after all the time that an answer has."""
    for first in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"):
        with dripping(first) as port, pytest.raises(RemoteTimeout, match=r"took longer than 0\.3 s"):
            fetch(f"http://127.0.0.9:{port}/", limits=Limits(seconds=0.3))


def test_a_server_that_breaks_off_is_told(site: Any) -> None:
    """In the middle of its answer."""
    site.replies["/"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"
    with pytest.raises(RemoteFailed, match="cannot be read"):
        fetch(f"http://127.0.0.9:{site.port}/")


def test_a_resolver_that_hangs_is_left_in_time() -> None:
    """It counts as connecting."""

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(RemoteTimeout):
        fetch("http://slow.test/", Guard(resolve=never), limits=Limits(connect_seconds=0.1, seconds=5))


def test_tls_is_checked_by_the_name_and_not_by_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that was asked for stands in the certificate, or nothing is read."""
    certificate, key = self_signed("right.test", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    trusted = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("kb.web.transport._tls", lambda: trusted)
    guard = Guard(allow=OPENED, resolve=Rebinding(["127.0.0.9"]))

    async def main() -> None:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsealed")
            writer.close()

        async with await asyncio.start_server(reply, "127.0.0.9", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            assert (await guard.fetch(f"https://right.test:{port}/")).content == b"sealed"
            with pytest.raises(RemoteFailed, match="Hostname mismatch"):
                await guard.fetch(f"https://wrong.test:{port}/")

    asyncio.run(main())
    assert names == ["right.test", "wrong.test"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:pass@host.test:8/a/b?key=1#x", "https://host.test:8/a/b"),
        ("https://host.test?key=1", "https://host.test"),
        ("https://a@b/c@d", "https://b/c@d"),
        ("no address", "no address"),
    ],
)
def test_messages_show_no_secret_of_an_address(url: str, told: str) -> None:
    """Neither the password nor the query."""
    assert shown(url) == told


@contextmanager
def dripping(first: bytes) -> Iterator[int]:
    """The port of a server that says what comes first, then a byte every now and then until it is left."""
    with socket.create_server(("127.0.0.9", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(0.05)
                connection.sendall(first)
                while True:
                    with suppress(TimeoutError):
                        if connection.recv(65_536) == b"":
                            return
                    if first:
                        connection.sendall(b".")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
