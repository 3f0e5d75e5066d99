"""Queries + judgments -> nDCG, recall, MRR and latency, by trec_eval's own definitions.

A collection is a folder with `queries.jsonl` {"_id", "text"} and `qrels.tsv` (header; query-id, corpus-id,
score), and either `corpus.jsonl` {"_id", "title", "text"} (the BEIR layout) or files of any format, whose
corpus-id is their path inside the folder or, where that is unambiguous, their name.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kb.errors import InvalidInput
from kb.ingest.reembed import Judge
from kb.ingest.sandbox import ParserProcess
from kb.ingest.source import Blob, find
from kb.search.rerank import MAX_DEADLINE_MS, Rerank
from kb.search.shape import MAX_TOP_K
from kb.service import Progress, Service
from kb.types import ChunkingPolicy, Document, Mode, SearchResult

# What a collection's own files are called; everything else in its folder is a document.
_NOT_DOCUMENTS = {"queries.jsonl", "qrels.tsv", "answers.jsonl", "META.json", "README.md", "LICENSE"}
_DEPTH = 100


class EntryParser:
    """Corpus lines to documents: the text as it stands, under its title, which may be empty."""

    def parse(self, data: bytes, name: str) -> Document:
        """Raises KeyError on a line without text; `read` has checked them."""
        entry = json.loads(data)
        return Document(text=entry["text"], media_type="text/plain", title=entry["title"])


@dataclass(frozen=True, slots=True)
class Collection:
    """Judged queries, and the corpus of a BEIR folder; `entries` is None where documents are files."""

    name: str
    queries: dict[str, str]
    judgments: dict[str, dict[str, int]]
    entries: list[Blob] | None


def evaluate(
    service: Service,
    folder: Path | str,
    *,
    mode: Mode = "hybrid",
    whole_documents: bool = False,
    rerank: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure retrieval on a judged collection.

    Its corpus becomes a knowledge base of its own, which later runs find ready. whole_documents: one
    vector a document, of its title, a blank and its text, cut at the model's limit. A document ranks by
    its best chunk. rerank: with the reranker of the settings, which gets all the time it takes.
    Latencies are of `Service.search` in this process, in milliseconds.
    """
    root = Path(folder).expanduser().resolve()
    collection = read(root)
    name = f"eval {root.parent.name} {root.name} {'whole' if whole_documents else 'chunks'}"
    if name not in {kb.name for kb in service.knowledge_bases()}:
        service.create_knowledge_base(name, chunking=ChunkingPolicy(None) if whole_documents else None)
    kb = service.knowledge_base(name)
    if collection.entries is None:
        files = [file for file in find(root)[1] if file.uri not in _NOT_DOCUMENTS]
        with ParserProcess() as parser:
            report = service.level(kb, root.as_uri(), files, parser, progress=progress)
    else:
        report = service.level(kb, root.as_uri(), collection.entries, EntryParser(), progress=progress)
    depth = _DEPTH if whole_documents else MAX_TOP_K
    reranking = Rerank(deadline_ms=MAX_DEADLINE_MS) if rerank else None
    rankings, spent = {}, []
    for query_id, query in collection.queries.items():
        found = service.search(query, [kb.id], top_k=depth, mode=mode, rerank=reranking)
        rankings[query_id] = ranking(found, collection.judgments[query_id])
        spent.append(found.timings_ms["total"])
    kb = service.knowledge_base(kb.id)
    return {
        "collection": collection.name,
        "knowledge_base": kb.name,
        "mode": mode,
        "rerank": rerank,
        "whole_documents": whole_documents,
        "documents": kb.documents,
        "chunks": kb.chunks,
        "queries": len(rankings),
        **measure(rankings, collection.judgments),
        "latency_ms": percentiles(spent),
        "ingest": {"embedded": report.embedded, "failed": report.failed, "seconds": report.seconds},
    }


