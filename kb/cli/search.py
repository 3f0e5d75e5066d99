"""Commands that ask: one question, or a judged collection of them."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kb.cli.terminal import AsJson, DataDir, Mode, parsed_json, print_json, progress, say, service

if TYPE_CHECKING:
    from kb.types import Hit

RerankOption = Annotated[
    bool, typer.Option("--rerank", help="Put the best into the order of the cross-encoder KB_RERANKER.")
]


def search(
    query: Annotated[str, typer.Argument(help="A question, or words to find.")],
    kb: Annotated[list[str], typer.Option("--kb", help="Knowledge base, by name or id; repeatable.")],
    top_k: Annotated[int, typer.Option("-k", "--top-k", help="How many hits, 1 to 1000.")] = 10,
    mode: Annotated[Mode, typer.Option(help="How to match.")] = Mode.hybrid,
    where: Annotated[
        str | None, typer.Option("--filter", help='JSON, e.g. {"type":"eq","key":"team","value":"ops"}')
    ] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Drop hits that score less.")] = None,
    rerank: RerankOption = False,
    rerank_depth: Annotated[int, typer.Option(help="How many of the best to rerank, 1 to 100.")] = 20,
    rerank_deadline_ms: Annotated[int, typer.Option(help="After this the order stays as it was.")] = 1000,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer."""
    from kb.search.filters import parse_filter
    from kb.search.rerank import Rerank

    with service(data_dir, as_json) as opened:
        parsed = parse_filter(parsed_json(where, "filter"), param="filter") if where else None
        result = opened.search(
            query,
            kb,
            top_k=top_k,
            mode=mode.value,
            where=parsed,
            score_threshold=score_threshold,
            rerank=Rerank(rerank_depth, rerank_deadline_ms) if rerank else None,
        )
    if as_json:
        print_json(asdict(result))
        return
    for rank, hit in enumerate(result.hits, 1):
        _show_hit(rank, hit)
    left = "; not reranked, the deadline passed" if result.rerank == "deadline" else ""
    say(f"{len(result.hits)} hits in {result.timings_ms['total']:.0f} ms{left}")


def eval_(
    path: Annotated[Path, typer.Argument(help="A folder with queries.jsonl, qrels.tsv and a corpus.")],
    mode: Annotated[Mode, typer.Option(help="How to match.")] = Mode.hybrid,
    whole_documents: Annotated[
        bool, typer.Option("--whole-documents", help="One vector a document.")
    ] = False,
    rerank: RerankOption = False,
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


def _show_hit(rank: int, hit: "Hit") -> None:
    from rich.console import Console
    from rich.text import Text

    where = f"{hit.uri}  [{hit.start}:{hit.end}]" + (f"  page {hit.page}" if hit.page else "")
    lines = Text(f"{rank}. {hit.title}", style="bold")
    lines.append(f"  {hit.score:.3f}\n   {where}", style="not bold dim")
    if hit.heading:
        lines.append(f"\n   {hit.heading}", style="not bold dim")
    lines.append("\n   " + " ".join(hit.text.split())[:400] + "\n", style="not bold")
    Console().print(lines)
