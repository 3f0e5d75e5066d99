"""A small MCP server whose calls wait until they are cancelled: waiting_peer.py PORT

It connects to that port, and tells there which call has begun and which it was told to stop.
"""

import json
import socket
import sys
from typing import Any

TOOLS = [{"name": name, "description": name, "inputSchema": {"type": "object"}} for name in ("quick", "slow")]
GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "waiting", "version": "1"},
}


def main(port: str) -> None:
    """Until its client is gone."""
    names: dict[Any, str] = {}
    with socket.create_connection(("127.0.0.1", int(port))) as listener:

        def answer(request: dict[str, Any], **told: Any) -> None:
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **told}), flush=True)

        for line in sys.stdin:
            request = json.loads(line)
            match request["method"]:
                case "initialize":
                    answer(request, result=GREETING)
                case "tools/list":
                    answer(request, result={"tools": TOOLS})
                case "tools/call":
                    name = names[request["id"]] = request["params"]["name"]
                    if name == "quick":
                        answer(request, result={"content": [{"type": "text", "text": "done"}]})
                    listener.sendall(f"{name} begun\n".encode())
                case "notifications/cancelled":
                    listener.sendall(f"{names[request['params']['requestId']]} stopped\n".encode())
                case _ if "id" in request:
                    answer(request, error={"code": -32601, "message": "Method not found"})


if __name__ == "__main__":
    main(*sys.argv[1:])
