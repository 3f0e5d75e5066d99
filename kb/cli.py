"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some documents were refused."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.errors import InvalidInput, KbError

if TYPE_CHECKING:
    from kb.service import Progress, Service
    from kb.types import AttributeValue, Hit

SOME_REFUSED = 3
_INTERRUPTED = 130
# A stop waits this long for answers under way; what a client waits for in the background is a job, and safe.
_GRACE_SECONDS = 10

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Exact, cited search over your own documents."
)
keys = typer.Typer(no_args_is_help=True, help="API keys for servers that others can reach.")
app.add_typer(keys, name="keys")


class Mode(StrEnum):
    """The ways to match, as the command line offers them."""

    hybrid = "hybrid"
    dense = "dense"
    lexical = "lexical"


DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where data is kept; else KB_DATA_DIR, else the platform's place."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Option("--kb", help="Knowledge base, by name or id.")]


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="A folder, or one file.")],
    kb: Name,
    attributes: Annotated[
        list[str] | None, typer.Option("--attributes", help="key=value for every document; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a knowledge base level with a folder, making it if need be."""
    given = _attributes(attributes) if attributes else None
    with _service(data_dir, as_json) as service, _progress(as_json, "Ingesting") as tell:
        report = service.ingest(path, kb, attributes=given, progress=tell)
    if as_json:
        _print({**asdict(report), "failed": report.failed})
    else:
        _say(
            f"{report.documents} documents in {kb}: {report.added} added, {report.changed} changed, "
            f"{report.renamed} moved, {report.unchanged} unchanged, {report.removed} removed; "
            f"{report.chunks} chunks, {report.embedded} texts embedded, {report.reused} reused; "
            f"{report.failed} refused; {report.seconds:.1f} s"
        )
        for failure in report.failures:
            _warn(f"refused {failure.uri}: {failure.reason}")
    if report.failed:
        raise typer.Exit(SOME_REFUSED)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question, or words to find.")],
    kb: Annotated[list[str], typer.Option("--kb", help="Knowledge base, by name or id; repeatable.")],
    top_k: Annotated[int, typer.Option("-k", "--top-k", help="How many hits, 1 to 1000.")] = 10,
    mode: Annotated[Mode, typer.Option(help="How to match.")] = Mode.hybrid,
    where: Annotated[
        str | None, typer.Option("--filter", help='JSON, e.g. {"type":"eq","key":"team","value":"ops"}')
    ] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Drop hits that score less.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages that answer."""
    from kb.search.filters import parse_filter

    with _service(data_dir, as_json) as service:
        parsed = parse_filter(_json(where, "filter"), param="filter") if where else None
        result = service.search(
            query,
            kb,
            top_k=top_k,
            mode=mode.value,
            where=parsed,
            score_threshold=score_threshold,
        )
    if as_json:
        _print(asdict(result))
        return
    for rank, hit in enumerate(result.hits, 1):
        _show_hit(rank, hit)
    _say(f"{len(result.hits)} hits in {result.timings_ms['total']:.0f} ms")


@app.command(name="list")
def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the knowledge bases."""
    with _service(data_dir, as_json) as service:
        found = service.knowledge_bases()
    if as_json:
        _print({"data": [_flat(kb) for kb in found]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "documents", "chunks", "embedder", "chunk size", "id", box=None)
    for kb in found:
        size = "whole" if kb.chunking.size is None else f"{kb.chunking.size}/{kb.chunking.overlap}"
        table.add_row(kb.name, str(kb.documents), str(kb.chunks), kb.embedder, size, kb.id)
    Console().print(table if found else "no knowledge base yet; make one: kb ingest FOLDER --kb NAME")


@app.command()
def show(name: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one knowledge base, and the documents it refused."""
    with _service(data_dir, as_json) as service:
        kb, failures = service.knowledge_base(name), service.failures(name)
    if as_json:
        _print({**_flat(kb), "failures": [asdict(failure) for failure in failures]})
        return
    for key, value in _flat(kb).items():
        _say(f"{key:14} {value}")
    for failure in failures:
        _warn(f"refused {failure.uri}: {failure.reason}")


@app.command()
def delete(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete a knowledge base with everything in it."""
    with _service(data_dir, as_json) as service:
        kb = service.knowledge_base(name)
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput(f"this deletes {kb.documents} documents; say --yes", param="yes")
            typer.confirm(f"Delete {kb.name} with {kb.documents} documents?", abort=True, err=True)
        service.delete_knowledge_base(kb.id)
    if as_json:
        _print({"id": kb.id, "name": kb.name, "deleted": True})
    else:
        _say(f"deleted {kb.name}: {kb.documents} documents, {kb.chunks} chunks")


@app.command(name="eval")
def eval_(
    path: Annotated[Path, typer.Argument(help="A folder with queries.jsonl, qrels.tsv and a corpus.")],
    mode: Annotated[Mode, typer.Option(help="How to match.")] = Mode.hybrid,
    whole_documents: Annotated[
        bool, typer.Option("--whole-documents", help="One vector a document.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval on a judged collection."""
    from kb.evaluate import evaluate

    with _service(data_dir, as_json) as service, _progress(as_json, "Ingesting") as tell:
        result = evaluate(service, path, mode=mode.value, whole_documents=whole_documents, progress=tell)
    if as_json:
        _print(result)
        return
    for key, value in result.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        _say(f"{key:16} {shown}")


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Serve over HTTP; the interface is described at /docs."""
    from filelock import FileLock, Timeout

    from kb.errors import DataFolderInUse

    with _service(data_dir, False) as service:
        folder = service.settings.data_dir
        names = [kb.name for kb in service.knowledge_bases()]
        if not _is_loopback(host) and not service.catalog.keys.exist():
            raise InvalidInput(
                f"{host} can be reached by others; first make a key: kb keys create NAME", param="host"
            )
        lock = FileLock(folder / "serve.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise DataFolderInUse(
                f"a server runs on {folder} already; stop it, or give another --data-dir"
            ) from None
    with lock:
        import uvicorn

        # The server processes read the same settings as this one did.
        os.environ["KB_DATA_DIR"] = str(folder)
        os.environ["KB_HOST"] = host
        name = names[0] if names else "NAME"
        shown = f"[{host}]" if ":" in host else host
        body = json.dumps({"query": "How is the plant started?", "top_k": 3})
        _warn(f"data in {folder}; knowledge bases: {', '.join(names) or 'none yet'}")
        _warn(
            f"curl -s http://{shown}:{port}/v1/knowledge_bases/{name}/search "
            f"-H 'content-type: application/json' -d '{body}'"
        )
        if workers > 1:
            # Where the processes add up their metrics; counters of an earlier run do not belong there.
            shutil.rmtree(folder / "metrics", ignore_errors=True)
            (folder / "metrics").mkdir()
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
        uvicorn.run(
            "api.app:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )


@keys.command("create")
def create_key(name: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Make a key; its secret is shown this once."""
    with _service(data_dir, as_json) as service:
        key, secret = service.catalog.keys.create(name)
    if as_json:
        _print({**asdict(key), "key": secret})
    else:
        _say(secret)
        _warn(f"this is {key.id}; it cannot be shown again. Send it as: Authorization: Bearer …")


@keys.command("list")
def list_keys(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    with _service(data_dir, as_json) as service:
        found = service.catalog.keys.all()
    if as_json:
        _print({"data": [asdict(key) for key in found]})
        return
    for key in found:
        _say(f"{key.id}  {key.created_at}  {key.name}")


@keys.command("delete")
def delete_key(key: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revoke a key, by its id."""
    with _service(data_dir, as_json) as service:
        service.catalog.keys.delete(key)
    if as_json:
        _print({"id": key, "deleted": True})
    else:
        _say(f"deleted {key}")


def main() -> None:
    """The `kb` command."""
    app()


@contextmanager
def _service(data_dir: Path | None, as_json: bool) -> Iterator["Service"]:
    """The service over the data folder; what goes wrong becomes a message and an exit code."""
    import kb

    try:
        with kb.open(data_dir) as service:
            yield service
    except KbError as error:
        if as_json:
            _print({"error": {"message": str(error), "type": type(error).__name__, "param": error.param}})
        else:
            _warn(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _warn("stopped; what was committed stays, run again to go on from there")
        raise typer.Exit(_INTERRUPTED) from None


@contextmanager
def _progress(as_json: bool, doing: str) -> Iterator["Progress | None"]:
    """A progress bar on a terminal's standard error, or none."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(doing, more="")

        def tell(done: int, total: int, embedded: int) -> None:
            bars.update(bar, completed=done, total=total, more=f"{embedded} texts embedded")

        yield tell


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


def _flat(kb: Any) -> dict[str, Any]:
    row = asdict(kb)
    chunking = row.pop("chunking")
    return {**row, "chunk_size": chunking["size"], "chunk_overlap": chunking["overlap"]}


def _attributes(given: list[str]) -> "dict[str, AttributeValue]":
    parsed: dict[str, AttributeValue] = {}
    for pair in given:
        key, mark, value = pair.partition("=")
        if not mark or not key:
            raise typer.BadParameter(f"{pair!r} is not key=value", param_hint="--attributes")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        # Numbers and booleans as themselves; anything else is what was typed.
        parsed[key] = read if isinstance(read, bool | int | float) else value
    return parsed


def _json(text: str, param: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{param} is not JSON: {error}", param=param) from error


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _print(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=None if not sys.stdout.isatty() else 2))


def _say(line: str) -> None:
    print(line)


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
