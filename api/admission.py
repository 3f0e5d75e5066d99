"""Who is let in, who waits, and who is told to come again: nothing in this process queues without bound.

Searches stand in a line of their own, whose length follows from what this process answers within
`PATIENCE` seconds. Other requests under /v1 are counted, those at /mcp, and the bytes of bodies. What does
not fit is answered at once: 429, code `overloaded`, and `Retry-After`.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import MCP
from api.errors import ApiError, answer

PATIENCE = 1.0
"""Seconds within which a search that is let in should be answered."""

SEARCHES_AT_ONCE = 16
"""Searches at work; they share one model, which takes waiting queries along in one batch."""

# Seconds from one answer to the next under load, until this process has measured its own.
_FIRST_GUESS = 1 / 64
# More would wait for their turn at the event loop rather than for a search.
_MOST_SEARCHES = 256
# The weight of the newest answer in the measured pace: some dozens of answers show a change.
_NEWEST = 0.05

# Requests under /v1 that are not searches; those that wait for their documents are among them.
OTHERS = 128
WAITING = 64
# Requests that wait for a language model, most of the time for its next word.
CALLS = 512
_CALL_PATHS = ("/v1/responses", "/v1/chat/completions", "/v1/runs")

# Requests at /mcp, of which some stay open to listen; what each asks for then counts as a search or another.
CONVERSATIONS = 256

# Requests for embeddings, of which one is at work: thousands of texts may take it half a minute.
EMBEDDING = 32
EMBEDDING_PATIENCE = 60.0

# Bytes of bodies in memory. Documents: the largest upload and some room beside it, so that one client
# cannot make it several hundred MB; searches have their own, which uploads cannot take from them.
_SEARCH_BYTES = 32_000_000
_OTHER_BYTES = 128_000_000

Refuse = Callable[[int], ApiError]
"""Counts a refusal and makes it; called with the seconds after which to come again."""


class Line:
    """Work of which some is done at once while more waits, first come, first served.

    places: at once. most: at work and waiting together; never more than are answered in `PATIENCE` seconds
    at the pace measured while somebody waited, but always as many as there are places. Belongs to one
    event loop. patience: instead of `PATIENCE`.
    """

    def __init__(self, places: int, most: int, refuse: Refuse, *, patience: float = PATIENCE) -> None:
        self._places = places
        self._most = most
        self._refuse = refuse
        self._patience = patience
        self._at_work = 0
        # In order of arrival; by key, so that one who leaves is taken out at once.
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._pace = _FIRST_GUESS
        self._last_end: float | None = None

    @property
    def at_work(self) -> int:
        """How many are at work."""
        return self._at_work

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many may be at work or wait."""
        return min(self._most, max(self._places, int(self._patience / self._pace)))

    def check(self) -> None:
        """Raises ApiError 429 while another one would find no room."""
        inside = self._at_work + len(self._waiting)
        if inside >= self.room:
            raise self._refuse(math.ceil(inside * self._pace))

    @asynccontextmanager
    async def place(self, receive: Receive) -> AsyncIterator[None]:
        """A place at work for the block, after a wait for it if need be.

        receive: of a request whose body was read. Raises ApiError 429 where there is no room, and
        ClientDisconnect, at once and without a place, when the client gives up while it waits.
        """
        if self._at_work < self._places:
            self._at_work += 1
        else:
            self.check()
            await self._turn(receive)
        try:
            yield
        finally:
            self._leave()

    async def _turn(self, receive: Receive) -> None:
        """Wait for a place that somebody hands over."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[mine] = None
        gone = asyncio.ensure_future(_departure(receive))
        try:
            await asyncio.wait((mine, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise ClientDisconnect
        except BaseException:
            self._waiting.pop(mine, None)
            if mine.done():
                # The place came at the same moment: it goes on to the next.
                self._hand_over()
            raise
        finally:
            gone.cancel()

    def _leave(self) -> None:
        now = time.perf_counter()
        if self._last_end is not None:
            self._pace += _NEWEST * (now - self._last_end - self._pace)
        # Only what ends while others wait tells what this process can do.
        self._last_end = now if self._waiting else None
        self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.set_result(None)
        else:
            self._at_work -= 1


class Count:
    """Something of which there may be `most` at once."""

    def __init__(self, most: int, refuse: Refuse) -> None:
        self._most = most
        self._refuse = refuse
        self.taken = 0

    def check(self, more: int = 1) -> None:
        """Raises ApiError 429 where `more` do not fit."""
        if self.taken + more > self._most:
            raise self._refuse(1)

    def take(self, more: int = 1) -> None:
        """Raises ApiError 429 where `more` do not fit."""
        self.check(more)
        self.taken += more


class Body:
    """The bytes of one request's body, counted among those of all while they are needed."""

    def __init__(self, all_bodies: Count) -> None:
        self._all = all_bodies
        self._mine = 0

    def expect(self, size: int) -> None:
        """Raises ApiError 429 where so many bytes would not fit now."""
        self._all.check(size)

    def counted(self, receive: Receive) -> Receive:
        """The same messages; raises ApiError 429 where one does not fit."""

        async def receive_counted() -> Message:
            message = await receive()
            if size := len(message.get("body", b"")):
                self._all.take(size)
                self._mine += size
            return message

        return receive_counted

    def release(self) -> None:
        """They are needed no more."""
        self._all.taken -= self._mine
        self._mine = 0


