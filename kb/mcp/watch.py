"""Tells whoever listens that documents changed, came or went, by whichever process.

One task looks at the catalog while somebody listens. A look costs what SQLite takes to say that nobody has
committed since; after a commit the newest change numbers are compared, and then the documents listened to.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import to_thread
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.session import ServerSession
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
)
from mcp.shared.exceptions import MCPError

from kb.errors import NotFound
from kb.mcp.resources import current
from kb.service import Service

LOOK_SECONDS = 0.5
"""How late a listener may be told."""

MOST_LISTENERS = 128
MOST_RESOURCES = 100
"""Of one listener; each is looked up anew after every change."""

Context = ServerRequestContext[Any, Any]

log = logging.getLogger(__name__)


class Watch:
    """Who listens, and what they were told last. Belongs to one event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bus = InMemorySubscriptionBus()
        self._listening = ListenHandler(self._bus, max_subscriptions=MOST_LISTENERS)
        self._session: ServerSession | None = None
        self._listeners = 0
        self._somebody = anyio.Event()
        # Held while the catalog is looked at: whoever begins to listen has seen all that came before.
        self._looking = anyio.Lock()
        self._wanted: Counter[str] = Counter()
        self._versions: dict[str, str | None] = {}
        self._heads: object = None

    async def run(self) -> None:
        """Look, and tell, for as long as the server runs."""
        while True:
            await self._somebody.wait()
            await anyio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except Exception:
                # The disk may refuse for a while; who listens stays, and is told after the next look.
                log.exception("changes could not be looked for")

    async def listen(
        self, context: Context, asked: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """One listener of the newest protocol: its request stays open, and it is told in the answer to it."""
        async with self._counted(asked.notifications.resource_subscriptions or ()):
            return await self._listening(context, asked)

    def close(self) -> None:
        """End what is open, so that a stop need not wait for it."""
        self._listening.close()

    def serve_handshake(self, server: Server[Any]) -> None:
        """Tell clients of the older protocols as well, which subscribe once and are told beside all answers.

        For a server with one connection, as over stdio: where each request is a connection of its own there
        is no way back to the client.
        """
        server.add_notification_handler("notifications/initialized", types.NotificationParams, self._greet)
        server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, self._subscribe)
        server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, self._unsubscribe)

    async def _greet(self, context: Context, _: types.NotificationParams) -> None:
        self._session = context.session
        await self._begin(())

    async def _subscribe(self, _: Context, asked: types.SubscribeRequestParams) -> types.EmptyResult:
        if not self._wanted[asked.uri]:
            if len(self._wanted) >= MOST_RESOURCES:
                raise _too_many()
            await self._begin([asked.uri])
        return types.EmptyResult()

    async def _unsubscribe(self, _: Context, asked: types.UnsubscribeRequestParams) -> types.EmptyResult:
        if self._wanted[asked.uri]:
            self._end([asked.uri])
        return types.EmptyResult()

    @asynccontextmanager
    async def _counted(self, resources: Sequence[str]) -> AsyncIterator[None]:
        await self._begin(resources)
        try:
            yield
        finally:
            self._end(resources)

    async def _begin(self, resources: Sequence[str]) -> None:
        if len(resources) > MOST_RESOURCES:
            raise _too_many()
        async with self._looking:
            if not self._listeners:
                self._heads = await to_thread.run_sync(self._service.catalog.feed.heads)
            new = [uri for uri in resources if uri not in self._versions]
            self._versions |= await to_thread.run_sync(self._current, new)
            self._wanted.update(resources)
            self._listeners += 1
            self._somebody.set()

    def _end(self, resources: Sequence[str]) -> None:
        self._wanted.subtract(resources)
        for uri in {uri for uri in resources if not self._wanted[uri]}:
            del self._wanted[uri], self._versions[uri]
        self._listeners -= 1
        if not self._listeners:
            self._somebody = anyio.Event()

    async def _look(self) -> None:
        async with self._looking:
            heads = await to_thread.run_sync(self._service.catalog.feed.heads)
            if heads == self._heads:
                return
            before = dict(self._versions)
            now = await to_thread.run_sync(self._current, list(before))
            # Who has left meanwhile is not told.
            self._versions |= {uri: now[uri] for uri in self._versions if uri in now}
            self._heads = heads
        await self._tell_of_list()
        for uri, version in now.items():
            if version != before[uri] and uri in self._wanted:
                await self._tell_of(uri)

    def _current(self, resources: Sequence[str]) -> dict[str, str | None]:
        """The version that each shows, None where there is no such document."""
        found: dict[str, str | None] = {}
        for uri in resources:
            try:
                found[uri] = current(self._service, uri)
            except NotFound:
                found[uri] = None
        return found

    async def _tell_of_list(self) -> None:
        await self._bus.publish(ResourcesListChanged())
        if self._session is not None:
            await self._session.send_resource_list_changed()

    async def _tell_of(self, uri: str) -> None:
        await self._bus.publish(ResourceUpdated(uri))
        if self._session is not None:
            await self._session.send_resource_updated(uri)


def _too_many() -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"a client may listen to {MOST_RESOURCES} resources at most")
