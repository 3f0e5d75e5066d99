"""Commands that ask: one question, or a judged collection of them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, Mode, parsed_json, print_json, progress, say, service, warn

if TYPE_CHECKING:
    from kb.types import Expand, Filter, Hit


Kb = Annotated[list[str], typer.Option("--kb", help="Knowledge base, by name or id; repeatable.")]
TopK = Annotated[int, typer.Option("-k", "--top-k", help="How many hits, 1 to 1000.")]
How = Annotated[Mode, typer.Option("--mode", help="How to match.")]
Where = Annotated[
    str | None, typer.Option("--filter", help='JSON, e.g. {"type":"eq","key":"team","value":"ops"}')
]
Threshold = Annotated[float | None, typer.Option("--score-threshold", help="Drop hits that score less.")]
DenseWeight = Annotated[
    float | None,
    typer.Option("--dense-weight", min=0, max=1, help="What meaning counts in hybrid mode against words."),
]
PerDocument = Annotated[int | None, typer.Option("--max-per-document", help="Hits of one document.")]
Collapse = Annotated[
    bool, typer.Option("--collapse-duplicates", help="Passages that say the same come once.")
]
Reranked = Annotated[
    bool, typer.Option("--rerank", help="Put the best into the order of the cross-encoder KB_RERANKER.")
]
RerankDepth = Annotated[int, typer.Option("--rerank-depth", help="How many of the best to rerank, 1 to 100.")]
RerankDeadline = Annotated[
    int, typer.Option("--rerank-deadline-ms", help="After this the order stays as it was.")
]
ByDocument = Annotated[bool, typer.Option("--by-document", help="Documents with their best hits.")]


def search(
    query: Annotated[
        list[str], typer.Argument(help="A question, or words to find; several are answered as one.")
    ],
    kb: Kb,
    top_k: TopK = 10,
    mode: How = Mode.hybrid,
    where: Where = None,
    score_threshold: Threshold = None,
    dense_weight: DenseWeight = None,
    max_per_document: PerDocument = None,
    collapse_duplicates: Collapse = False,
    by_document: ByDocument = False,
    expand: Annotated[
        str | None, typer.Option(help="Widen hits: chunks on each side, 1 to 10, or 'section'.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell each hit's ranks.")] = False,
    rerank: Reranked = False,
    rerank_depth: RerankDepth = 20,
    rerank_deadline_ms: RerankDeadline = 1000,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer."""
    from kb.search.rerank import Rerank

    with service(data_dir, as_json) as opened:
        result = opened.search(
            query if len(query) > 1 else query[0],
            kb,
            top_k=top_k,
            mode=mode.value,
            where=filter_of(where),
            score_threshold=score_threshold,
            dense_weight=dense_weight,
            max_per_document=max_per_document,
            collapse_duplicates=collapse_duplicates,
            group_by="document" if by_document else None,
            expand=_expand(expand),
            explain=explain,
            rerank=Rerank(rerank_depth, rerank_deadline_ms) if rerank else None,
        )
    if as_json:
        print_json(asdict(result))
        return
    for rank, document in enumerate(result.documents, 1):
        say(f"{rank}. {document.title}  {document.score:.3f}  {document.uri}\n")
        for at, hit in enumerate(document.hits, 1):
            _show_hit(f"{rank}.{at}", hit)
    for rank, hit in enumerate(result.hits, 1):
        _show_hit(str(rank), hit)
    spent = ", ".join(f"{stage} {ms:.1f}" for stage, ms in result.timings_ms.items()) if explain else ""
    found = f"{len(result.documents)} documents" if by_document else f"{len(result.hits)} hits"
    say(f"{found} in {result.timings_ms['total']:.0f} ms{f' ({spent})' if spent else ''}")
    if result.rerank == "deadline":
        warn("not reranked: the deadline passed")


def explain(
    query: Annotated[str, typer.Argument(help="The question of a search.")],
    content_id: Annotated[str, typer.Argument(help="A document's id, doc_…")],
    kb: Annotated[str, typer.Option("--kb", help="Knowledge base, by name or id.")],
    top_k: TopK = 10,
    mode: How = Mode.hybrid,
    where: Where = None,
    score_threshold: Threshold = None,
    dense_weight: DenseWeight = None,
    max_per_document: PerDocument = None,
    collapse_duplicates: Collapse = False,
    by_document: ByDocument = False,
    rerank: Reranked = False,
    rerank_depth: RerankDepth = 20,
    rerank_deadline_ms: RerankDeadline = 1000,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell why a document is in the results of a search, or is not."""
    from kb.search.rerank import Rerank

    with service(data_dir, as_json) as opened:
        told = opened.explain(
            query,
            content_id,
            kb,
            top_k=top_k,
            mode=mode.value,
            where=filter_of(where),
            score_threshold=score_threshold,
            dense_weight=dense_weight,
            max_per_document=max_per_document,
            collapse_duplicates=collapse_duplicates,
            group_by="document" if by_document else None,
            rerank=Rerank(rerank_depth, rerank_deadline_ms) if rerank else None,
        )
    if as_json:
        print_json(asdict(told))
        return
    say(f"{told.title}  {told.uri}\n{told.stage}: {told.reason}")
    for fate in told.chunks:
        at = f"[{fate.passage.start}:{fate.passage.end}]" + (f"  page {fate.page}" if fate.page else "")
        parts = ", ".join(
            f"{name} {score:.4g} ({fate.ranks.get(name) or '-'})" for name, score in fate.scores.items()
        )
        say(f"   {at}  {fate.stage}: {fate.reason}\n      {parts}")


def eval_(
    path: Annotated[Path, typer.Argument(help="A folder with queries.jsonl, qrels.tsv and a corpus.")],
    mode: Annotated[Mode, typer.Option(help="How to match.")] = Mode.hybrid,
    whole_documents: Annotated[
        bool, typer.Option("--whole-documents", help="One vector a document.")
    ] = False,
    rerank: Reranked = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval on a judged collection."""
    from kb.evaluate import evaluate

    with service(data_dir, as_json) as opened, progress(as_json, "Ingesting") as tell:
        result = evaluate(
            opened, path, mode=mode.value, whole_documents=whole_documents, rerank=rerank, progress=tell
        )
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        say(f"{key:16} {shown}")


def filter_of(given: str | None) -> "Filter | None":
    """The filter of an option. Raises InvalidInput."""
    from kb.search.filters import parse_filter

    return None if given is None else parse_filter(parsed_json(given, "filter"), param="filter")


def _expand(given: str | None) -> "Expand | None":
    from kb.search.shape import parse_expand

    if given is None:
        return None
    return parse_expand({"neighbours": int(given)} if given.isdecimal() else given)


def _show_hit(rank: str, hit: "Hit") -> None:
    from rich.console import Console
    from rich.text import Text

    where = f"{hit.uri}  [{hit.start}:{hit.end}]" + (f"  page {hit.page}" if hit.page else "")
    lines = Text(f"{rank}. {hit.title}", style="bold")
    lines.append(f"  {hit.score:.3f}\n   {where}", style="not bold dim")
    if hit.heading:
        lines.append(f"\n   {hit.heading}", style="not bold dim")
    if hit.ranks:
        ranks = ", ".join(
            f"{name} {hit.scores[name]:.4g} ({rank or '-'})" for name, rank in hit.ranks.items()
        )
        lines.append(f"\n   {ranks}", style="not bold dim")
    if hit.duplicates:
        lines.append(f"\n   {len(hit.duplicates)} more say the same", style="not bold dim")
    lines.append("\n   " + " ".join(hit.text.split())[:400] + "\n", style="not bold")
    Console().print(lines)