class Admission:
    """The lines and counts of one process. refused: called with the kind of work that was turned away."""

    def __init__(self, refused: Callable[[str], None]) -> None:
        def refuse(work: str) -> Refuse:
            def made(seconds: int) -> ApiError:
                refused(work)
                return overloaded(max(1, seconds))

            return made

        self.searches = Line(SEARCHES_AT_ONCE, _MOST_SEARCHES, refuse("search"))
        self.waits = Line(WAITING, WAITING, refuse("wait"))
        self.embeddings = Line(1, EMBEDDING, refuse("embedding"), patience=EMBEDDING_PATIENCE)
        self.others = Count(OTHERS, refuse("request"))
        self.conversations = Count(CONVERSATIONS, refuse("request"))
        self.calls = Count(CALLS, refuse("request"))
        self.search_bodies = Count(_SEARCH_BYTES, refuse("search"))
        self.other_bodies = Count(_OTHER_BYTES, refuse("request"))

    def count(self, path: str) -> Count:
        """Among which a request that is no search is counted."""
        if path == MCP:
            return self.conversations
        return self.calls if path.startswith(_CALL_PATHS) else self.others


class Door:
    """Middleware that turns a request under /v1 or at /mcp away, before it costs anything, while there is
    no room.

    Takes the `Admission` from the application's state; leaves the request's `Body` in the request's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not (scope["path"].startswith("/v1/") or scope["path"] == MCP):
            await self._app(scope, receive, send)
            return
        admission: Admission = scope["app"].state.admission
        searches = scope["method"] == "POST" and scope["path"].endswith("/search")
        others = admission.count(scope["path"])
        try:
            if searches:
                # Its place in the line is taken later, once its body is there.
                admission.searches.check()
            else:
                others.take()
        except ApiError as refusal:
            await answer(refusal)(scope, receive, send)
            return
        body = Body(admission.search_bodies if searches else admission.other_bodies)
        scope.setdefault("state", {})["body"] = body
        try:
            await self._app(scope, body.counted(receive), send)
        finally:
            body.release()
            if not searches:
                others.taken -= 1


def overloaded(seconds: int) -> ApiError:
    """The refusal of what does not fit, to be tried again after some seconds."""
    message = f"more has arrived than can be served; come again in {seconds} s"
    return ApiError(429, "overloaded", message, headers={"retry-after": str(seconds)})


async def _departure(receive: Receive) -> None:
    """Returns when the client of a request, whose body was read, has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
