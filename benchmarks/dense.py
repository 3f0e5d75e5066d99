"""The dense index: kinds of bases, the way through filters, opening and adding, beside an exact scan.

    python -m benchmarks.dense [--sizes 5000 100000] [--vectors FILE --queries FILE]

One thread. Every kind is timed in turn with the exact float32 scan over the same vectors, some queries at a
time, so that a neighbour's noise falls on all. More vectors than the file holds are made by perturbation:
each is a stored one plus noise of 0.6 of its length, normalised again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.report import machine
from kb.index.faiss_index import FaissIndex
from kb.types import Allowed

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data" / "scale"
NONE = np.empty(0, np.int64)
K = 10
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
# Queries asked of one kind before the next has its turn.
IN_TURN = 50
_NOISE = 0.6

# What a process gains by opening an index and asking it 2,000 questions that lie all over it.
_RESIDENT = """
import os, sys, pathlib, numpy as np
from kb.index.faiss_index import FaissIndex
import faiss
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
dim, random = int(sys.argv[2]), np.random.default_rng(0)
before = resident()
index = FaissIndex(pathlib.Path(sys.argv[1]), fingerprint="f", dim=dim)
rows = random.choice(index.ids(), 2000)
base = index._state.base
for row in rows:
    index.search(base.vectors(np.array([row]))[0], 10)
print(resident() - before)
"""

Search = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    """Measure, print Markdown, write results/dense.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 100_000])
    parser.add_argument("--vectors", type=Path, default=SHARED / "vectors-100k.i8.npy")
    parser.add_argument("--queries", type=Path, default=SHARED / "query-vectors.i8.npy")
    parser.add_argument("--count", type=int, default=300, help="queries")
    parser.add_argument(
        "--beside",
        nargs="*",
        default=["scan", "IVF", "HNSW"],
        help="the other kinds, by how their names begin",
    )
    parser.add_argument("--keep", type=Path, help="our index, kept between runs of one size")
    arguments = parser.parse_args()
    questions = unit(np.load(arguments.queries))[: arguments.count]
    results = []
    for size in arguments.sizes:
        stored = grown(unit(np.load(arguments.vectors)), size)
        results.append(measured(stored, questions, arguments.beside, arguments.keep))
    out = HERE / "results" / f"dense-{'-'.join(str(size) for size in arguments.sizes)}.json"
    out.write_text(json.dumps({**machine(), "sizes": results}, indent=2) + "\n", encoding="utf-8")
    plot(results[-1], out.with_suffix(".png"))


def plot(result: dict[str, Any], path: Path) -> None:
    """Recall against latency of every kind of one size: the further up and left the better."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for name, row in result["kinds"].items():
        axis.scatter(row["p50_ms"], row["recall"], color="#1f5fa8" if name == "**kb**" else "#b9bec6")
        axis.annotate(name.strip("*"), (row["p50_ms"], row["recall"]), fontsize=7)
    axis.set(xscale="log", xlabel="p50 ms", ylabel="recall@10", title=f"{result['size']} vectors")
    figure.savefig(path, dpi=90)


def unit(rows: np.ndarray) -> np.ndarray:
    """float32 rows of unit length."""
    wide = rows.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def grown(rows: np.ndarray, size: int) -> np.ndarray:
    """`size` float16 rows: the first of them, or all and perturbed copies."""
    if size <= len(rows):
        return rows[:size].astype(np.float16)
    random = np.random.default_rng(0)
    made = [rows.astype(np.float16)]
    while (left := size - sum(map(len, made))) > 0:
        noise = unit(random.standard_normal(rows.shape).astype(np.float32))
        made.append(unit(rows + _NOISE * noise)[:left].astype(np.float16))
    return np.concatenate(made)


def measured(
    stored: np.ndarray, questions: np.ndarray, beside: Sequence[str], keep: Path | None
) -> dict[str, Any]:
    """All tables of one size."""
    size, dim = stored.shape
    print(f"\n### {size} vectors\n", flush=True)
    exact = faiss.IndexFlatIP(dim)
    for at in range(0, size, 50_000):
        exact.add(unit(stored[at : at + 50_000]))
    faiss.omp_set_num_threads(2)
    best = exact.search(questions, K)[0]
    with tempfile.TemporaryDirectory() as folder:
        ours, facts = kept(keep, stored) if keep else build(Path(folder), stored)
        kinds: dict[str, tuple[Search, float, float]] = {
            "exact scan, float32": (lambda q: exact.search(q[None], K), 0.0, 4.0 * dim),
            "**kb**": (
                lambda q: (lambda found: (found.scores[None], found.ids[None]))(ours.search(q, K)),
                facts["build_s"],
                facts["bytes_per_vector"],
            ),
        }
        kinds.update(alternatives(exact, stored, beside))
        faiss.omp_set_num_threads(1)
        table = timed({name: kind[0] for name, kind in kinds.items()}, questions, best)
        for name, (_, seconds, size_of) in kinds.items():
            table[name].update(build_s=round(seconds, 1), bytes_per_vector=round(size_of))
        base = table["exact scan, float32"]["p50_ms"]
        print(
            "| | recall@10 | p50 ms | p99 ms | of the exact scan | build s | bytes/vector |\n"
            "|---|---|---|---|---|---|---|"
        )
        for name, row in table.items():
            print(
                f"| {name} | {row['recall']:.4f} | {row['p50_ms']:.3f} | {row['p99_ms']:.2f} "
                f"| 1/{base / row['p50_ms']:.1f} | {row['build_s']} | {row['bytes_per_vector']} |",
                flush=True,
            )
        filters = filtered(ours, stored, questions)
        print("\n| filter keeps | p50 ms | of unfiltered | recall@10 | exact |\n|---|---|---|---|---|")
        for row in filters:
            print(
                f"| {row['share']:.2%} | {row['p50_ms']:.3f} | {row['ratio']:.2f} | {row['recall']:.4f} "
                f"| {row['exact']} |",
                flush=True,
            )
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    return {"size": size, "kinds": table, "filters": filters, "facts": facts}


def kept(folder: Path, stored: np.ndarray) -> tuple[FaissIndex, dict[str, Any]]:
    """The same as `build`, or what an earlier run left there."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = folder / "facts.json"
    if facts.is_file():
        index = FaissIndex(folder, fingerprint="f", dim=stored.shape[1])
        return index, json.loads(facts.read_text(encoding="utf-8"))
    index, told = build(folder, stored)
    facts.write_text(json.dumps(told), encoding="utf-8")
    return index, told


