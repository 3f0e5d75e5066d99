"""An MCP server that repeats all that it was sent, in every place: over HTTP, or by `python echoing.py`.

What it was sent are the headers of the request, or the variables of its environment.
"""

import json
import os
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOOLS = ("echo", "fail", "break")


def answer(request: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any] | None:
    """A message for a message: `echo` gives it, `fail` says that it is wrong, `break` is an error."""
    if "id" not in request:
        return None
    said, method = json.dumps(dict(sent), ensure_ascii=False), request["method"]
    result: dict[str, Any] | None = None
    if method == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echoing", "version": "1"},
            "instructions": said,
        }
    elif method == "tools/list":
        schema = {"type": "object", "description": said, "properties": {"x": {"enum": [said]}}}
        result = {
            "tools": [{"name": name, "description": said[:8000], "inputSchema": schema} for name in TOOLS]
        }
    elif method == "tools/call" and (name := request["params"]["name"]) != "break":
        content = [
            {"type": "text", "text": said},
            {"type": "resource_link", "name": said, "uri": f"x:{said}"},
        ]
        result = {"content": content, "structuredContent": {said: said}, "isError": name == "fail"}
    told = {"error": {"code": -32000, "message": said}} if result is None else {"result": result}
    return {"jsonrpc": "2.0", "id": request["id"], **told}


@contextmanager
def echoing(tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """The port of one on loopback, and the headers that it was sent."""
    sent: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65_536

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            sent.append({name.lower(): value for name, value in self.headers.items()})
            told = answer(request, sent[-1])
            body = b"" if told is None else json.dumps(told).encode()
            self.send_response(202 if told is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            # As some repeat a key for their logs.
            self.send_header("x-sent", sent[-1].get("authorization", ""))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not into the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server.server_port, sent
        server.shutdown()
        thread.join()


def main() -> None:
    """Over the standard streams."""
    for line in sys.stdin:
        if (told := answer(json.loads(line), os.environ)) is not None:
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
