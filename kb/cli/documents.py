"""Commands on knowledge bases and their documents."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kb.cli.terminal import SOME_REFUSED, AsJson, DataDir, print_json, progress, say, service, warn
from kb.errors import InvalidInput

if TYPE_CHECKING:
    from kb.types import AttributeValue


def ingest(
    path: Annotated[Path, typer.Argument(help="A folder, or one file.")],
    kb: Annotated[str, typer.Option("--kb", help="Knowledge base, by name or id.")],
    attributes: Annotated[
        list[str] | None, typer.Option("--attributes", help="key=value for every document; repeatable.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a knowledge base level with a folder, making it if need be."""
    given = _attributes(attributes) if attributes else None
    with service(data_dir, as_json) as opened, progress(as_json, "Ingesting") as tell:
        report = opened.ingest(path, kb, attributes=given, progress=tell)
    if as_json:
        print_json({**asdict(report), "failed": report.failed})
    else:
        say(
            f"{report.documents} documents in {kb}: {report.added} added, {report.changed} changed, "
            f"{report.renamed} moved, {report.unchanged} unchanged, {report.removed} removed; "
            f"{report.chunks} chunks, {report.embedded} texts embedded, {report.reused} reused; "
            f"{report.failed} refused; {report.seconds:.1f} s"
        )
        for failure in report.failures:
            warn(f"refused {failure.uri}: {failure.reason}")
    if report.failed:
        raise typer.Exit(SOME_REFUSED)


def list_(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the knowledge bases."""
    with service(data_dir, as_json) as opened:
        found = opened.knowledge_bases()
    if as_json:
        print_json({"data": [_flat(kb) for kb in found]})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "documents", "chunks", "embedder", "chunk size", "id", box=None)
    for kb in found:
        size = "whole" if kb.chunking.size is None else f"{kb.chunking.size}/{kb.chunking.overlap}"
        table.add_row(kb.name, str(kb.documents), str(kb.chunks), kb.embedder, size, kb.id)
    Console().print(table if found else "no knowledge base yet; make one: kb ingest FOLDER --kb NAME")


def show(name: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one knowledge base, and the documents it refused."""
    with service(data_dir, as_json) as opened:
        kb, failures = opened.knowledge_base(name), opened.failures(name)
    if as_json:
        print_json({**_flat(kb), "failures": [asdict(failure) for failure in failures]})
        return
    for key, value in _flat(kb).items():
        say(f"{key:14} {value}")
    for failure in failures:
        warn(f"refused {failure.uri}: {failure.reason}")


def delete(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete a knowledge base with everything in it."""
    with service(data_dir, as_json) as opened:
        kb = opened.knowledge_base(name)
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidInput(f"this deletes {kb.documents} documents; say --yes", param="yes")
            typer.confirm(f"Delete {kb.name} with {kb.documents} documents?", abort=True, err=True)
        opened.delete_knowledge_base(kb.id)
    if as_json:
        print_json({"id": kb.id, "name": kb.name, "deleted": True})
    else:
        say(f"deleted {kb.name}: {kb.documents} documents, {kb.chunks} chunks")


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
