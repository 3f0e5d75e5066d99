"""What clients are to be told of this server, ready to be pasted into their files."""

import sys
from pathlib import Path
from typing import Any

KEY = "YOUR_KEY"
"""Stands where a key belongs; a key's secret is not kept, so only its owner can fill it in."""


def entries(data_dir: Path, url: str, *, keyed: bool) -> dict[str, Any]:
    """By client: the file, and the entry for a process of its own (stdio) and for a running server (http).

    keyed: whether the server asks for keys.
    """
    started = {
        "command": sys.executable,
        "args": ["-m", "kb.cli", "mcp", "--data-dir", str(data_dir)],
    }
    reached: dict[str, Any] = {"url": url}
    if keyed:
        reached["headers"] = {"Authorization": f"Bearer {KEY}"}
    typed = {"type": "stdio", **started}, {"type": "http", **reached}
    return {
        # Its own file takes processes only.
        "claude-desktop": {
            "file": "claude_desktop_config.json",
            "stdio": {"mcpServers": {"kb": started}},
        },
        "claude-code": {
            "file": ".mcp.json",
            "stdio": {"mcpServers": {"kb": typed[0]}},
            "http": {"mcpServers": {"kb": typed[1]}},
        },
        "cursor": {
            "file": ".cursor/mcp.json",
            "stdio": {"mcpServers": {"kb": started}},
            "http": {"mcpServers": {"kb": reached}},
        },
        "vscode": {
            "file": ".vscode/mcp.json",
            "stdio": {"servers": {"kb": typed[0]}},
            "http": {"servers": {"kb": typed[1]}},
        },
    }
