"""Which chunk size finds the answer: characters of known answers inside a fixed budget of retrieved text.

    python -m benchmarks.chunking [--sizes 64 90 120 160 200 240] [--overlap 0]

Judged on ../shared/data/chunking_evaluation: questions with the exact spans of their answers. Dense search;
the best chunks are read in order until the budget is spent, so that large chunks buy no advantage by being
large. Vectors are kept in a knowledge base per size: a second run embeds nothing. Prints a Markdown table.
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import fmean

import kb
from kb.types import ChunkingPolicy, Hit, Mode

HERE = Path(__file__).parent
DEFAULT = HERE.parent.parent / "shared" / "data" / "chunking_evaluation"
BUDGETS = (2000, 4000, 8000)


def main() -> None:
    """Measure every size, print a row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--collection", type=Path, default=DEFAULT)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 90, 120, 160, 200, 240])
    parser.add_argument("--overlap", type=int, default=0)
    arguments = parser.parse_args()
    print(
        "| size / overlap | chunks | "
        + " | ".join(f"recall in {b:,} characters" for b in BUDGETS)
        + " | IoU of 5 |"
    )
    print("|---|---|" + "---|" * (len(BUDGETS) + 1))
    with kb.open(arguments.data_dir) as service:
        for size in arguments.sizes:
            policy = ChunkingPolicy(size, arguments.overlap)
            name = f"chunking {size} {arguments.overlap}"
            if name not in {base.name for base in service.knowledge_bases()}:
                service.create_knowledge_base(name, chunking=policy)
            service.ingest(arguments.collection / "corpora", name)
            chunks = service.knowledge_base(name).chunks
            recalls, overlaps = measure(service, name, arguments.collection / "questions_df.csv")
            figures = " | ".join(f"{fmean(recalls[budget]):.3f}" for budget in BUDGETS)
            print(
                f"| {size} / {arguments.overlap} | {chunks} | {figures} | {fmean(overlaps):.3f} |", flush=True
            )


def measure(
    service: kb.Service, name: str, questions: Path, mode: Mode = "dense"
) -> tuple[dict[int, list[float]], list[float]]:
    """For each question: recall of its answer's characters by budget, and IoU of the five best chunks."""
    recalls: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    overlaps = []
    with questions.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            spans = [(one["start_index"], one["end_index"]) for one in json.loads(row["references"])]
            wanted = {(row["corpus_id"], at) for start, end in spans for at in range(start, end)}
            hits = service.search(row["question"], [name], mode=mode, top_k=200).hits
            for budget in BUDGETS:
                recalls[budget].append(len(wanted & _characters(hits, budget)) / len(wanted))
            five = _characters(hits[:5], 10**9)
            overlaps.append(len(wanted & five) / len(wanted | five))
    return recalls, overlaps


def _characters(hits: tuple[Hit, ...], budget: int) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for hit in hits:
        end = min(hit.end, hit.start + budget)
        found |= {(Path(hit.uri).stem, at) for at in range(hit.start, end)}
        budget -= end - hit.start
        if budget <= 0:
            break
    return found


if __name__ == "__main__":
    main()
