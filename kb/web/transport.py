"""How a guarded client connects and reads: the only place where a name becomes an address.

Imported at first use, since httpx2 takes a tenth of a second.
"""

import asyncio
import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, Protocol

import httpcore2
import httpx2

from kb.errors import AddressRefused, RemoteFailed, RemoteTimeout
from kb.redact import quieted
from kb.web.addresses import Address, is_admitted
from kb.web.guard import Guard, Limits, shown

_CONNECTIONS = 20
_PORTION = 65_536
_GZIP = 16 + zlib.MAX_WBITS
_RAISED = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Of one client. A body comes unpacked, and never more of it than its limits say."""

    def __init__(self, guard: Guard, limits: Limits) -> None:
        quieted("httpx2", "httpcore2")
        self._limits = limits
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=30,
            network_backend=_Gate(guard, limits.connect_seconds),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises AddressRefused, RemoteFailed, RemoteTimeout and httpx2.TransportError.

        Of the headers of a response h11 takes no more than 100 kB.
        """
        url = request.url
        if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65_536:
            raise AddressRefused(f"{shown(str(url))} is no http or https address", param="url")
        if url.userinfo:
            raise AddressRefused(
                f"{shown(str(url))}: a password does not belong into an address; send it as a header",
                param="url",
            )
        # What is packed otherwise could not be unpacked by portions.
        request.headers["accept-encoding"] = "gzip"
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        ends = asyncio.get_running_loop().time() + self._limits.seconds
        with _told(), _in_time(shown(str(url)), self._limits):
            async with asyncio.timeout_at(ends):
                answer = await self._pool.handle_async_request(asked)
        body = _Body(answer, shown(str(url)), self._limits, ends)
        try:
            headers = body.headers()
        except RemoteFailed:
            await body.aclose()
            raise
        return httpx2.Response(answer.status, headers=headers, stream=body, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """The bytes of a response, unpacked. ends: by the loop's clock."""

    def __init__(self, answer: httpcore2.Response, at: str, limits: Limits, ends: float) -> None:
        self._stream: Any = answer.stream
        self._headers = answer.headers
        self._at, self._limits, self._ends = at, limits, ends

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those of the response as it is read here. Raises RemoteFailed where it cannot be."""
        given = httpx2.Headers(self._headers)
        packed = given.get("content-encoding", "identity").strip().lower()
        if packed not in ("identity", "gzip", "x-gzip", ""):
            raise RemoteFailed(
                f"{self._at} sends its answer packed as {packed[:40]!r}, which was not asked for"
            )
        length = given.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.bytes:
            raise self._too_large()
        self._packed = packed.endswith("gzip")
        left_out = {b"content-encoding", b"content-length"} if self._packed else set()
        return [(name, value) for name, value in self._headers if name.lower() not in left_out]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        unpack: _Unpack = _gzip() if self._packed else _plain
        came = gave = 0
        while True:
            with _told(), _in_time(self._at, self._limits):
                async with asyncio.timeout_at(self._ends):
                    chunk = await anext(chunks, None)
            if chunk is None:
                return
            came += len(chunk)
            for portion in unpack(chunk):
                gave += len(portion)
                if max(came, gave) > self._limits.bytes:
                    raise self._too_large()
                yield portion

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _too_large(self) -> RemoteFailed:
        return RemoteFailed(f"{self._at} answers with more than {self._limits.bytes:,} bytes")


class _Unpack(Protocol):
    def __call__(self, chunk: bytes, /) -> Iterable[bytes]: ...


def _plain(chunk: bytes) -> Iterable[bytes]:
    return (chunk,)


def _gzip() -> _Unpack:
    inflate = zlib.decompressobj(wbits=_GZIP)

    def unpack(chunk: bytes) -> Iterator[bytes]:
        nonlocal inflate
        # A chunk can hold a thousand times as much: by portions, of which the reader counts each.
        while chunk:
            try:
                portion = inflate.decompress(chunk, _PORTION)
            except zlib.error as error:
                raise RemoteFailed(f"an answer is not packed as it says: {error}") from error
            chunk = inflate.unconsumed_tail
            if inflate.eof:
                # Another member may follow (RFC 1952, 2.2).
                chunk, inflate = inflate.unused_data, zlib.decompressobj(wbits=_GZIP)
            if portion:
                yield portion

    return unpack


class _Gate(httpcore2.AsyncNetworkBackend):
    """Connects to what a name stands for, where all of it may be reached."""

    def __init__(self, guard: Guard, seconds: float) -> None:
        self._guard, self._seconds = guard, seconds
        self._below = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        failed: Exception | None = None
        for address in await self._admitted(host, port):
            try:
                # A numeric address: nothing is resolved again. The name stays that of Host and TLS.
                return await self._below.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        raise AddressRefused("sockets of this machine are not for others", param="url")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _admitted(self, host: str, port: int) -> list[Address]:
        """All that a name stands for. Raises AddressRefused where one of it may not be reached."""
        try:
            async with asyncio.timeout(self._seconds):
                found = [ip_address(one) for one in dict.fromkeys(await self._guard.resolve(host, port))]
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved within {self._seconds:g} s") from None
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        if not found:
            raise httpcore2.ConnectError(f"{host} has no address")
        if any(not is_admitted(one, self._guard.allow) for one in found):
            # To which address is not told: a stranger would learn the names of the inside.
            raise AddressRefused(
                f"{host} is not an address of the public network; "
                "servers of one's own are set up by the operator",
                param="url",
            )
        return found


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


@contextmanager
def _in_time(at: str, limits: Limits) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise RemoteTimeout(f"{at} took longer than {limits.seconds:g} s") from None


@contextmanager
def _told() -> Iterator[None]:
    """Errors of httpcore2 become those of the same name of httpx2, as its own transport has it."""
    try:
        yield
    except _RAISED as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
