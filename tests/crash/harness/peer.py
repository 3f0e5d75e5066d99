"""A small MCP server over standard input and output, each of whose calls leaves a line: peer.py EFFECTS LOCK

It holds LOCK, shared, for as long as it lives: whoever gets it alone knows that no more lines will come.
"""

import fcntl
import json
import os
import signal
import sys
from typing import Any

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS = [
    {"name": name, "description": f"Does it: {name}.", "inputSchema": TEXT} for name in ("note", "open_valve")
]
GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "peer", "version": "1"},
}


def said(request: dict[str, Any], effects: int) -> dict[str, Any] | None:
    """The result of a request; None for a method that is not known."""
    match request["method"]:
        case "initialize":
            return GREETING
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            name, text = request["params"]["name"], request["params"]["arguments"]["text"]
            os.write(effects, f"{name} {text}\n".encode())
            return {"content": [{"type": "text", "text": f"{name} is done"}]}
    return None


def main(effects: str, lock: str) -> None:
    """Until its client is gone."""
    # Should it not notice that.
    signal.alarm(120)
    fcntl.flock(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH)
    file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        result = said(request, file)
        unknown = {"code": -32601, "message": "Method not found"}
        told = {"error": unknown} if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **told}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
