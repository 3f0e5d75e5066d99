"""More than can be served, against a real process whose work is held: counts and order, never timings."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from api.admission import OTHERS, SEARCHES_AT_ONCE

HERE = Path(__file__).parent
SEARCH = "/v1/knowledge_bases/k/search"
DOCUMENTS = "/v1/knowledge_bases/k/documents"
# What a process lets in before it has measured its pace: 64 searches a second, for one second.
ROOM = 64


class Gated:
    """The process, and what it said."""

    def __init__(self, fakes: ModuleType, data: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, str(HERE / "gated_server.py"), str(fakes.__file__), str(data)]
        self.process = subprocess.Popen(
            [*command, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        )
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self._said: dict[str, queue.Queue[str]] = {
            word: queue.Queue() for word in ("search", "list", "job", "state")
        }
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, _, what = line.strip().partition(" ")
            self._said[word].put(what)

    def tell(self, command: str) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def hold(self, work: str) -> None:
        """From now on it waits to be let pass."""
        self.tell(f"hold {work}")
        # Commands are obeyed in order.
        self.state()

    def next(self, work: str) -> str:
        """The next piece of work that got a thread."""
        return self._said[work].get(timeout=30)

    def idle(self, work: str) -> bool:
        """Whether no more of it got one."""
        return self._said[work].empty()

    def state(self) -> dict[str, int]:
        """Its counts."""
        self.tell("state")
        return dict(json.loads(self.next("state")))

    def send(self, method: str, path: str, body: bytes = b"", length: int | None = None) -> socket.socket:
        """A request over a connection of its own, whose answer nobody has read yet."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        size = len(body) if length is None else length
        connection.sendall(f"{head}content-length: {size}\r\n\r\n".encode() + body)
        return connection

    def search(self, query: str) -> socket.socket:
        """A search that waits for its answer."""
        return self.send("POST", SEARCH, json.dumps({"query": query}).encode())

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            for work in ("search", "list", "job"):
                self.tell(f"open {work}")
        self.client.close()
        self.process.terminate()
        self.process.wait(20)
        self._reader.join(20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def gated(
    fakes: ModuleType, tmp_path: Path, blank_catalog: Path, until: Callable[..., Any]
) -> Iterator[Gated]:
    """A server with the empty knowledge base `k`."""
    shutil.copy(blank_catalog, tmp_path / "catalog.db")
    server = Gated(fakes, tmp_path)

    def ready() -> bool:
        assert server.process.poll() is None
        try:
            return server.client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    try:
        until(ready)
        server.client.post("/v1/knowledge_bases", json={"name": "k"})
        yield server
    finally:
        server.close()


def status(connection: socket.socket) -> int:
    """The answer's, once it is there."""
    with connection, HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def is_refusal(answer: httpx2.Response) -> bool:
    """429 in the one form of errors, with the seconds to wait."""
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (
        429,
        "overloaded_error",
        "overloaded",
        None,
    )
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-request-id"]
    return True


def fill(gated: Gated, until: Callable[..., Any], count: int) -> list[socket.socket]:
    """That many held searches, which arrived in this order: q0, q1, …"""
    gated.hold("search")
    asked = []
    for number in range(count):
        asked.append(gated.search(f"q{number}"))
        until(lambda: sum(gated.state()[part] for part in ("at_work", "waiting")) == len(asked))
    return asked


def test_searches_beyond_the_room_are_refused_at_once_and_the_others_answered_in_order(
    gated: Gated, until: Callable[..., Any]
) -> None:
    """Sixteen at work, 48 wait, more hear 429; everything else goes on; nobody overtakes."""
    asked = fill(gated, until, ROOM)
    at_once = sorted(gated.next("search") for _ in range(SEARCHES_AT_ONCE))
    assert at_once == sorted(f"q{number}" for number in range(SEARCHES_AT_ONCE))
    for _ in range(5):
        assert is_refusal(gated.client.post(SEARCH, json={"query": "late"}))
    assert is_refusal(gated.client.post("/v1/search", json={"query": "late", "knowledge_base_ids": ["k"]}))
    for path in ("/healthz", "/readyz", "/metrics", "/v1/knowledge_bases", DOCUMENTS):
        assert gated.client.get(path).status_code == 200
    # A model that is asked about passages waits for a search; what a run may search for, it searches later.
    late = {"model": "gpt-4.1-mini", "input": "late"}
    passages = {"type": "file_search", "vector_store_ids": ["k"]}
    assert is_refusal(gated.client.post("/v1/responses", json={**late, "tools": [passages]}))
    assert gated.client.post("/v1/runs", json=late).json()["error"]["code"] == "no_endpoint"
    assert 'kb_overloaded_total{work="search"} 7.0' in gated.client.get("/metrics").text
    assert gated.idle("search")

    for number in range(SEARCHES_AT_ONCE, ROOM):
        gated.tell("pass search")
        assert gated.next("search") == f"q{number}"
    gated.tell("open search")
    assert {status(connection) for connection in asked} == {200}
    assert gated.idle("search")
    assert gated.state()["at_work"] == gated.state()["waiting"] == 0


def test_a_client_that_leaves_the_line_costs_no_search(gated: Gated, until: Callable[..., Any]) -> None:
    """Its place goes to the next one, in the line and at the door."""
    asked = fill(gated, until, ROOM)
    for _ in range(SEARCHES_AT_ONCE):
        gated.next("search")
    assert is_refusal(gated.client.post(SEARCH, json={"query": "late"}))
    asked.pop(SEARCHES_AT_ONCE + 1).close()
    until(lambda: gated.state()["waiting"] == ROOM - SEARCHES_AT_ONCE - 1)
    asked.append(gated.search("late"))
    until(lambda: gated.state()["waiting"] == ROOM - SEARCHES_AT_ONCE)
    order = [f"q{number}" for number in range(SEARCHES_AT_ONCE, ROOM) if number != SEARCHES_AT_ONCE + 1]
    for query in [*order, "late"]:
        gated.tell("pass search")
        assert gated.next("search") == query
    gated.tell("open search")
    assert {status(connection) for connection in asked} == {200}
    assert gated.idle("search")


def test_other_work_is_bounded_too_and_searches_go_on(gated: Gated, until: Callable[..., Any]) -> None:
    """With every thread for other work held, more of it hears 429, while searches and health answer."""
    gated.hold("list")
    asked = [gated.send("GET", DOCUMENTS) for _ in range(OTHERS)]
    until(lambda: gated.state()["others"] == OTHERS)
    assert is_refusal(gated.client.get(DOCUMENTS))
    assert is_refusal(gated.client.delete(f"{DOCUMENTS}/doc_1"))
    assert is_refusal(gated.client.post(DOCUMENTS, json={"documents": [{"name": "a", "text": "b"}]}))
    for path in ("/healthz", "/readyz"):
        assert gated.client.get(path).status_code == 200
    assert gated.client.post(SEARCH, json={"query": "pump"}).status_code == 200
    gated.tell("open list")
    assert {status(connection) for connection in asked} == {200}
    assert gated.state()["others"] == 0
    assert 'kb_overloaded_total{work="request"} 3.0' in gated.client.get("/metrics").text


def test_bodies_in_memory_are_bounded(gated: Gated, until: Callable[..., Any]) -> None:
    """An upload that would not fit is refused, by its declared length or by what has come of it."""
    whole = json.dumps({"documents": [{"name": "a", "text": "word " * 16_000}]}).encode()
    first = gated.send("POST", DOCUMENTS, whole[:70_000], length=len(whole))
    until(lambda: gated.state()["bytes"] == 70_000)
    # Nothing of its body is waited for.
    assert status(gated.send("POST", DOCUMENTS, b"", length=50_000)) == 429
    chunked = gated.client.post(
        DOCUMENTS, content=iter([whole[:40_000]]), headers={"content-type": "application/json"}
    )
    assert is_refusal(chunked)
    assert gated.client.post(SEARCH, json={"query": "pump " * 1000}).status_code == 200
    assert gated.state()["bytes"] == 70_000
    first.sendall(whole[70_000:])
    assert status(first) == 202
    until(lambda: gated.state()["bytes"] == 0)
    again = gated.client.post(DOCUMENTS, content=whole, headers={"content-type": "application/json"})
    assert again.status_code == 202


def test_those_who_wait_for_their_documents_are_bounded(gated: Gated, until: Callable[..., Any]) -> None:
    """One too many is refused before its documents are accepted; without waiting it can send them."""
    gated.hold("job")
    sent = [
        gated.send("POST", f"{DOCUMENTS}?wait=true", json.dumps({"documents": [one]}).encode())
        for one in ({"name": "a", "text": "b"}, {"name": "c", "text": "d"})
    ]
    until(lambda: gated.state()["waits"] == 2)
    third = {"documents": [{"name": "e", "text": "f"}]}
    assert is_refusal(gated.client.post(f"{DOCUMENTS}?wait=true", json=third))
    assert gated.client.post(DOCUMENTS, json={"documents": [{"name": "g", "text": "h"}]}).status_code == 202
    gated.tell("open job")
    assert {status(connection) for connection in sent} == {200}
    until(lambda: len(gated.client.get(DOCUMENTS).json()["data"]) == 3)
    names = {one["uri"] for one in gated.client.get(DOCUMENTS).json()["data"]}
    assert names == {"a", "c", "g"}


def test_a_stop_lets_those_go_who_wait_for_their_documents(gated: Gated, until: Callable[..., Any]) -> None:
    """They hear at once that their documents are accepted, and the server does not wait for them."""
    gated.hold("job")
    one = {"documents": [{"name": "a", "text": "b"}]}
    waiting = gated.send("POST", f"{DOCUMENTS}?wait=true", json.dumps(one).encode())
    gated.next("job")
    until(lambda: gated.state()["waits"] == 1)
    gated.process.send_signal(signal.SIGTERM)
    assert status(waiting) == 202
    gated.tell("open job")
    gated.process.wait(20)
