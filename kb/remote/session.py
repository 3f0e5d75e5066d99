"""A connection to one server, through the official SDK: what it has, and calls of it.

A task of its own holds the connection: whatever breaks it ends that task and what waits for an answer, not
the run that asked. The server is offered nothing in return: no sampling, no questions to a person, no roots.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import REQUEST_TIMEOUT, Implementation

from kb.content.fence import visible
from kb.errors import AddressRefused, KbError, RemoteFailed, RemoteTimeout
from kb.redact import credentials, quieted, redacted
from kb.remote import results
from kb.remote.listing import ToolList, judged
from kb.remote.results import RemoteResult
from kb.remote.server import Address, Command, RemoteServer, RemoteTool
from kb.remote.stdio import started
from kb.web.guard import Guard, Limits, Resolve, resolved, shown

T = TypeVar("T")


class Progress(Protocol):
    """Told how far a call is, of how much, where that is known, and what its server says of it."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Awaited before the next is read."""


MOST_LIST_BYTES = 1_000_000
"""Of all that a server says of its tools."""

_MOST_ANSWER_BYTES = 8_000_000
_MOST_PAGES = 100
_CLOSE_SECONDS = 10.0
# Streams that broke off and were gone on with, in one session.
_MOST_RESUMED = 20
# The SDK's words for a connection that is gone; a stream that broke off has the same code and others.
_CLOSED = "Connection closed"
_SHOWN = 500


@asynccontextmanager
async def connected(server: RemoteServer, *, resolve: Resolve = resolved) -> AsyncIterator["Session"]:
    """A session for as long as the block lasts. resolve: how names become addresses.

    Raises AddressRefused, RemoteFailed, RemoteTimeout.
    """
    session = Session(server, resolve)
    try:
        await session.open()
        yield session
    finally:
        await session.close()


