"""Processes that listen, and the barest client of streamed answers: one kept connection, times of arrival."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.servers import Server

_START_SECONDS = 120


@contextmanager
def listening(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """A process of Python that takes connections."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        # Servers run from compiled bytecode, as installed ones do.
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not asyncio.run(_listens(port)):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}")
            if time.perf_counter() - began > _START_SECONDS:
                raise RuntimeError(f"{' '.join(command)} does not listen")
            time.sleep(0.02)
        yield Server(port, "", process.pid, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(30)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


@dataclass(frozen=True, slots=True)
class Told:
    """An answer as it came: when it was asked for, and its chunks, each with its time, in seconds."""

    began: float
    chunks: Sequence[tuple[float, bytes]]

    @property
    def ms(self) -> float:
        """Until its end."""
        return (self.chunks[-1][0] - self.began) * 1000

    def at(self, mark: bytes) -> list[float]:
        """The times of the chunks that have `mark` in them, in milliseconds."""
        return [(at - self.began) * 1000 for at, chunk in self.chunks if mark in chunk]

    def body(self) -> bytes:
        """All of it."""
        return b"".join(chunk for _, chunk in self.chunks)

    def response(self) -> dict[str, Any]:
        """What the last event of a stream tells. Raises RuntimeError where it is not a completed response."""
        # Comments, which keep a quiet stream open, may stand behind an event.
        *_, last = (line for line in self.body().splitlines() if line.startswith(b"data: "))
        event = json.loads(last.removeprefix(b"data: "))
        if event.get("type") != "response.completed":
            raise RuntimeError(f"not completed: {self.body()[-500:]!r}")
        return dict(event["response"])


class Line:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, server: Server) -> Self:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", server.port, limit=2**24))

    async def ask(self, path: str, body: Mapping[str, Any]) -> Told:
        """A POST. Raises RuntimeError for any status but 200."""
        sent = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return await self._exchange(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)

    async def get(self, path: str) -> Told:
        """A GET."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _exchange(self, sent: bytes) -> Told:
        began = time.perf_counter()
        self._writer.write(sent)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None
        )
        chunks: list[tuple[float, bytes]] = []
        if length is not None:
            chunks.append((time.perf_counter(), await self._reader.readexactly(length)))
        while length is None:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = (await self._reader.readexactly(size + 2))[:-2]
            chunks.append((time.perf_counter(), chunk))
            if not size:
                break
        told = Told(began, chunks)
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head!r}: {told.body()[:500]!r}")
        return told
