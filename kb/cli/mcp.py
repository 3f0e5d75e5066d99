"""The command that serves one MCP client."""

from typing import Annotated

import typer

from kb.cli.terminal import DataDir, print_json, service


def mcp(
    config: Annotated[
        bool, typer.Option("--config", help="Print entries for the files of common clients, and end.")
    ] = False,
    url: Annotated[
        str, typer.Option(help="Where `kb serve` is reached, for the entries.")
    ] = "http://127.0.0.1:8000/mcp",
    data_dir: DataDir = None,
) -> None:
    """Serve the tools and documents to an MCP client over standard input and output."""
    with service(data_dir, False) as opened:
        if config:
            from kb.mcp.config import entries

            print_json(entries(opened.settings.data_dir, url, keyed=opened.catalog.keys.exist()))
            return
        from kb.mcp.stdio import serve

        serve(opened)