def build(folder: Path, stored: np.ndarray) -> tuple[FaissIndex, dict[str, Any]]:
    """Our index over some vectors, reopened; and what that took."""
    size, dim = stored.shape
    index = FaissIndex(folder, fingerprint="f", dim=dim)
    index.apply(1, np.arange(size, dtype=np.int64), stored, NONE)
    start = time.perf_counter()
    index.checkpoint()
    built = time.perf_counter() - start
    start = time.perf_counter()
    index = FaissIndex(folder, fingerprint="f", dim=dim)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    index.apply(2, np.arange(size, size + 1000, dtype=np.int64), stored[:1000], NONE)
    index.search(unit(stored[:1])[0], K)
    added = time.perf_counter() - start
    rows = sum(path.stat().st_size for path in folder.glob("*.rows"))
    whole = sum(path.stat().st_size for path in folder.iterdir())
    base = index._state.base
    assert base is not None
    resident = subprocess.run(
        [sys.executable, "-c", _RESIDENT, str(folder), str(dim)], capture_output=True, text=True, check=True
    )
    return FaissIndex(folder, fingerprint="f", dim=dim), {
        "resident_bytes_per_vector": round(int(resident.stdout) / size),
        "build_s": round(built, 1),
        "open_ms": round(opened * 1000, 1),
        "add_1000_ms": round(added * 1000, 1),
        # The stored vectors are read from their file where they are needed, and not kept.
        "bytes_per_vector": round((whole - rows) / size),
        "file_bytes_per_vector": round(whole / size),
        "effort": None if base.effort is None else base.effort.stored(),
    }


