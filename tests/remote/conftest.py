"""Servers to be a client of: real ones, none of them written here, and a bare one that does as it is told."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kb.remote.server import Address, Command, RemoteServer
from kb.web.addresses import PRIVATE

ROOT = Path(__file__).parents[2]
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"


def over_http(url: str, **more: Any) -> RemoteServer:
    """A server of this machine, as an operator opens it."""
    return RemoteServer("peer", Address(url, allow=PRIVATE), **more)


def over_stdio(*command: str, **more: Any) -> RemoteServer:
    """One that is started."""
    env = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return RemoteServer("peer", Command(command[0], command[1:], env), **more)


@contextmanager
def running(command: list[str], ready: str, log: Path, **env: str) -> Iterator[None]:
    """A process, once an address of it answers at all, whatever it says."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **env},
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + 60
        while not _answers(ready):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        httpx2.get(url, trust_env=False)
    except httpx2.TransportError:
        return False
    return True


def free_port() -> int:
    """Of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def data_folder(models: Path, blank_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a `kb` without documents."""
    folder = tmp_path_factory.mktemp("peer")
    shutil.copy(blank_catalog, folder)
    (folder / "models").symlink_to(models, target_is_directory=True)
    return folder


@pytest.fixture(scope="session")
def kb_over_http(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteServer]:
    """`kb serve`."""
    port, log = free_port(), tmp_path_factory.mktemp("log") / "kb.log"
    command = [sys.executable, "-m", "kb.cli", "serve", "--port", str(port), "--data-dir", str(data_folder)]
    with running(command, f"http://127.0.0.1:{port}/readyz", log):
        yield over_http(f"http://127.0.0.1:{port}/mcp")


@pytest.fixture(scope="session")
def everything(pytestconfig: pytest.Config) -> Path:
    """The protocol's own server with everything in it, from npm; installed once for this working copy."""
    if not (npm := shutil.which("npm")) or not shutil.which("node"):
        pytest.skip("node and npm are not here; they run @modelcontextprotocol/server-everything")
    folder = pytestconfig.cache.mkdir("server-everything")
    script = folder / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    if not script.exists():
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), EVERYTHING]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            pytest.skip(f"{EVERYTHING} cannot be installed: {done.stderr[-200:]}")
    return script


@pytest.fixture(params=["stdio", "http"])
def everything_server(
    request: pytest.FixtureRequest, everything: Path, tmp_path: Path
) -> Iterator[RemoteServer]:
    """It, over each transport."""
    if request.param == "stdio":
        yield over_stdio("node", str(everything), "stdio")
        return
    port = free_port()
    with running(
        ["node", str(everything), "streamableHttp"],
        f"http://127.0.0.1:{port}/",
        tmp_path / "log",
        PORT=str(port),
    ):
        yield over_http(f"http://127.0.0.1:{port}/mcp")


class Bare(ThreadingHTTPServer):
    """Speaks the protocol with a handshake over HTTP, and of each method says what `says` has for it.

    A value is a result, bytes are a body as it is, and a function does what it likes with the handler.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.says: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "bare", "version": "1"},
            },
            "tools/list": {"tools": [tool("echo")]},
            "tools/call": {"content": [{"type": "text", "text": "said"}]},
        }
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.left = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"

    def handle_error(self, *_: object) -> None:
        """Who leaves in the middle is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet: of two, the second waits for the first to be acknowledged.
    wbufsize = 65_536
    server: Bare

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method = request["method"]
        self.server.asked.append(method)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        said = self.server.says.get(method)
        if "id" not in request:
            self.reply(b"", status=202)
        elif callable(said):
            said(self, request)
        elif isinstance(said, bytes):
            self.reply(said)
        elif said is None:
            missing = {"code": -32601, "message": "Method not found"}
            self.reply(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": missing}).encode())
        else:
            self.reply(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": said}).encode())

    def do_GET(self) -> None:
        self.server.asked.append("GET")
        self.server.says.get("GET", lambda handler, _: handler.reply(b"", status=405))(self, {})

    def reply(
        self, body: bytes, *, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        """One whole response."""
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not into the output of the tests."""


def tool(name: str, description: str = "Says it again.", **more: Any) -> dict[str, Any]:
    """As a server lists it."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


@pytest.fixture
def bare() -> Iterator[Bare]:
    """On loopback."""
    with Bare() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.left.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session", name="tool")
def tool_() -> Callable[..., dict[str, Any]]:
    """`tool`."""
    return tool


@pytest.fixture(scope="session", name="over_http")
def over_http_() -> Callable[..., RemoteServer]:
    """`over_http`."""
    return over_http


@pytest.fixture(scope="session", name="over_stdio")
def over_stdio_() -> Callable[..., RemoteServer]:
    """`over_stdio`."""
    return over_stdio
