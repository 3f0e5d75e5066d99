"""What a recall target costs, and whether it is met: `kb tune` on real questions.

    python -m benchmarks.tune [--vectors FILE --queries FILE]

One thread. For every target the effort that calibration finds with questions made of the index's own vectors,
the recall that real questions then get against an exact scan, and their median time; then the least beam and
the fewest refined codes with which the same real questions reach the target.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.dense import HERE, IN_TURN, NONE, SHARED, unit
from benchmarks.report import machine
from kb.index.faiss_index import FaissIndex
from kb.index.policy import graph_refine, least_beam, least_refine
from kb.index.segment import Base

TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
# Steps of a tenth.
LADDER = [round(10 * 1.1**step) for step in range(70)]


def main() -> None:
    """Measure, print Markdown, write results/tune.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=Path, default=SHARED / "vectors-100k.i8.npy")
    parser.add_argument("--queries", type=Path, default=SHARED / "query-vectors.i8.npy")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    stored = unit(np.load(arguments.vectors)).astype(np.float16)
    questions = unit(np.load(arguments.queries))
    exact = faiss.IndexFlatIP(stored.shape[1])
    exact.add(unit(stored))
    best = exact.search(questions, 100)[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), stored, questions, best)
    out = {**machine(), "rows": len(stored), "questions": len(questions), "targets": rows}
    (HERE / "results" / "tune.json").write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")


def measured(
    folder: Path, stored: np.ndarray, questions: np.ndarray, best: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each target."""
    wanted = [TARGETS[0]]
    index = FaissIndex(folder, fingerprint="f", dim=stored.shape[1], recall=lambda: wanted[0])
    index.apply(1, np.arange(len(stored), dtype=np.int64), stored, NONE)
    index.checkpoint()
    bases, rows = [], []
    for wanted[0] in TARGETS:
        started = time.perf_counter()
        index.tune()
        base = index._state.base
        assert base is not None
        assert base.effort is not None
        bases.append(base)
        seconds = round(time.perf_counter() - started, 1)
        rows.append({"target": wanted[0], "effort": base.effort.stored(), "tuned_in_s": seconds})
    for k in (10, 100):
        ask(bases, rows, questions, best[:, :k])
    print("| target | beam, 10 and 100 | refined | recall@10 | recall@100 | p50 ms, 10 | 100 | found in s |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        effort = row["effort"]
        print(
            f"| {row['target']} | {effort['beam_10']}, {effort['beam_100']} "
            f"| {effort['refine_10']}, {effort['refine_100']} "
            f"| {row['recall_10']:.4f} | {row['recall_100']:.4f} "
            f"| {row['ms_10']:.2f} | {row['ms_100']:.2f} | {row['tuned_in_s']} |",
            flush=True,
        )
    needed(bases[0], questions, best, rows)
    return rows


def ask(bases: list[Base], rows: list[dict[str, Any]], questions: np.ndarray, best: np.ndarray) -> None:
    """What real questions find at each effort, and in what time: in turn, so that noise falls on all."""
    k, every = best.shape[1], np.ones(len(bases[0]), bool)
    times: list[list[float]] = [[] for _ in bases]
    found: list[list[np.ndarray]] = [[] for _ in bases]
    for at in range(0, len(questions), IN_TURN):
        for base, spent, scores in zip(bases, times, found, strict=True):
            for question in questions[at : at + IN_TURN]:
                started = time.perf_counter()
                scores.append(base.search(question, k, every)[1])
                spent.append((time.perf_counter() - started) * 1000)
    for row, spent, scores in zip(rows, times, found, strict=True):
        row[f"ms_{k}"] = round(median(spent), 3)
        row[f"recall_{k}"] = round(recall(scores, best), 5)


def needed(base: Base, questions: np.ndarray, best: np.ndarray, rows: list[dict[str, Any]]) -> None:
    """The least with which each target is reached, beside the least that is allowed."""
    every = np.ones(len(base), bool)

    def walked(question: np.ndarray, k: int, beam: int) -> np.ndarray:
        return base.score(question, base.walk(question, beam)[: graph_refine(k)])

    def scanned(question: np.ndarray, k: int, count: int) -> np.ndarray:
        return base.score(question, base.scan(question, count, every, len(base)))

    def reached(find: Callable[[np.ndarray, int, int], np.ndarray], k: int, some: int) -> dict[int, float]:
        at: dict[int, float] = {}
        for effort in (effort for effort in LADDER if effort >= k):
            at[effort] = recall([find(question, k, effort) for question in questions[:some]], best[:some, :k])
            if at[effort] >= TARGETS[-1]:
                break
        return at

    curves = {
        "beam 10": reached(walked, 10, 500),
        "beam 100": reached(walked, 100, 200),
        "refined 10": reached(scanned, 10, 200),
        "refined 100": reached(scanned, 100, 100),
    }
    print("\n| target | " + " | ".join(f"{name}, least allowed" for name in curves) + " |")
    print("|---|---|---|---|---|")
    for row in rows:
        target = row["target"]
        allowed = [*(least_beam(k, len(base), target) for k in (10, 100))]
        allowed += [least_refine(k, target) for k in (10, 100)]
        row["needed"] = {
            name: next((effort for effort, found in curve.items() if found >= target), None)
            for name, curve in curves.items()
        }
        cells = [f"{one or '–'}, {least}" for one, least in zip(row["needed"].values(), allowed, strict=True)]
        print(f"| {target} | " + " | ".join(cells) + " |", flush=True)


def recall(found: list[np.ndarray], best: np.ndarray) -> float:
    """The share of the best that was found, by score: of equal ones any will do."""
    k = best.shape[1]
    hit = sum(min(k, int((scores >= row[-1] - 1e-6).sum())) for scores, row in zip(found, best, strict=True))
    return float(hit / best.size)


if __name__ == "__main__":
    main()
