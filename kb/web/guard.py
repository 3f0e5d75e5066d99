"""Asks for what lies at addresses that users, models and pages name, without reaching what is not public.

A name is resolved when a connection to it is made, all that it stands for is checked, and the connection goes
to one of those: there is no second resolution that could say something else. Each redirect is a new address.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kb.errors import AddressRefused, RemoteFailed, RemoteTimeout
from kb.web.addresses import Network

if TYPE_CHECKING:
    import httpx2

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""A name and a port to the numeric addresses that it stands for. Raises OSError."""

_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one response. bytes: of its body, before and after it is unpacked. connect_seconds: until there is
    a connection. seconds: from the request to the last byte. redirects: followed one after another."""

    bytes: int = 10_000_000
    connect_seconds: float = 10
    seconds: float = 30
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """url: where it was found in the end. media_type, charset: as its server says; "" where it does not."""

    url: str
    status: int
    media_type: str
    content: bytes
    charset: str = ""


async def resolved(host: str, port: int) -> Sequence[str]:
    """By the system's resolver, which also reads 2130706433 and 0x7f.1 as addresses."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


@dataclass(frozen=True, slots=True)
class Guard:
    """allow: networks that the operator opened beside the public ones."""

    allow: tuple[Network, ...] = ()
    resolve: Resolve = resolved

    def client(self, limits: Limits, headers: Mapping[str, str] | None = None) -> "httpx2.AsyncClient":
        """A client that reaches nothing else, however it is used; it follows no redirect unless told to.

        Its requests and the bodies of its responses raise AddressRefused, RemoteFailed and httpx2.HTTPError.
        """
        import httpx2

        from kb.web.transport import GuardedTransport

        return httpx2.AsyncClient(
            transport=GuardedTransport(self, limits),
            headers=headers,
            # Neither proxies of the environment nor the passwords of a .netrc.
            trust_env=False,
            timeout=httpx2.Timeout(limits.seconds, connect=limits.connect_seconds),
            follow_redirects=False,
            max_redirects=limits.redirects,
        )

    async def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, limits: Limits | None = None
    ) -> Fetched:
        """The answer to a GET, whatever its status, redirects followed; headers go to the origin of `url`.

        Raises AddressRefused, RemoteFailed, RemoteTimeout.
        """
        import httpx2

        limits, sent = limits or Limits(), dict(headers or {})
        ends = asyncio.get_running_loop().time() + limits.seconds
        try:
            async with asyncio.timeout_at(ends), self.client(limits) as client:
                at = httpx2.URL(url)
                for _ in range(limits.redirects + 1):
                    async with client.stream("GET", at, headers=sent) as response:
                        to = response.headers.get("location")
                        if response.status_code not in _REDIRECTS or to is None:
                            content = b"".join([chunk async for chunk in response.aiter_raw()])
                            return Fetched(
                                str(at),
                                response.status_code,
                                _media_type(response),
                                content,
                                response.charset_encoding or "",
                            )
                    came, at = at, at.join(to)
                    if _origin(came) != _origin(at):
                        sent = {}
        except TimeoutError:
            raise RemoteTimeout(f"{shown(url)} took longer than {limits.seconds:g} s") from None
        except httpx2.TimeoutException as error:
            raise RemoteTimeout(f"{shown(url)} did not answer in time") from error
        except httpx2.InvalidURL as error:
            raise AddressRefused(f"{shown(url)} leads to what is no address: {error}", param="url") from error
        except httpx2.HTTPError as error:
            raise RemoteFailed(
                f"{shown(url)} cannot be read: {str(error) or type(error).__name__}"
            ) from error
        raise RemoteFailed(
            f"{shown(url)} redirects more than {limits.redirects} times, at last to {shown(str(at))}"
        )


def shown(url: str) -> str:
    """An address as messages have it: not too long, without a password or a query, which may hold a key."""
    head, _, rest = url.partition("://")
    place = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = place.partition("/")
    return f"{head}://{authority.rpartition('@')[2]}{slash}{path}"[:200] if rest else url[:60]


def _origin(url: "httpx2.URL") -> tuple[str, str, int | None]:
    # httpx2 leaves out a scheme's own port, and writes hosts small.
    return url.scheme, url.host, url.port


def _media_type(response: "httpx2.Response") -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()
