"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but some documents were refused."""

import typer

from kb.cli import ask, content, documents, keys, mcp, models, reembed, search, serve, tune, upkeep, usage

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Exact, cited search over your own documents."
)
app.command()(documents.ingest)
app.command()(search.search)
app.command()(ask.ask)
app.command()(search.explain)
app.command("list")(documents.list_)
app.command()(documents.show)
app.command()(documents.delete)
app.command("eval")(search.eval_)
app.command()(reembed.reembed)
app.command()(reembed.rollback)
app.command()(reembed.forget)
app.command()(tune.tune)
app.command()(models.models)
app.command()(usage.usage)
app.command()(serve.serve)
app.command()(mcp.mcp)
app.command()(upkeep.fsck)
app.command()(upkeep.backup)
app.command()(upkeep.restore)
app.command()(upkeep.receipts)
app.add_typer(content.app, name="content")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """The `kb` command."""
    app()
