"""The MCP server over streamable HTTP, at /mcp: without sessions, so that any process answers any request.

A request of the newest protocol carries all that is needed; of the older ones, each is a connection of its
own. Nothing is remembered between two requests, and no state is given to a client to be sent back.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.admission import Count
from api.auth import MCP, Visitors
from api.deps import MAX_JSON, search_thread
from api.errors import ApiError
from kb.errors import KbError
from kb.service import Service

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from kb.mcp.watch import Watch

_PAGE_OF_THIS_MACHINE = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

T = TypeVar("T")


class Conversations:
    """The server of one process. It begins with the first request: its SDK takes half a second to import."""

    def __init__(self, service: Service, visitors: Visitors) -> None:
        self._service = service
        self._visitors = visitors
        self._asked = asyncio.Event()
        self._begun: asyncio.Future[StreamableHTTPSessionManager] = asyncio.get_running_loop().create_future()
        self._watch: Watch | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Serve from the first request on, until this is cancelled."""
        await self._asked.wait()
        try:
            self._watch, manager = await to_thread.run_sync(self._made)
        except Exception as error:
            self._begun.set_exception(error)
            raise
        async with manager.run():
            self._begun.set_result(manager)
            await asyncio.Event().wait()

    async def manager(self) -> "StreamableHTTPSessionManager":
        """What answers requests."""
        self._asked.set()
        return await asyncio.shield(self._begun)

    def stop_soon(self) -> None:
        """End the requests that stay open to listen: a stop waits for all. From any thread."""
        if self._watch is not None:
            self._loop.call_soon_threadsafe(self._watch.close)

    def _made(self) -> "tuple[Watch, StreamableHTTPSessionManager]":
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
        from mcp.server.transport_security import TransportSecuritySettings

        from kb.mcp.server import build
        from kb.mcp.watch import Watch

        watch = Watch(self._service)
        return watch, StreamableHTTPSessionManager(
            build(self._service, _work, watch),
            stateless=True,
            # The gate has looked at them already, by the same lists; this is a second lock on the door.
            security_settings=TransportSecuritySettings(
                allowed_hosts=self._visitors.host_patterns(), allowed_origins=self._visitors.origin_patterns()
            ),
            max_request_body_size=MAX_JSON,
        )


class Endpoint:
    """ASGI application; takes the `Conversations` from the application's state."""

    path = MCP

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        # What the log and the metrics call it: they look for a path here, as FastAPI leaves one.
        scope["route"] = self
        if scope["method"] != "POST":
            # A stream of its own for the server's messages, or the end of a session: there are none.
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
            return
        conversations: Conversations = scope["app"].state.conversations
        await (await conversations.manager()).handle_request(scope, receive, send)


def mount(app: FastAPI, visitors: Visitors) -> None:
    """Serve it at its path, to programs and to the pages that may call it."""
    shared = CORSMiddleware(
        Endpoint(),
        allow_origins=sorted(visitors.origins),
        allow_origin_regex=_PAGE_OF_THIS_MACHINE,
        allow_methods=["POST"],
        allow_headers=["*"],
        expose_headers=["x-request-id"],
    )
    app.router.routes.append(Route(MCP, shared))


async def _work(context: Any, do: Callable[[], T], /, *, search: bool = False) -> T:
    """In the threads of the HTTP service, in the same lines."""
    request: Request = context.request
    try:
        if search:
            return await search_thread(request, do)
        return await _other(request.app.state.admission.others, do)
    except ApiError as refusal:
        raise KbError(str(refusal)) from None
    except ClientDisconnect:
        raise KbError("the client has left") from None


async def _other(others: Count, do: Callable[[], T]) -> T:
    others.take()
    try:
        return await to_thread.run_sync(do)
    finally:
        others.taken -= 1
