"""Retrieval latency, throughput, ingest rate, cold start and memory, beside the limit and the alternative.

    python -m benchmarks.retrieval [--collection DIR] [--ingest-documents N] [--seconds S] [--rounds R]

Every column is measured on the same machine and in the same minutes; rounds alternate between the servers,
and medians are kept. Dense search over whole documents. Writes results/retrieval.json and results/retrieval.png.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import kb
from benchmarks.servers import concurrent, free_port, running, sequential
from kb.embed.folder import DEFAULT_MODEL, exported, locate
from kb.evaluate import EntryParser, evaluate, read
from kb.types import ChunkingPolicy

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEFAULT = HERE.parent.parent / "shared" / "data" / "scifact"


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
            base = next(one for one in service.knowledge_bases() if one.name.startswith("eval") and one.documents == quality["documents"])
            rows = [step for step in service.catalog.feed.after(base.id, 0, base.fingerprint, base.dim)]
            np.save(work / "vectors.npy", np.concatenate([step.vectors for step in rows]))
            texts = [text for step in rows for text in step.texts]
            (work / "texts").write_text("\0".join(texts), encoding="utf-8")
            queries = list(collection.queries.values())[:200]
            columns = {
                "in-process limit": _limit_in_process(folder, work, queries),
                "kb in process": {"p50_ms": _median_ms(lambda q: service.search(q, [base.id], mode="dense"), queries)},
            }
            columns.update(_over_http(arguments, base.name, folder, work, queries))
            _ingest_rates(columns, folder, [entry.line for entry in collection.entries], arguments.ingest_documents)
    result = {
        "collection": collection.name,
        "documents": quality["documents"],
        "ingest_documents": arguments.ingest_documents,
        "ndcg@10": quality["ndcg@10"],
        "machine": _machine(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.retrieval " + " ".join(sys.argv[1:]),
        "columns": columns,
        "ratios": _ratios(columns),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "retrieval.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    plot(result, RESULTS / "retrieval.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", type=Path, default=DEFAULT, help="a folder in BEIR layout")
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    parser.add_argument("--ingest-documents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6, help="of load per server and round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _limit_in_process(folder: Path, work: Path, queries: list[str]) -> dict[str, float]:
    from benchmarks.limit import Limit

    limit = Limit(folder, work / "vectors.npy")
    start = time.perf_counter()
    for query in queries:
        limit.search(query, 10)
    return {
        "p50_ms": _median_ms(lambda query: limit.search(query, 10), queries),
        "queries_per_second_at_8": round(len(queries) / (time.perf_counter() - start), 1),
    }


def _median_ms(call: Any, queries: list[str]) -> float:
    spent = []
    for query in queries[:1] + queries:
        start = time.perf_counter()
        call(query)
        spent.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(spent[1:]), 2)


def _over_http(
    arguments: argparse.Namespace, name: str, folder: Path, work: Path, queries: list[str]
) -> dict[str, dict[str, float]]:
    """The three servers, side by side."""
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
            for attempt in range(3):
                start = running(command, port, path, environment, {"query": queries[0], **more})
                if attempt < 2:
                    with start as server:
                        cold.append(server.cold_seconds)
                else:
                    servers[label] = stack.enter_context(start)
                    cold.append(servers[label].cold_seconds)
            columns[label] = {"cold_start_s": round(statistics.median(cold), 2)}
        single: dict[str, list[float]] = {label: [] for label in servers}
        loaded: dict[str, list[float]] = {label: [] for label in servers}
        for _ in range(arguments.rounds):
            for label, server in servers.items():
                more = {"mode": "dense"} if label == "kb" else {}
                single[label] += sequential(server, queries, **more)
            for label, server in servers.items():
                more = {"mode": "dense"} if label == "kb" else {}
                loaded[label].append(concurrent(server, queries, 8, arguments.seconds, **more))
        for label, server in servers.items():
            cuts = statistics.quantiles(single[label], n=100)
            columns[label].update(
                p50_ms=round(cuts[49], 2),
                p99_ms=round(cuts[98], 2),
                queries_per_second_at_8=round(statistics.median(loaded[label]), 1),
                memory_mb=round(server.memory_mb()),
            )
    return columns


def _ingest_rates(columns: dict[str, dict[str, float]], folder: Path, lines: list[bytes], count: int) -> None:
    """Documents per second into an empty index: the session alone, the service, and torch."""
    import faiss

    from benchmarks.limit import OnnxEmbedder

    documents = [json.loads(line) for line in lines[:count]]
    texts = [f"{one['title']} {one['text']}" for one in documents]
    embedder = OnnxEmbedder(folder)

    def limit() -> None:
        index = faiss.IndexFlatIP(embedder.dim)
        for at in range(0, len(texts), 256):
            index.add(embedder.embed_passages(texts[at : at + 256]))

    def service() -> None:
        from kb.ingest.source import Blob

        with tempfile.TemporaryDirectory() as fresh:
            (Path(fresh) / "models").symlink_to(folder.parent)
            with kb.open(fresh) as opened:
                base = opened.create_knowledge_base("rate", chunking=ChunkingPolicy(None))
                blobs = [Blob(one["_id"], line) for one, line in zip(documents, lines, strict=False)]
                opened.level(base, "corpus", blobs, EntryParser())

    def torch() -> None:
        script = (
            "import sys, json, time, faiss; from sentence_transformers import SentenceTransformer\n"
            "texts = json.load(sys.stdin); model = SentenceTransformer(sys.argv[1], device='cpu')\n"
            "model.encode(texts[:8]); start = time.perf_counter()\n"
            "index = faiss.IndexFlatIP(384); index.add(model.encode(texts, normalize_embeddings=True))\n"
            "print(time.perf_counter() - start)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(locate(DEFAULT_MODEL))],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            check=True,
        )
        columns["afternoon service"]["documents_per_second"] = round(count / float(done.stdout), 2)

    for label, run in (("in-process limit", limit), ("kb", service)):
        start = time.perf_counter()
        run()
        columns[label]["documents_per_second"] = round(count / (time.perf_counter() - start), 2)
    torch()


def _ratios(columns: dict[str, dict[str, float]]) -> dict[str, float]:
    mine, http, bare = columns["kb"], columns["HTTP limit"], columns["in-process limit"]
    return {
        "p50 / HTTP limit": round(mine["p50_ms"] / http["p50_ms"], 3),
        "throughput at 8 / HTTP limit": round(mine["queries_per_second_at_8"] / http["queries_per_second_at_8"], 3),
        "ingest / in-process limit": round(mine["documents_per_second"] / bare["documents_per_second"], 3),
    }


def _machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        text = info.read_text()
        name = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), name)
        flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    return {"cpu": name, "cores": os.cpu_count(), "features": found, "python": platform.python_version()}


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE)
    return done.stdout.strip()


FIGURES = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "queries_per_second_at_8": "queries/s at 8",
    "documents_per_second": "documents/s in",
    "cold_start_s": "cold start s",
    "memory_mb": "memory MB",
}


def table(result: dict[str, Any]) -> str:
    """The columns as a Markdown table, and the ratios below."""
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for label, column in result["columns"].items():
        lines.append(f"| {label} | " + " | ".join(str(column.get(name, "–")) for name in FIGURES) + " |")
    lines += ["", *(f"{name}: {value}" for name, value in result["ratios"].items())]
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """One small bar chart per figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(FIGURES), figsize=(3 * len(FIGURES), 2.6), layout="constrained")
    for axis, (name, title) in zip(axes, FIGURES.items(), strict=True):
        shown = {label: column[name] for label, column in result["columns"].items() if name in column}
        colours = ["#1f5fa8" if label.startswith("kb") else "#b9bec6" for label in shown]
        bars = axis.barh(list(shown), list(shown.values()), color=colours)
        axis.bar_label(bars, padding=2, fontsize=7)
        axis.set_title(title, fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.25)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
