"""Retrieval quality of every mode on judged collections, whole documents and default chunks.

    python -m benchmarks.quality [DIR ...]

Prints Markdown tables of nDCG@10 and writes results/quality.json. The default collections are those of
../shared/data and the sample handbook; one that is absent is left out, saying so.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import kb
from kb.evaluate import evaluate

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"
DEFAULT = [
    HERE.parent / "data",
    SHARED / "scifact",
    *(SHARED / "xquad" / one for one in ("en", "de", "es", "ro")),
]
MODES = ("dense", "lexical", "hybrid")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collections", type=Path, nargs="*", default=DEFAULT)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with kb.open(arguments.data_dir) as service:
        for whole in (True, False):
            print(f"\n| {'whole documents' if whole else 'default chunks'} | " + " | ".join(MODES) + " |")
            print("|---" * (len(MODES) + 1) + "|")
            for folder in arguments.collections:
                if not folder.is_dir():
                    print(f"{folder} is absent", file=sys.stderr)
                    continue
                measured = [evaluate(service, folder, mode=mode, whole_documents=whole) for mode in MODES]
                rows += measured
                name = f"{folder.resolve().parent.name}/{folder.resolve().name}"
                print(
                    f"| {name} | " + " | ".join(f"{one['ndcg@10']:.4f}" for one in measured) + " |",
                    flush=True,
                )
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "quality.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
