"""How long it takes to pack a context, and how full it gets: on a knowledge base that is there.

kb ingest FOLDER --kb NAME --data-dir DIR; python -m benchmarks.pack NAME --data-dir DIR
"""

import argparse
import statistics
import time

import kb
from kb.context.core import ContextCore
from kb.service import Service
from kb.tokens import count_tokens

_BUDGETS = (500, 2_000, 20_000, 100_000, 500_000, 1_034_146)
_REPEATS = 7


def _row(service: Service, name: str, query: str, budget: int) -> str:
    top_k = min(1000, max(10, budget // 150))
    hits = service.search(query, [name], top_k=top_k, mode="lexical", collapse_duplicates=True).hits
    core, times = ContextCore(service.catalog.versions, service.contents), []
    for _ in range(1 + _REPEATS):
        began = time.perf_counter()
        packed = core.pack(hits, budget).packed
        times.append(1000 * (time.perf_counter() - began))
    full = count_tokens(packed.text) / budget
    p50 = statistics.median(times[1:])
    return f"| {budget:,} | {len(hits)} | {len(packed.passages)} | {full:.3f} | {times[0]:.0f} | {p50:.0f} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a knowledge base")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--query", default="the history of music and war in europe")
    asked = parser.parse_args()
    with kb.open(asked.data_dir) as service:
        print("| budget, tokens | hits | passages | full, counted | first ms | p50 ms |")
        print("|---|---|---|---|---|---|")
        for budget in _BUDGETS:
            print(_row(service, asked.name, asked.query, budget))


if __name__ == "__main__":
    main()
