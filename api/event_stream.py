"""Server-sent events to a client who may leave at any time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import Any, Self, TypeVar

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}
# A proxy or client that hears nothing for long takes the connection for dead; a comment is something.
_QUIET_SECONDS = 15.0
# As many events as an answer opens with: until they are out, to make others would only keep them waiting.
_OPENING = 5
# Events that wait for a client who reads slowly; then what makes them waits.
_MOST_WAITING = 64


class EventStream(Response):
    """A stream of events, each as bytes, that is made from now on and sent when it is called.

    What is ready at the same moment goes out together: the first events of an answer, and under load more.
    What makes them is closed as soon as the client has left.
    """

    media_type = None

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=_HEADERS)
        # Its length is not known.
        del self.headers["content-length"]
        self._waiting: list[bytes] = []
        self._most = _OPENING
        self._ready, self._room = asyncio.Event(), asyncio.Event()
        self._making = asyncio.ensure_future(self._make(events))
        self._making.add_done_callback(lambda _: self._ready.set())

    async def begun(self, receive: Receive) -> Self:
        """The same, once its first event is there. Raises what came instead of it, and ClientDisconnect."""
        try:
            await unless_left(receive, self._ready.wait())
            if not self._waiting:
                await self._making
        except BaseException:
            await self._stop()
            raise
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        breathing = asyncio.ensure_future(_breathe(send))
        try:
            await unless_left(receive, self._send(send))
        finally:
            breathing.cancel()
            await self._stop()
        await send({"type": "http.response.body", "body": b""})

    async def _make(self, events: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(events):
            async for piece in events:
                self._waiting.append(piece)
                self._ready.set()
                if len(self._waiting) >= self._most:
                    self._room.clear()
                    await self._room.wait()

    async def _send(self, send: Send) -> None:
        while self._waiting or not self._making.done():
            await self._ready.wait()
            self._ready.clear()
            data = b"".join(self._waiting)
            self._waiting.clear()
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            self._most = _MOST_WAITING
            self._room.set()
        await self._making

    async def _stop(self) -> None:
        self._making.cancel()
        await asyncio.wait((self._making,))


async def _breathe(send: Send) -> None:
    while True:
        await asyncio.sleep(_QUIET_SECONDS)
        await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})


async def departure(receive: Receive) -> None:
    """Returns when the client of a request, whose body was read, has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(receive: Receive, work: Awaitable[T]) -> T:
    """What comes of some work. When the client leaves it is cancelled, and ClientDisconnect raised."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(departure(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait((working, leaving))


def event(kind: str, data: Mapping[str, Any]) -> bytes:
    """One event under a name."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json(data))


def chunk(data: Mapping[str, Any]) -> bytes:
    """One event without a name, as Chat Completions has them."""
    return b"data: %b\n\n" % to_json(data)
