"""Starts servers as processes of their own, asks them over keep-alive connections, and stops them."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, what to post to, its process, and its cold start in seconds."""

    port: int
    path: str
    pid: int
    cold_seconds: float

    def memory_mb(self) -> float:
        """Resident memory of the process."""
        found = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True
        )
        return int(found.stdout) / 1024


class Client:
    """One keep-alive connection."""

    def __init__(self, server: Server) -> None:
        self._path = server.path
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, query: str, top_k: int = 10, **more: object) -> list[dict[str, object]]:
        """The hits of a query."""
        body = json.dumps({"query": query, "top_k": top_k, **more})
        self._connection.request("POST", self._path, body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        read = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{self._path} answered {answer.status}: {read}")
        return list(read["hits"])


@contextmanager
def running(
    command: Sequence[str], port: int, path: str, environment: Mapping[str, str], first: Mapping[str, object]
) -> Iterator[Server]:
    """Start a server and wait for its first answer to the query `first`."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        # Servers run from compiled bytecode, as installed ones do.
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _first_answer(process, Server(port, path, process.pid, 0), first, started)
        yield Server(port, path, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(30)


def sequential(server: Server, queries: Sequence[str], **more: object) -> list[float]:
    """Milliseconds of each query, one client, one after the other."""
    client = Client(server)
    client.ask(queries[0], **more)
    spent = []
    for query in queries:
        start = time.perf_counter()
        client.ask(query, **more)
        spent.append((time.perf_counter() - start) * 1000)
    return spent


def concurrent(server: Server, queries: Sequence[str], clients: int, seconds: float, **more: object) -> float:
    """Queries answered per second by `clients` keep-alive connections that ask without pause."""
    stop = time.perf_counter() + seconds
    counts = [0] * clients

    def work(number: int) -> None:
        client = Client(server)
        while time.perf_counter() < stop:
            client.ask(queries[(number * 37 + counts[number]) % len(queries)], **more)
            counts[number] += 1

    start = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_answer(
    process: subprocess.Popen[bytes], server: Server, first: Mapping[str, object], started: float
) -> None:
    while time.perf_counter() - started < _START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            Client(server).ask(**first)  # type: ignore[arg-type]
            return
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.005)
    raise RuntimeError("the server did not answer in time")
