"""Retrieval latency, throughput, ingest rate, cold start and memory, beside the limit and the alternative.

    python -m benchmarks.retrieval [--collection DIR] [--ingest-documents N] [--seconds S] [--rounds R]

Every row is measured on the same machine and in the same minutes; rounds alternate between the
servers and the session alone, and medians are kept. Search over whole documents, dense where nothing else is
said. Writes results/retrieval.json and .png. Takes 5 minutes; the first time, the corpus is embedded before.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import kb
from benchmarks.limit import Limit
from benchmarks.rates import ingest_rates
from benchmarks.report import commit, machine, plot, ratios, table
from benchmarks.servers import Server, concurrent, free_port, running, sequential
from kb.embed.folder import DEFAULT_MODEL, exported, locate
from kb.embed.runtime import OnnxEmbedder
from kb.evaluate import evaluate, read

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEFAULT = HERE.parent.parent / "shared" / "data" / "scifact"

# Queries asked of one server before the next one's turn, and slices of a round's load.
_IN_TURN = 10
_SLICES = 4
# Cold starts of each server; the first one reads files that the later ones find in memory.
_STARTS = 3
# Queries that the session alone is given at once: what the service takes along at most.
_BATCH = 32


def main() -> None:
    """Run, print the table, write the files."""
    arguments = _arguments()
    collection = read(arguments.collection)
    if collection.entries is None:
        raise SystemExit(f"{arguments.collection} has no corpus.jsonl")
    with kb.open(arguments.data_dir) as service:
        # The corpus goes in once; later runs find it.
        quality = evaluate(service, arguments.collection, mode="dense", whole_documents=True)
        folder = exported(DEFAULT_MODEL, service.settings.models_dir)
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            base = service.knowledge_base(quality["knowledge_base"])
            rows = list(service.catalog.feed.after(base.id, 0, base.fingerprint, base.dim))
            np.save(work / "vectors.npy", np.concatenate([step.vectors for step in rows]))
            texts = [text for step in rows for text in step.texts]
            (work / "texts").write_text("\0".join(texts), encoding="utf-8")
            queries = list(collection.queries.values())[:200]
            limit = Limit(folder, work / "vectors.npy")
            columns = {
                "in-process limit": {"p50_ms": _median_ms(lambda q: limit.search(q, 10), queries)},
                "kb in process": {
                    "p50_ms": _median_ms(lambda q: service.search(q, [base.id], mode="dense"), queries)
                },
            }
            columns.update(_over_http(arguments, base.name, folder, work, queries, limit.embedder))
            lines = [entry.data for entry in collection.entries[: arguments.ingest_documents]]
            for label, rate in ingest_rates(folder, lines).items():
                columns[label]["documents_per_second"] = rate
    result = {
        "collection": collection.name,
        "documents": quality["documents"],
        "ingest_documents": arguments.ingest_documents,
        "ndcg@10": quality["ndcg@10"],
        "machine": machine(),
        "runtime": limit.embedder.runtime,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.retrieval " + " ".join(sys.argv[1:]),
        "columns": columns,
        "ratios": ratios(columns),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "retrieval.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    plot(result, RESULTS / "retrieval.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--collection", type=Path, default=DEFAULT, help="a folder in BEIR layout")
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    parser.add_argument("--ingest-documents", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=4, help="of load per server and round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _median_ms(call: Any, queries: list[str]) -> float:
    # Once unmeasured: what was loaded before leaves threads that spin for a while, and every length of a
    # query costs something the first time.
    spent = []
    for query in queries + queries:
        start = time.perf_counter()
        call(query)
        spent.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(spent[len(queries) :]), 2)


def _in_batches(embedder: OnnxEmbedder, queries: list[str], seconds: float) -> float:
    """Queries embedded per second by the session alone, `_BATCH` at a time."""
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        at = done % len(queries)
        done += len(embedder.embed_queries(queries[at : at + _BATCH]))
    return done / spent


def _over_http(
    arguments: argparse.Namespace,
    name: str,
    folder: Path,
    work: Path,
    queries: list[str],
    embedder: OnnxEmbedder,
) -> dict[str, dict[str, float]]:
    """The three servers side by side, and the session alone."""
    ports = [free_port() for _ in range(3)]
    environment = {
        "BENCH_FOLDER": str(folder),
        "BENCH_MODEL": str(locate(DEFAULT_MODEL)),
        "BENCH_VECTORS": str(work / "vectors.npy"),
        "BENCH_TEXTS": str(work / "texts"),
        "HF_HUB_OFFLINE": "1",
    }
    raw = ["-m", "uvicorn", "--no-access-log", "--port"]
    commands = {
        "HTTP limit": ([*raw, str(ports[0]), "--factory", "benchmarks.limit:app"], "/search"),
        "kb": (
            ["-m", "kb.cli", "serve", "--port", str(ports[1]), "--data-dir", str(arguments.data_dir)],
            f"/v1/knowledge_bases/{name.replace(' ', '%20')}/search",
        ),
        "afternoon service": ([*raw, str(ports[2]), "benchmarks.afternoon:app"], "/search"),
    }
    columns: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        servers = {}
        for (label, (command, path)), port in zip(commands.items(), ports, strict=True):
            more = {"mode": "dense"} if label == "kb" else {}
            cold = []
            for attempt in range(_STARTS):
                start = running(command, port, path, environment, {"query": queries[0], **more})
                if attempt < _STARTS - 1:
                    with start as server:
                        cold.append(server.cold_seconds)
                else:
                    servers[label] = stack.enter_context(start)
                    cold.append(servers[label].cold_seconds)
            columns[label] = {"cold_start_s": round(statistics.median(cold), 2)}
        asked: dict[str, tuple[Server, dict[str, object]]] = {
            "HTTP limit": (servers["HTTP limit"], {}),
            "kb": (servers["kb"], {"mode": "dense"}),
            "kb, hybrid": (servers["kb"], {"mode": "hybrid"}),
            "afternoon service": (servers["afternoon service"], {}),
        }
        single: dict[str, list[float]] = {label: [] for label in asked}
        loaded: dict[str, list[float]] = {label: [] for label in ["session in batches", *asked]}
        for _ in range(arguments.rounds):
            # A few queries to each in turn: a neighbour's noise of seconds then falls on all of them.
            for at in range(0, len(queries), _IN_TURN):
                for label, (server, more) in asked.items():
                    single[label] += sequential(server, queries[at : at + _IN_TURN], **more)
            for _ in range(_SLICES):
                seconds = arguments.seconds / _SLICES
                loaded["session in batches"].append(_in_batches(embedder, queries, seconds))
                for label, (server, more) in asked.items():
                    loaded[label].append(concurrent(server, queries, 8, seconds, **more))
        for label, rates in loaded.items():
            columns.setdefault(label, {})["queries_per_second_at_8"] = round(statistics.median(rates), 1)
        for label, spent in single.items():
            cuts = statistics.quantiles(spent, n=100)
            columns[label].update(p50_ms=round(cuts[49], 2), p99_ms=round(cuts[98], 2))
        for label, server in servers.items():
            columns[label]["memory_mb"] = round(server.memory_mb())
    return columns


if __name__ == "__main__":
    main()
