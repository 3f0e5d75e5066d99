"""The commands that open the texts: the content tools, for people."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from kb.cli.terminal import AsJson, DataDir, print_json, say, service

app = typer.Typer(no_args_is_help=True, help="List, measure, open and look through the texts of documents.")

Version = Annotated[str, typer.Argument(help="A content version's id, ver_…; `kb content list` has them.")]


@app.command("list")
def list_(
    query: Annotated[str, typer.Argument(help="Words that stand in the title or the path.")] = "",
    kb: Annotated[str | None, typer.Option(help="A knowledge base; all of them if left out.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Where the answer before left off.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Documents with the ids of their current versions."""
    given = {"query": query, "knowledge_base_id": kb, "cursor": cursor}
    _call("list_content_sources", given, as_json, data_dir)


@app.command()
def stats(version: Version, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Characters, tokens, words, lines, pages, and the outline of the headings."""
    _call("get_content_stats", {"content_version_id": version}, as_json, data_dir)


@app.command()
def load(
    version: Version,
    max_tokens: Annotated[
        int | None, typer.Option(help="What the whole text may cost; above, its outline.", min=256)
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The whole text, or the outline of one that is too large."""
    given = {"content_version_id": version, "max_tokens": max_tokens}
    _call("load_content", given, as_json, data_dir)


@app.command()
def peek(
    version: Version,
    start: Annotated[int | None, typer.Option(help="First character, from 0.")] = None,
    end: Annotated[int | None, typer.Option(help="Behind the last character.")] = None,
    page: Annotated[int | None, typer.Option(help="A page instead.")] = None,
    heading: Annotated[str | None, typer.Option(help="The section under a heading instead.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A part of a text: by characters, page or heading."""
    given = {"start": start, "end": end, "page": page, "heading": heading}
    _call("peek_content", {"content_version_id": version, **given}, as_json, data_dir)


@app.command()
def grep(
    pattern: Annotated[str, typer.Argument(help="A text, or with --regex an RE2 expression.")],
    where: Annotated[str, typer.Argument(help="A content version's id, or a knowledge base.")],
    regex: Annotated[bool, typer.Option("--regex", help="Match an expression within one line.")] = False,
    case: Annotated[bool, typer.Option("--case", help="Capital and small letters differ.")] = False,
    context: Annotated[int, typer.Option(help="Characters shown on each side.")] = 80,
    cursor: Annotated[str | None, typer.Option(help="Where the answer before left off.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Every place where a text, or an expression, stands."""
    name = "content_version_id" if where.startswith("ver_") else "knowledge_base_id"
    given = {"pattern": pattern, "regex": regex, "case": case, "context": context, "cursor": cursor}
    _call("grep_content", {name: where, **given}, as_json, data_dir)


def _call(name: str, given: dict[str, Any], as_json: bool, data_dir: Path | None) -> None:
    from kb import tools

    with service(data_dir, as_json) as opened:
        result: Any = tools.call(opened, name, given)
    if as_json:
        print_json(asdict(result))
    else:
        say(result.shown())
