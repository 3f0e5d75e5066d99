"""tantivy, as kb uses it, against SQLite FTS5: building, searching, filtering.

    python -m benchmarks.lexical [--queries 200]

The 100,000 passages of ../shared/data/scale, 100 best by BM25, one thread, chunks of one language so that
both stem alike. FTS5 is used as its documentation advises: porter stemmer over unicode61, rank = bm25, the
words of a question joined by OR; a filter is a table of rowids that the matches are looked up in. Each cell
is of as many questions as are answered in ten seconds. Prints Markdown tables, writes results/lexical.json.
"""

import argparse
import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import commit, machine
from kb.index.analysis import WORDS, terms
from kb.index.lexical import TantivyIndex
from kb.types import Allowed, IndexedText

HERE = Path(__file__).parent
SCALE = HERE.parent.parent / "shared" / "data" / "scale"
BATCH = 8192
TOP = 100
KEPT = (0.5, 0.1, 0.01, 0.001, 0.0001)
# A cell ends with the question after this; FTS5 takes up to half a second for one.
SECONDS = 10.0

Search = Callable[[str, "np.ndarray | None"], int]


def main() -> None:
    """Build both, ask both the same questions, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    with gzip.open(SCALE / "passages-100k.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    with (SCALE / "queries.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["text"] for line in file][: arguments.queries]
    chance = np.random.default_rng(0)
    masks = {kept: chance.random(len(texts)) < kept for kept in KEPT}
    rows = []
    for name, build in (("tantivy", _tantivy), ("SQLite FTS5", _fts5)):
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            search = build(Path(scratch), texts)
            row: dict[str, Any] = {"index": name, "build_s": round(time.perf_counter() - start, 2)}
            row["megabytes"] = round(sum(f.stat().st_size for f in Path(scratch).rglob("*.*")) / 1e6, 1)
            row["search_ms"] = _percentiles(search, queries, None)
            row["filtered_ms"] = {kept: _percentiles(search, queries, mask) for kept, mask in masks.items()}
            rows.append(row)
    _print(rows)
    result = {"passages": len(texts), "queries": len(queries), "machine": machine(), "commit": commit()}
    (HERE / "results" / "lexical.json").write_text(
        json.dumps({**result, "rows": rows}, indent=2) + "\n", encoding="utf-8"
    )


def _tantivy(folder: Path, texts: list[str]) -> Search:
    index = TantivyIndex(folder / "lexical")
    ids = np.arange(len(texts), dtype=np.int64)
    for number, at in enumerate(range(0, len(texts), BATCH), 1):
        passages = [IndexedText(text, language="en") for text in texts[at : at + BATCH]]
        index.apply(number, ids[at : at + BATCH], passages, np.empty(0, np.int64))

    def search(query: str, mask: "np.ndarray | None") -> int:
        allow = None if mask is None else Allowed(ids, mask)
        return len(index.search(query, TOP, allow=allow).ids)

    return search


def _fts5(folder: Path, texts: list[str]) -> Search:
    try:
        from pysqlite3 import dbapi2 as sqlite
    except ImportError:
        import sqlite3 as sqlite
    connection = sqlite.connect(folder / "fts5.db")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize='porter unicode61')")
    for at in range(0, len(texts), BATCH):
        some = enumerate(texts[at : at + BATCH], at)
        with connection:
            connection.executemany("INSERT INTO t(rowid, text) VALUES (?, ?)", some)
    connection.execute("CREATE TEMP TABLE kept (id INTEGER PRIMARY KEY)")
    shown: list[Any] = [None]

    def search(query: str, mask: "np.ndarray | None") -> int:
        words = " OR ".join(f'"{word}"' for word in terms(query, WORDS))
        if not words:
            return 0
        if mask is None:
            sql = "SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?"
            return len(connection.execute(sql, (words, TOP)).fetchall())
        if shown[0] is not mask:
            connection.execute("DELETE FROM kept")
            connection.executemany(
                "INSERT INTO kept VALUES (?)", ((int(one),) for one in np.flatnonzero(mask))
            )
            shown[0] = mask
        # The plus keeps SQLite from asking the index once for each row kept, which takes minutes a question.
        sql = "SELECT rowid FROM t WHERE t MATCH ? AND +rowid IN kept ORDER BY rank LIMIT ?"
        return len(connection.execute(sql, (words, TOP)).fetchall())

    return search


def _percentiles(search: Search, queries: list[str], mask: "np.ndarray | None") -> dict[str, float]:
    search(queries[0], mask)
    spent = []
    for query in queries:
        start = time.perf_counter()
        search(query, mask)
        spent.append((time.perf_counter() - start) * 1000)
        if sum(spent) > SECONDS * 1000:
            break
    cuts = statistics.quantiles(spent, n=100, method="inclusive")
    return {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "queries": len(spent)}


def _print(rows: list[dict[str, Any]]) -> None:
    print("| 100,000 passages | build s | MB | p50 ms | p99 ms |\n|---|---|---|---|---|")
    for row in rows:
        search = row["search_ms"]
        print(
            f"| {row['index']} | {row['build_s']} | {row['megabytes']} | {search['p50']} | {search['p99']} |"
        )
    print("\n| p50 / p99 ms, filter keeps | " + " | ".join(f"{kept:.2%}" for kept in KEPT) + " |")
    print("|---" * (len(KEPT) + 1) + "|")
    for row in rows:
        cells = (f"{one['p50']} / {one['p99']}" for one in row["filtered_ms"].values())
        print(f"| {row['index']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