def alternatives(
    exact: Any, stored: np.ndarray, beside: Sequence[str]
) -> dict[str, tuple[Search, float, float]]:
    """What else FAISS offers, each refined by the stored vectors where its codes are lossy."""
    dim = stored.shape[1]
    lists = max(16, round(4 * len(stored) ** 0.5 / 16) * 16)
    recipes: dict[str, tuple[str, Callable[[Any], Any], int]] = {
        "scan, float16": ("SQfp16", lambda index: None, 0),
        "scan, 8 bits + 20": ("SQ8", lambda index: None, 20),
        "scan, RaBitQ 1 bit + 100": ("RaBitQ", lambda index: None, 100),
        "scan, RaBitQ fast-scan 1 bit + 100": ("RaBitQfs", lambda index: None, 100),
        f"IVF{lists}, 8 bits, nprobe 64 + 20": (
            f"IVF{lists},SQ8",
            lambda index: faiss.SearchParametersIVF(nprobe=64),
            20,
        ),
        f"IVF{lists}, RaBitQ fast-scan, nprobe 64 + 100": (
            f"IVF{lists},RaBitQfs",
            lambda index: faiss.SearchParametersIVF(nprobe=64),
            100,
        ),
        "HNSW32, float32, beam 128": (
            "HNSW32,Flat",
            lambda index: faiss.SearchParametersHNSW(efSearch=128),
            0,
        ),
        "HNSW32, 4 bits, beam 128 + 40": (
            "HNSW32_SQ4",
            lambda index: faiss.SearchParametersHNSW(efSearch=128),
            40,
        ),
        "HNSW32, 8 bits, beam 128 + 20": (
            "HNSW32_SQ8",
            lambda index: faiss.SearchParametersHNSW(efSearch=128),
            20,
        ),
        "HNSW32, 8 bits, beam 256 + 20": (
            "HNSW32_SQ8",
            lambda index: faiss.SearchParametersHNSW(efSearch=256),
            20,
        ),
    }
    made: dict[str, Any] = {}
    kinds = {}
    faiss.omp_set_num_threads(2)
    for name, (recipe, parameters, refine) in recipes.items():
        if not name.startswith(tuple(beside)):
            continue
        start = time.perf_counter()
        if recipe not in made:
            index = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
            if recipe.startswith("HNSW"):
                index.hnsw.efConstruction = 200
            rows = unit(stored)
            index.train(rows)
            index.add(rows)
            made[recipe] = (
                index,
                time.perf_counter() - start,
                len(faiss.serialize_index(index)) / len(stored),
            )
        index, seconds, size_of = made[recipe]
        chosen = parameters(index)

        def search(q: np.ndarray, index: Any = index, parameters: Any = chosen, refine: int = refine) -> Any:
            scores, rows = index.search(q[None], refine or K, params=parameters)
            if not refine:
                return scores, rows
            rows = rows[0][rows[0] >= 0]
            scores = np.einsum("ij,j->i", unit(stored[rows]), q)
            order = np.argsort(-scores)[:K]
            return scores[order][None], rows[order][None]

        kinds[name] = (search, seconds, size_of)
    return kinds


def timed(
    searches: dict[str, Search], questions: np.ndarray, best: np.ndarray
) -> dict[str, dict[str, float]]:
    """Recall and latency of each, in turn."""
    spent: dict[str, list[float]] = {name: [] for name in searches}
    hit = dict.fromkeys(searches, 0)
    for search in searches.values():
        search(questions[0])
    for at in range(0, len(questions), IN_TURN):
        for name, search in searches.items():
            for number in range(at, min(at + IN_TURN, len(questions))):
                start = time.perf_counter()
                scores = search(questions[number])[0]
                spent[name].append((time.perf_counter() - start) * 1000)
                hit[name] += int((scores[0][:K] >= best[number, -1] - 1e-6).sum())
    return {
        name: {
            "recall": hit[name] / best.size,
            "p50_ms": round(statistics.median(times), 4),
            "p99_ms": round(statistics.quantiles(times, n=100)[98], 4),
        }
        for name, times in spent.items()
    }


def filtered(index: FaissIndex, stored: np.ndarray, questions: np.ndarray) -> list[dict[str, Any]]:
    """At each share: latency in turn with the unfiltered search, recall against the exact filtered scan."""
    size = len(stored)
    random = np.random.default_rng(1)
    chunks = np.arange(size, dtype=np.int64)
    masks: dict[float, np.ndarray] = {1.0: np.ones(size, bool)}
    for share in SHARES:
        masks[share] = random.random(size) < share
        masks[share][random.integers(size)] = True
    spent: dict[float, list[float]] = {share: [] for share in masks}
    found: dict[float, list[Any]] = {share: [] for share in masks}
    for at in range(0, len(questions), IN_TURN):
        for share, mask in masks.items():
            for question in questions[at : at + IN_TURN]:
                allow = None if share == 1 else Allowed(chunks, mask)
                start = time.perf_counter()
                answer = index.search(question, K, allow=allow)
                spent[share].append((time.perf_counter() - start) * 1000)
                found[share].append(answer)
    plain = statistics.median(spent[1.0])
    rows = []
    for share in SHARES:
        kept = np.flatnonzero(masks[share])
        oracle = faiss.IndexFlatIP(stored.shape[1])
        for at in range(0, len(kept), 50_000):
            oracle.add(unit(stored[kept[at : at + 50_000]]))
        faiss.omp_set_num_threads(2)
        best = oracle.search(questions, min(K, len(kept)))[0]
        faiss.omp_set_num_threads(1)
        hit = sum(
            int((answer.scores >= scores[-1] - 1e-6).sum())
            for answer, scores in zip(found[share], best, strict=True)
        )
        p50 = statistics.median(spent[share])
        rows.append(
            {
                "share": share,
                "p50_ms": round(p50, 4),
                "ratio": round(p50 / plain, 3),
                "recall": hit / best.size,
                "exact": all(answer.exact for answer in found[share]),
            }
        )
    return rows


if __name__ == "__main__":
    main()