class Session:
    """Made by `connected`. Calls may run at once; after one that raised RemoteFailed others may still answer,
    unless the connection is gone."""

    def __init__(self, server: RemoteServer, resolve: Resolve) -> None:
        self._server = server
        self._resolve = resolve
        at = server.at
        self._secrets = credentials(at.headers if isinstance(at, Address) else at.env)
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._status: int | None = None
        self._resumed = 0
        self._held: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, in whichever era of the protocol the server speaks."""
        quieted("mcp")
        self._held = asyncio.create_task(self._hold())

        async def ready() -> Client:
            return await asyncio.shield(self._ready)

        await self._within(ready(), self._server.connect_seconds, "to connect")

    async def close(self) -> None:
        """End the connection, and the server if it was started for it."""
        self._closing.set()
        if self._held is None:
            return
        for _ in range(2):
            await asyncio.wait({self._held}, timeout=_CLOSE_SECONDS)
            if self._held.done():
                break
            self._held.cancel()
        if self._held.done() and not self._held.cancelled():
            # Why it broke was told to whoever waited for an answer.
            self._held.exception()
        self._ready.cancel()

    async def list_tools(self) -> ToolList:
        """All that can be offered, asked for anew. Raises RemoteFailed, RemoteTimeout."""
        listed = await self._within(self._pages(), self._server.list_seconds, "to list its tools")
        return judged(self._server, redacted(listed, self._secrets))

    async def call(
        self,
        tool: RemoteTool,
        arguments: Mapping[str, Any],
        *,
        max_tokens: int,
        progress: Progress | None = None,
    ) -> RemoteResult:
        """What the tool gives, as text of so many tokens at most; what it says is wrong is a result too.

        A caller who is cancelled has the server told so. Raises RemoteFailed; RemoteTimeout, after which the
        tool may have run.
        """
        client = self._ready.result()
        calling = client.call_tool(tool.name, dict(arguments), progress_callback=progress)
        answer = await self._within(calling, self._server.call_seconds, f"to call {tool.name}")
        given = redacted(answer.model_dump(by_alias=True, mode="json", exclude_none=True), self._secrets)
        return await asyncio.to_thread(results.read, tool.name, given, max_tokens)

    async def _pages(self) -> list[Mapping[str, Any]]:
        client = self._ready.result()
        found: list[Mapping[str, Any]] = []
        size, cursor = 0, None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            size += len(page.model_dump_json())
            if size > MOST_LIST_BYTES:
                raise RemoteFailed(f"its list of tools has more than {MOST_LIST_BYTES:,} bytes")
            found.extend(one.model_dump(by_alias=True, mode="json", exclude_none=True) for one in page.tools)
            if not (cursor := page.next_cursor):
                return found
        raise RemoteFailed(f"its list of tools has more than {_MOST_PAGES} pages")

    async def _hold(self) -> None:
        client = Client(
            self._transport(), client_info=Implementation(name="kb", version=version("kb")), cache=None
        )
        async with client:
            client.session.validate_tool_result = _taken_as_it_is  # type: ignore[method-assign]
            self._ready.set_result(client)
            await self._closing.wait()

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        at = self._server.at
        if isinstance(at, Command):
            async with started(at) as streams:
                yield streams
            return
        limits = Limits(
            bytes=_MOST_ANSWER_BYTES,
            connect_seconds=self._server.connect_seconds,
            seconds=max(self._server.call_seconds, self._server.list_seconds),
        )
        async with Guard(at.allow, self._resolve).client(limits, at.headers) as http:
            http.event_hooks = {"request": [self._resume_only], "response": [self._note]}
            # The SDK follows redirects within the origin, and with the credentials no others.
            async with streamable_http_client(
                at.url, http_client=http, max_sse_event_size=_MOST_ANSWER_BYTES
            ) as streams:
                yield streams

    async def _resume_only(self, request: httpx2.Request) -> None:
        """Nothing is listened to but the answers to what was asked, and those are not fetched without end."""
        if request.method == "GET":
            self._resumed += 1
            if "last-event-id" not in request.headers or self._resumed > _MOST_RESUMED:
                # The SDK takes it for a stream that is not there. With one that is, its server could have it
                # come again at once, and again.
                raise httpx2.RemoteProtocolError("not listened to")

    async def _note(self, response: httpx2.Response) -> None:
        self._status = response.status_code

    async def _within(self, ask: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
        """What comes of `ask`, unless the connection breaks or the time is over first."""
        assert self._held is not None
        asking = asyncio.create_task(ask)
        try:
            await asyncio.wait({asking, self._held}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asking.done():
                # The SDK has the server told that nobody waits any more.
                asking.cancel()
                await asyncio.wait({asking}, timeout=_CLOSE_SECONDS)
        if not asking.cancelled() and asking.done():
            if (error := asking.exception()) is None:
                return asking.result()
            if isinstance(error, MCPError) and error.message == _CLOSED:
                # Why, the connection's own task tells as soon as it has ended.
                await asyncio.wait({self._held}, timeout=_CLOSE_SECONDS)
            if not self._held.done():
                raise self._told(error, what) from error
        if self._held.done():
            broke = None if self._held.cancelled() else self._held.exception()
            raise self._told(broke, what) from broke
        raise RemoteTimeout(f"{self._name} took longer than {seconds:g} s {what}")

    @property
    def _name(self) -> str:
        at = self._server.at
        return f"the server {self._server.label} ({shown(at.url) if isinstance(at, Address) else at.command})"

    def _told(self, error: BaseException | None, what: str) -> KbError:
        """An error of the connection or the protocol as ours, without a credential in it."""
        while isinstance(error, BaseExceptionGroup):
            error = next((one for one in error.exceptions if isinstance(one, KbError)), error.exceptions[0])
        match error:
            case None:
                return RemoteFailed(f"{self._name} ended when it was asked {what}")
            case AddressRefused():
                return AddressRefused(str(error), param="server_url")
            case KbError():
                return type(error)(f"{self._name} failed when it was asked {what}: {self._said(str(error))}")
            case httpx2.TimeoutException():
                return RemoteTimeout(f"{self._name} did not answer in time when it was asked {what}")
            case httpx2.HTTPError() | OSError():
                why = self._said(str(error)) or type(error).__name__
                return RemoteFailed(f"{self._name} cannot be reached {what}: {why}")
            case MCPError():
                kind = RemoteTimeout if error.code == REQUEST_TIMEOUT else RemoteFailed
                status = f" (HTTP {self._status})" if (self._status or 0) >= 400 else ""
                return kind(
                    f"{self._name} failed when it was asked {what}: {self._said(error.message)}{status}"
                )
            case _:
                return RemoteFailed(
                    f"{self._name} answers with what is not of the protocol when it is asked {what}: "
                    f"{type(error).__name__}"
                )

    def _said(self, words: str) -> str:
        """A server's own, on one line, with nothing that hides and no credential that it was sent."""
        return " ".join(visible(redacted(words, self._secrets)[:_SHOWN]).split())


async def _taken_as_it_is(name: str, result: Any) -> None:
    """In the place of the SDK's check of a result by the schema that its server gave for it.

    A result is text for a model. An expression in such a schema (`^(a|a)*$`) can take all the time there is,
    in this process's one event loop.
    """
