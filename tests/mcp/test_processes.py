"""Processes of their own: `kb mcp`, what it writes and when it ends; `kb serve` that is stopped."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from sqlalchemy import update

from kb.catalog import Catalog
from kb.catalog.schema import knowledge_bases

HERE = Path(__file__).parent
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def start(*arguments: str) -> subprocess.Popen[str]:
    """`kb mcp`."""
    return subprocess.Popen(
        [sys.executable, "-m", "kb.cli", "mcp", *arguments],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def entries(*arguments: str) -> Any:
    """What `kb mcp --config` prints."""
    said, _ = start("--config", *arguments).communicate(timeout=60)
    return json.loads(said)


def test_the_output_holds_answers_and_nothing_else_and_the_process_ends_with_its_input(library: Any) -> None:
    """A line that is no message is passed over; nothing is left over at the end, and nothing failed."""
    listed = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    lines = ["{no json", *map(json.dumps, (INITIALIZE, ready, listed))]
    process = start("--data-dir", str(library.data_dir))
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n".join(lines) + "\n")
    process.stdin.flush()
    said: dict[Any, Any] = {}
    while 2 not in said:
        answer = json.loads(process.stdout.readline())
        said[answer.get("id")] = answer
    rest, errors = process.communicate(timeout=60)
    assert (rest, process.returncode) == ("", 0)
    assert said[1]["result"]["serverInfo"]["name"] == "kb"
    assert said[1]["result"]["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
    assert len(said[2]["result"]["tools"]) == 7
    assert "Traceback" not in errors


@pytest.mark.anyio
async def test_tools_are_listed_where_no_model_can_be_loaded(
    library: Any, tmp_path: Path, over_stdio: Callable[..., Any]
) -> None:
    """Models are loaded beside the answers; a search then says what is wrong with them, in words."""
    folder = tmp_path / "data"
    shutil.copytree(library.data_dir, folder, symlinks=True)
    copied = replace(library, data_dir=folder, database_url=f"sqlite:///{folder}/catalog.db")
    catalog = Catalog(copied.database_url)
    with catalog.database.write() as connection:
        connection.execute(update(knowledge_bases).values(embedder=str(tmp_path / "nowhere")))
    catalog.close()
    with anyio.fail_after(60):
        async with Client(over_stdio(copied)) as client:
            assert len((await client.list_tools()).tools) == 7
            searched = await client.call_tool("search_knowledge_base", {"query": "pump"})
            assert searched.is_error
            assert "nowhere" in str(searched.content)
            found = await client.call_tool("list_content_sources", {"query": "winter"})
            assert not found.is_error


def test_entries_for_clients_start_what_was_asked_and_hold_a_key_where_one_is_needed(
    tmp_path: Path, blank_catalog: Path
) -> None:
    """The command of each is this Python over this folder; the address is that of the option."""
    shutil.copy(blank_catalog, tmp_path)
    made = entries("--data-dir", str(tmp_path))
    assert set(made) == {"claude-desktop", "claude-code", "cursor", "vscode"}
    command = {"command": sys.executable, "args": ["-m", "kb.cli", "mcp", "--data-dir", str(tmp_path)]}
    assert made["claude-desktop"]["stdio"] == {"mcpServers": {"kb": command}}
    assert made["vscode"]["stdio"] == {"servers": {"kb": {"type": "stdio", **command}}}
    assert made["cursor"]["http"] == {"mcpServers": {"kb": {"url": "http://127.0.0.1:8000/mcp"}}}

    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    catalog.keys.create("test")
    catalog.close()
    url = "https://kb.example.org/mcp"
    made = entries("--url", url, "--data-dir", str(tmp_path))
    assert made["claude-code"]["http"] == {
        "mcpServers": {
            "kb": {"type": "http", "url": url, "headers": {"Authorization": "Bearer YOUR_KEY"}},
        }
    }


@pytest.mark.anyio
async def test_a_server_that_is_stopped_ends_what_listens_and_waits_for_nobody(
    settings: Any, blank_catalog: Path, tmp_path: Path, served: Callable[..., Any]
) -> None:
    """A listener is told that this is the end, at once: not when the time that answers are given is over."""
    shutil.copy(blank_catalog, settings.data_dir)
    with served(settings, tmp_path / "log") as (url, process), anyio.fail_after(9):
        async with Client(url) as client, client.listen(resources_list_changed=True) as listening:
            process.terminate()
            assert [event async for event in listening] == []