def judge(folder: Path | str) -> Judge:
    """Measures a search by the judged queries in a folder: nDCG@10 of its documents, by their best chunks.

    For a knowledge base that is there already: its corpus is not read. Raises InvalidInput, also where a
    search finds no judged document at all.
    """
    root = Path(folder).expanduser().resolve()
    collection = read(root)

    def ndcg(search: Callable[..., SearchResult]) -> float:
        rankings = {
            name: ranking(search(query, top_k=_DEPTH), collection.judgments[name])
            for name, query in collection.queries.items()
        }
        measured = measure(rankings, collection.judgments)
        if not measured["recall@100"]:
            raise InvalidInput(
                f"no document judged in {root} was found; corpus-ids must be the documents' uris or names",
                param="judge",
            )
        return measured["ndcg@10"]

    return ndcg


def read(folder: Path) -> Collection:
    """The collection in a folder; only judged queries are kept. Raises InvalidInput naming file and line."""
    judgments: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(folder / "qrels.tsv"), 1):
        fields = line.split("\t")
        if number == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue
        if len(fields) != 3 or not fields[2].strip().lstrip("-").isdigit():
            raise InvalidInput(
                f"{folder / 'qrels.tsv'}:{number}: not query-id, corpus-id, score", param="path"
            )
        judgments.setdefault(fields[0], {})[fields[1]] = int(fields[2])
    queries = {entry["_id"]: entry["text"] for entry in _objects(folder / "queries.jsonl")}
    corpus = folder / "corpus.jsonl"
    entries = None
    if corpus.is_file():
        entries = [Blob(entry["_id"], json.dumps(entry).encode()) for entry in _objects(corpus)]
    judged = {name: text for name, text in queries.items() if name in judgments}
    if not judged:
        raise InvalidInput(f"{folder}: no query of queries.jsonl has a judgment in qrels.tsv", param="path")
    return Collection(folder.resolve().name, judged, judgments, entries)


def ranking(result: SearchResult, judged: Mapping[str, int]) -> list[str]:
    """Corpus ids of a result, best first, each document once at its best chunk."""
    by_name = {Path(name).name: name for name in judged}
    seen: dict[str, None] = {}
    for hit in result.hits:
        seen.setdefault(hit.uri if hit.uri in judged else by_name.get(Path(hit.uri).name, hit.uri))
    return list(seen)[:_DEPTH]


def measure(
    rankings: Mapping[str, Sequence[str]], judgments: Mapping[str, Mapping[str, int]]
) -> dict[str, float]:
    """Means over the queries of nDCG@10, recall@10, recall@100 and MRR@10, by pytrec_eval."""
    import pytrec_eval

    kept = {name: dict(judgments[name]) for name in rankings}
    measures = {"ndcg_cut_10", "recall_10", "recall_100"}
    scored = pytrec_eval.RelevanceEvaluator(kept, measures).evaluate(_as_run(rankings, _DEPTH))
    # trec_eval's reciprocal rank has no cut of its own: the run is cut instead.
    first = pytrec_eval.RelevanceEvaluator(kept, {"recip_rank"}).evaluate(_as_run(rankings, 10))
    return {
        "ndcg@10": _mean(scored, "ndcg_cut_10"),
        "recall@10": _mean(scored, "recall_10"),
        "recall@100": _mean(scored, "recall_100"),
        "mrr@10": _mean(first, "recip_rank"),
    }


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 of latencies, in the unit given."""
    if len(milliseconds) < 2:
        return dict.fromkeys(("p50", "p95", "p99"), round(sum(milliseconds), 3))
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


def _as_run(rankings: Mapping[str, Sequence[str]], depth: int) -> dict[str, dict[str, float]]:
    # Falling numbers instead of scores: trec_eval would order equal scores by name, not as we returned them.
    return {
        name: {uri: float(-at) for at, uri in enumerate(found[:depth])} for name, found in rankings.items()
    }


def _mean(scored: Mapping[str, Mapping[str, float]], measure: str) -> float:
    return round(statistics.fmean(query[measure] for query in scored.values()), 5)


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InvalidInput(f"{path} is missing; a collection needs queries.jsonl and qrels.tsv", param="path")
    with path.open(encoding="utf-8") as file:
        yield from (line.rstrip("\r\n") for line in file if line.strip())


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        try:
            entry = json.loads(line)
            yield {"_id": str(entry["_id"]), "title": entry.get("title", ""), "text": str(entry["text"])}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f'{path}:{number}: not an object with "_id" and "text"', param="path"
            ) from error
