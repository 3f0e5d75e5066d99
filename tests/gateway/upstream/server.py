"""HTTP over plain sockets: a reply makes steps of a request, which are taken until the client is gone."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers. The bytes behind it are chunks of the body, those before it go out as they are."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream"),)


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing for some seconds; for benchmarks, tests hold instead."""

    seconds: float


class Then(Enum):
    """END: the body is complete, the connection kept. CLOSE: it is complete, and then closed all the same.
    HOLD: nothing until `Request.go_on`. RESET: an RST.
    """

    END = "end"
    CLOSE = "close"
    HOLD = "hold"
    RESET = "reset"


Step = Head | Pause | Then | bytes
Reply = Callable[["Request"], Iterable[Step]]


@dataclass
class Request:
    """What came, and what became of it. sent: bytes that the system took for the client."""

    path: str
    headers: dict[str, str]
    body: Any
    loop: asyncio.AbstractEventLoop
    held: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=time.monotonic)
    sent: int = 0
    hung_up_at: float | None = None
    hung_up: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def chat(self) -> bool:
        """Whether it is one for Chat Completions."""
        return self.path.endswith("/chat/completions")

    def go_on(self) -> None:
        """A reply that holds takes its next step."""
        self.loop.call_soon_threadsafe(self.held.set)


class _Line(asyncio.StreamReaderProtocol):
    """A connection that knows at once when its client is gone."""

    def __init__(self, upstream: "Upstream") -> None:
        self.gone = asyncio.Event()
        super().__init__(
            asyncio.StreamReader(), lambda reader, writer: upstream.converse(self, reader, writer)
        )

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


class Upstream:
    """The server, in a thread of its own. Several processes or threads may ask it at once."""

    def __init__(self, *replies: Reply, port: int = 0) -> None:
        self.connections = 0
        self.requests: list[Request] = []
        self._replies: list[Reply] = list(replies)
        self._open: set[_Line] = set()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def script(self, *replies: Reply) -> None:
        """One reply a request, in order; the last one also answers all that come after."""
        self._replies = list(replies)

    def request(self, number: int = 0, seconds: float = 10.0) -> Request:
        """The request that came first, second, …; waited for."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) > number, seconds), "it did not come"
            return self.requests[number]

    def deserted(self, seconds: float = 10.0) -> bool:
        """Whether every connection is closed, or is within some seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, seconds)

    def close(self) -> None:
        """Hang up on everybody."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Line(self), "127.0.0.1", port, backlog=1000)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def converse(self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with self._changed:
            self._open.add(line)
            self.connections += 1
        try:
            while (request := await self._read(reader)) is not None and await self._answer(
                request, line, writer
            ):
                pass
            writer.close()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, and its request says so; or this server is closed
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            with self._changed:
                self._open.discard(line)
                self._changed.notify_all()

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(
            head[0].split()[1], headers, json.loads(body or b"null"), asyncio.get_running_loop()
        )
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return request

    async def _answer(self, request: Request, line: _Line, writer: asyncio.StreamWriter) -> bool:
        """Take the steps; whether the connection goes on."""
        with self._changed:
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        steps = asyncio.ensure_future(self._take(reply(request), request, writer))
        gone = asyncio.ensure_future(line.gone.wait())
        try:
            await asyncio.wait({steps, gone}, return_when=asyncio.FIRST_COMPLETED)
            if steps.done() and steps.exception() is None:
                return steps.result()
            request.hung_up_at = time.monotonic()
            request.hung_up.set()
            return False
        finally:
            steps.cancel()
            gone.cancel()
            await asyncio.gather(steps, gone, return_exceptions=True)
            request.over.set()

    async def _take(self, steps: Iterable[Step], request: Request, writer: asyncio.StreamWriter) -> bool:
        body = False
        for step in steps:
            if step in (Then.END, Then.CLOSE):
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return step is Then.END
            if step is Then.RESET:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            if step is Then.HOLD:
                await request.held.wait()
                request.held.clear()
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Head):
                lines = [f"HTTP/1.1 {step.status} X", *(f"{name}: {value}" for name, value in step.headers)]
                writer.write("\r\n".join([*lines, "transfer-encoding: chunked\r\n\r\n"]).encode())
                body = True
            else:
                writer.write(b"%x\r\n%b\r\n" % (len(step), step) if body else step)
                # Also lets it be noticed between any two that the client is gone.
                await asyncio.sleep(0)
                await writer.drain()
                request.sent += len(step)
        return False


@contextmanager
def deaf() -> Iterator[str]:
    """An address where connecting never ends: the line of those who wait to be accepted is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@contextmanager
def refusing() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
