"""Retrieval quality of every mode on judged collections, whole documents and default chunks.

    python -m benchmarks.quality [DIR ...]

Prints Markdown tables of nDCG@10 and writes results/quality.json. The default collections are those of
../shared/data and the sample handbook; one that is absent is left out, saying so. A collection that is judged
by the spans of its answers (benchmarks/chunking.py) is measured on chunks alone: recall of the answers'
characters in the first 4,000 that are retrieved.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import kb
from benchmarks.chunking import measure
from benchmarks.report import commit, machine
from kb.evaluate import evaluate
from kb.types import Mode

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
DEFAULT = [
    HERE.parent / "data",
    SHARED / "scifact",
    *(SHARED / "xquad" / one for one in ("en", "de", "es", "ro")),
    SHARED / "aragog-pdf",
    SHARED / "chunking_evaluation",
]
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
_SPANS = "questions_df.csv"
_BUDGET = 4000


def main() -> None:
    """Measure, print, write after each collection."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collections", type=Path, nargs="*", default=DEFAULT)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "commit": commit(), "rows": []}
    with kb.open(arguments.data_dir) as service:
        for whole in (True, False):
            print(f"\n| {'whole documents' if whole else 'default chunks'} | " + " | ".join(MODES) + " |")
            print("|---" * (len(MODES) + 1) + "|")
            for folder in arguments.collections:
                if not folder.is_dir():
                    print(f"{folder} is absent", file=sys.stderr)
                    continue
                if (folder / _SPANS).is_file():
                    if whole:
                        continue
                    measured = [_spans(service, folder, mode) for mode in MODES]
                else:
                    measured = [evaluate(service, folder, mode=mode, whole_documents=whole) for mode in MODES]
                result["rows"] += measured
                figures = " | ".join(f"{one.get('ndcg@10', one.get('recall')):.4f}" for one in measured)
                print(f"| {folder.resolve().parent.name}/{folder.resolve().name} | {figures} |", flush=True)
                results = HERE / "results"
                results.mkdir(exist_ok=True)
                (results / "quality.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _spans(service: kb.Service, folder: Path, mode: Mode) -> dict[str, Any]:
    name = f"eval {folder.resolve().parent.name} {folder.resolve().name} chunks"
    service.ingest(folder / "corpora", name)
    recalls, _ = measure(service, name, folder / _SPANS, mode)
    return {
        "collection": folder.resolve().name,
        "knowledge_base": name,
        "mode": mode,
        "whole_documents": False,
        "budget": _BUDGET,
        "recall": round(fmean(recalls[_BUDGET]), 5),
    }


if __name__ == "__main__":
    main()
