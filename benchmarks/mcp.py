"""What MCP costs: a search through it beside the plain HTTP search, and a peek into a large document.

    python -m benchmarks.mcp [--collection DIR] [--queries N] [--rounds R]

One server, one client, one question after the other; the ways take turns, so that each meets the same
minutes. Whole documents, hybrid, top 10. *Bare* clients keep a connection of http.client and read the JSON;
the official client also checks every result against the tool's schema. Writes results/mcp.json.
"""

import argparse
import http.client
import json
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from mcp import Client

import kb
from benchmarks.report import commit, machine
from benchmarks.servers import Client as Plain
from benchmarks.servers import Server, free_port, running
from kb import tools
from kb.catalog.store import NewVersion, pack_vectors, text_hash
from kb.evaluate import evaluate, read
from kb.service import Service
from kb.types import Chunk, Document, Heading

HERE = Path(__file__).parent
DEFAULT = HERE.parent.parent / "shared" / "data" / "scifact"
LARGE = "benchmark-large"
NEWEST = "2026-07-28"

# Of one way before the next one's turn.
_IN_TURN = 10
_PEEKED = 2000
_CHARACTERS = 10_000_000

Ask = Callable[[str], Awaitable[None]]


class Bare:
    """Requests of the newest protocol over one keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, name: str, **arguments: object) -> Any:
        """The structured content of a result."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": NEWEST,
            "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": name, "arguments": arguments, "_meta": meta}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": NEWEST,
            "mcp-method": "tools/call",
            "mcp-name": name,
        }
        self._connection.request("POST", "/mcp", body, headers)
        answer = json.loads(self._connection.getresponse().read())
        if answer["result"]["isError"]:
            raise RuntimeError(answer["result"]["content"][0]["text"])
        return answer["result"]["structuredContent"]


def main() -> None:
    """Measure, print Markdown, write results/mcp.json."""
    arguments = _arguments()
    questions = list(read(arguments.collection).queries.values())[: arguments.queries]
    with kb.open(arguments.data_dir) as service:
        # The corpus goes in once; later runs find it.
        quality = evaluate(service, arguments.collection, mode="dense", whole_documents=True)
        base = service.knowledge_base(quality["knowledge_base"]).id
        version = _large(service)
        inside = _peeks(lambda start: tools.call(service, "peek_content", _span(version, start)))
    port = free_port()
    command = ["-m", "kb.cli", "serve", "--port", str(port), "--data-dir", str(arguments.data_dir)]
    first = {"query": questions[0]}
    with running(command, port, f"/v1/knowledge_bases/{base}/search", {}, first) as server:
        rows = anyio.run(_searches, server, base, questions, arguments.rounds)
        bare = Bare(port)
        through = _peeks(lambda start: bare.call("peek_content", **_span(version, start)))
    rows |= {"peek_content, in process": _summary(inside), "peek_content, MCP, bare": _summary(through)}
    _print(rows)
    out = {
        **machine(),
        "commit": commit(),
        "documents": quality["documents"],
        "queries": len(questions),
        "rounds": arguments.rounds,
        "rows": rows,
    }
    (HERE / "results" / "mcp.json").write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")


async def _searches(server: Server, base: str, questions: Sequence[str], rounds: int) -> dict[str, Any]:
    plain, bare = Plain(server), Bare(server.port)
    url = f"http://127.0.0.1:{server.port}/mcp"
    async with Client(url) as newest, Client(url, mode="legacy") as handshake:

        async def over_http(question: str) -> None:
            assert plain.ask(question)

        async def over_mcp(question: str) -> None:
            assert bare.call("search_knowledge_base", query=question, knowledge_base_id=base)["hits"]

        def official(client: Client) -> Ask:
            async def ask(question: str) -> None:
                given = {"query": question, "knowledge_base_id": base}
                assert not (await client.call_tool("search_knowledge_base", given)).is_error

            return ask

        ways: dict[str, Ask] = {
            "plain HTTP search, bare": over_http,
            "MCP, bare": over_mcp,
            "MCP, official client": official(newest),
            "MCP, official client, handshake era": official(handshake),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for ask in ways.values():
            await ask(questions[0])
        for _ in range(rounds):
            for at in range(0, len(questions), _IN_TURN):
                for name, ask in ways.items():
                    for question in questions[at : at + _IN_TURN]:
                        began = time.perf_counter()
                        await ask(question)
                        spent[name].append((time.perf_counter() - began) * 1000)
    return {name: _summary(times) for name, times in spent.items()}


def _span(version: str, start: int) -> dict[str, Any]:
    return {"content_version_id": version, "start": start, "end": start + _PEEKED}


def _peeks(peek: Callable[[int], object]) -> list[float]:
    chosen = random.Random(7)
    peek(0)
    spent = []
    for _ in range(500):
        start = chosen.randrange(_CHARACTERS - _PEEKED)
        began = time.perf_counter()
        peek(start)
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def _large(service: Service) -> str:
    """The version of a document of ten million characters; with one chunk, since nobody searches it."""
    if LARGE in {one.name for one in service.knowledge_bases()}:
        (document,) = service.documents(LARGE)
        return document.version_id
    made = service.create_knowledge_base(LARGE)
    words = random.Random(7)
    section = [
        f"The valve {words.randrange(10**9)} opens at {words.randrange(100)} bar. " for _ in range(400)
    ]
    part = "".join(section) + "\n"
    text = (part * (_CHARACTERS // len(part) + 1))[:_CHARACTERS]
    headings = tuple(Heading(1, f"Section {start}", start) for start in range(0, _CHARACTERS, len(part)))
    document = Document(text, "text/plain", headings=headings)
    chunk = Chunk(0, 100, page=None, heading=None, context="")
    version = NewVersion("large.txt", "large", "0" * 64, len(text), document, [chunk])
    vector = np.zeros((1, made.dim), np.float32)
    vector[0, 0] = 1
    packed = {text_hash(text[:100]): pack_vectors(vector)[0]}
    source = service.catalog.store.source(made.id, "upload")
    service.catalog.store.commit(made.id, source, made.fingerprint, [version], packed)
    return service.documents(LARGE)[0].version_id


def _summary(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def _print(rows: dict[str, Any]) -> None:
    plain = rows["plain HTTP search, bare"]["p50_ms"]
    print("| | p50 ms | p99 ms | p50 / plain |")
    print("|---|---|---|---|")
    for name, row in rows.items():
        ratio = "" if name.startswith("peek") else f"{row['p50_ms'] / plain:.2f}"
        print(f"| {name} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {ratio} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--collection", type=Path, default=DEFAULT)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
