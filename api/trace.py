"""The outermost layer: every request gets an id, is measured, and is answered even if it fails."""

import logging
import re
import secrets
import time
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import answer, internal

_ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_CLIENT_LEFT = 499

log = logging.getLogger("api.access")


class Trace:
    """Middleware: echoes or sets x-request-id, counts, logs, and turns the unforeseen into a plain 500.

    The log has method, path, status, duration and id; never the query string, a header or a body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id)]}
            await send(message)

        try:
            await self._app(scope, receive, send_traced)
        except ClientDisconnect:
            status = _CLIENT_LEFT
        except Exception:
            log.exception("request %s failed", request_id.decode())
            if status:
                # Half an answer is out; closing the connection is all that can still be said.
                raise
            await answer(internal())(scope, receive, send_traced)
        finally:
            self._note(scope, status, time.perf_counter() - started, request_id)

    def _note(self, scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        scope["app"].state.metrics.observe_request(route, scope["method"], status, seconds)
        if log.isEnabledFor(logging.INFO):
            shown = (scope["method"], quote(scope["path"]), status, seconds * 1000, request_id.decode())
            log.info("%s %s %d %.1f ms %s", *shown)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTABLE.fullmatch(value):
            return bytes(value)
    return f"req_{secrets.token_hex(12)}".encode()
