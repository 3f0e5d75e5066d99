"""Who may call: nobody else's program without a key, nobody else's web page ever.

On a loopback address no key is needed until one is made; then every call needs one. On any other
address every call needs one, also while none exists. Liveness and readiness are open to all.

MCP clients are programs that hold keys and are told addresses by others: at /mcp the names that this server
goes by, and the pages that may call it, are listed, and the lists hold with a key as without.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import ApiError, answer
from kb.catalog.keys import Keys
from kb.settings import Settings

MCP = "/mcp"
"""Where the MCP server is (api/mcp.py)."""

_OPEN = frozenset({"/healthz", "/readyz"})
# Read by people and programs of this machine, also after a key was made.
_OPEN_ON_LOOPBACK = frozenset({"/metrics", "/docs", "/openapi.json"})
# What the catalog said of keys is believed this long: a revoked key works, and a first key binds, at most
# this much later. It saves a database read on every request.
_BELIEVED_SECONDS = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Keyring:
    """The keys of a data folder, looked up in the database at most every few seconds each."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._exist = keys.exist()
        self._exist_until = 0.0
        # A thread of its own: other work may hold all the others, and must not shut searches out.
        self._thread = CapacityLimiter(1)
        # Only digests, and only of keys that exist: their number bounds it.
        self._admitted: dict[bytes, tuple[str, float]] = {}

    async def exist(self) -> bool:
        """Whether any key was made."""
        if time.monotonic() >= self._exist_until:
            # Whoever comes while this one asks believes the last answer: they must not all ask at once.
            self._exist_until = time.monotonic() + _BELIEVED_SECONDS
            self._exist = await to_thread.run_sync(self._keys.exist, limiter=self._thread)
        return self._exist

    async def admits(self, secret: str) -> str | None:
        """The id of the key whose secret this is, or None."""
        digest = sha256(secret.encode()).digest()
        key_id, until = self._admitted.get(digest, (None, 0.0))
        if until > time.monotonic():
            return key_id
        self._admitted.pop(digest, None)
        key_id = await to_thread.run_sync(self._keys.admits, secret, limiter=self._thread)
        if key_id is not None:
            self._admitted[digest] = (key_id, time.monotonic() + _BELIEVED_SECONDS)
        return key_id


@dataclass(frozen=True, slots=True)
class Visitors:
    """Whom /mcp answers beside loopback. hosts: names it goes by, without port. origins: of web pages."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, open_to: str) -> "Visitors":
        """Those of the settings, and the address that the server was told to listen on."""
        # 0.0.0.0 and :: are every address and the name of none.
        own = set() if open_to in ("0.0.0.0", "::") else {open_to.lower()}
        return cls(frozenset(own.union(settings.allowed_hosts)), frozenset(settings.allowed_origins))

    def refusal(self, headers: Headers) -> ApiError | None:
        """421 for a request that is meant for another server, 403 for one of a foreign page."""
        host = _hostname(f"//{headers.get('host', '')}")
        if host not in self.hosts and not is_loopback(host):
            message = f"this server does not go by {host!r}; KB_ALLOWED_HOSTS lists the names that it does"
            return ApiError(421, "foreign_host", message, param="Host")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and not is_loopback(_hostname(origin)):
            message = "this page may not call this server; KB_ALLOWED_ORIGINS lists those that may"
            return ApiError(403, "foreign_origin", message, param="Origin")
        return None

    def host_patterns(self) -> list[str]:
        """As the MCP SDK takes them: with any port, and with none."""
        names = [f"[{host}]" if ":" in host else host for host in sorted(self.hosts | _LOOPBACK)]
        return [pattern for name in names for pattern in (name, f"{name}:*")]

    def origin_patterns(self) -> list[str]:
        """As the MCP SDK takes them."""
        here = [f"http://[{host}]" if ":" in host else f"http://{host}" for host in sorted(_LOOPBACK)]
        return [*sorted(self.origins), *here, *(f"{origin}:*" for origin in here)]


class Gate:
    """Middleware that lets a request through or answers 401, 403 or, at /mcp, 421.

    What it lets through has the id of its key as `key_id` in its state; None where none was needed.

    open_to: the address that the server was told to listen on. The socket's own address is looked at as
    well, so that a wrong `open_to` opens nothing. Takes the `Keyring` from the application's state.
    """

    def __init__(self, app: ASGIApp, *, open_to: str, visitors: Visitors) -> None:
        self._app = app
        self._visitors = visitors
        self._open_to_loopback = is_loopback(open_to)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            refusal = await self._refusal(scope)
            if refusal:
                await answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> ApiError | None:
        scope.setdefault("state", {})["key_id"] = None
        keyring: Keyring = scope["app"].state.keyring
        headers = Headers(scope=scope)
        if scope["path"] == MCP:
            refusal = self._visitors.refusal(headers)
            # A browser asks, without a key, whether a page may send what it wants to: that tells nothing.
            if refusal or scope["method"] == "OPTIONS":
                return refusal
        secret = _secret(headers)
        server = scope.get("server")
        if self._open_to_loopback and server and is_loopback(server[0]):
            open_here = scope["path"] in _OPEN_ON_LOOPBACK or not await keyring.exist()
            foreign = _foreign(headers) if open_here else None
            if open_here and (not foreign or not secret):
                return foreign
        if not secret:
            return _unauthorized("missing_api_key", "this server needs a key: Authorization: Bearer KEY")
        key_id = await keyring.admits(secret)
        if key_id is None:
            return _unauthorized("invalid_api_key", "this key is not known here; it may have been revoked")
        scope["state"]["key_id"] = key_id
        return None


# Asked three times a request, nearly always of the same few names.
@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own, and surely so."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _foreign(headers: Headers) -> ApiError | None:
    """A refusal for what a browser sends on behalf of another site.

    A page whose name was made to resolve to 127.0.0.1 shows in Host, a page that posts here in Origin.
    """
    if not is_loopback(_hostname(f"//{headers.get('host', '')}")):
        message = (
            "without a key, only http://127.0.0.1, [::1] and localhost answer; make one: kb keys create NAME"
        )
        return ApiError(403, "foreign_host", message, param="Host")
    origin = headers.get("origin")
    if origin is not None and not is_loopback(_hostname(origin)):
        return ApiError(
            403, "foreign_origin", "pages of other sites may not call this server", param="Origin"
        )
    return None


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _secret(headers: Headers) -> str | None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return headers.get("x-api-key") or None


def _unauthorized(code: str, message: str) -> ApiError:
    return ApiError(401, code, message, headers={"www-authenticate": "Bearer"})
