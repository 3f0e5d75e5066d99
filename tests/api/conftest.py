"""Applications in this process, and servers in processes of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

ROOT = Path(__file__).parents[2]
LOOPBACK = "http://127.0.0.1:8000"

DOCUMENTS = [
    {
        "name": "startup.md",
        "text": "# Starting\n\nOpen the brine valve first, then start the pump. \U0001f6a7 Wait for 3 bar.",
        "attributes": {"team": "operations", "year": 2024, "approved": True},
    },
    {
        "name": "winter.md",
        "text": "# Winterbetrieb\n\nBei Frost läuft die Umwälzpumpe im Dauerbetrieb.",
        "attributes": {"team": "maintenance", "year": 2025},
    },
    {"name": "parts.txt", "text": "The scraper blade is part 4711. Order two at a time."},
]


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of a condition, polled; AssertionError when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@dataclass
class Server:
    """`uvicorn api.app:from_environment` on a free port of loopback."""

    process: subprocess.Popen[bytes]
    client: httpx2.Client
    log: Path

    def end(self) -> None:
        """Asked to stop, it does."""
        self.client.close()
        self.process.terminate()
        self.process.wait(20)

    def kill(self) -> None:
        """The power goes."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False


def start_server(data_dir: Path, log: Path, **settings: str) -> Server:
    """A server over a data folder, once it is ready. settings: variables of its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "api.app:from_environment", "--factory"]
    environment = {**os.environ, "KB_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT), **settings}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--no-access-log"],
            env=environment,
            stdout=out,
            stderr=out,
            cwd=log.parent,
        )
    server = Server(process, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30), log)
    try:
        until(server.ready)
    except BaseException:
        server.end()
        raise
    return server


@pytest.fixture(scope="session")
def started() -> Callable[..., Server]:
    """Starts a server over a data folder, which the test ends."""
    return start_server


@pytest.fixture
def serve(settings: Any, blank_catalog: Path, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers over one data folder, one after the other; ends them all."""
    shutil.copy(blank_catalog, settings.data_dir)
    started: list[Server] = []

    def start() -> Server:
        started.append(start_server(settings.data_dir, tmp_path / f"server-{len(started)}.log"))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture(scope="session")
def standing(models: Path, blank_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that several tests ask, each about things of its own."""
    folder = tmp_path_factory.mktemp("standing")
    (folder / "data").mkdir()
    shutil.copy(blank_catalog, folder / "data")
    (folder / "data" / "models").symlink_to(models, target_is_directory=True)
    server = start_server(folder / "data", folder / "server.log")
    yield server
    server.end()


@pytest.fixture(scope="session")
def open_app(
    models: Path, blank_catalog: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TestClient]:
    """Applications over data folders of their own; one is running inside `with`."""
    from api.app import create_app
    from kb.settings import Settings

    def make(*, open_to: str = "127.0.0.1", base_url: str = LOOPBACK, **more: Any) -> TestClient:
        folder = tmp_path_factory.mktemp("data")
        shutil.copy(blank_catalog, folder)
        settings = Settings(folder, f"sqlite:///{folder}/catalog.db", **more)
        settings.models_dir.symlink_to(models, target_is_directory=True)
        app = create_app(settings, open_to=open_to)
        return TestClient(app, base_url=base_url, raise_server_exceptions=False)

    return make


@pytest.fixture(scope="session")
def handbook(open_app: Callable[..., TestClient]) -> Iterator[TestClient]:
    """A running application with the knowledge base `handbook`, only to be read."""
    with open_app() as client:
        assert client.post("/v1/knowledge_bases", json={"name": "handbook"}).status_code == 201
        sent = client.post("/v1/knowledge_bases/handbook/documents?wait=true", json={"documents": DOCUMENTS})
        assert sent.status_code == 200, sent.text
        yield client


@pytest.fixture
def client(
    open_app: Callable[..., TestClient], embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A running application over an empty data folder, under a fake embedder."""
    from kb.embed.loaded import LoadedModels

    monkeypatch.setattr(LoadedModels, "embedder", lambda self, model: embedder)
    with open_app() as running:
        yield running


@pytest.fixture(scope="session")
def documents() -> list[dict[str, Any]]:
    """What the knowledge base `handbook` holds."""
    return DOCUMENTS


@pytest.fixture(scope="session", name="until")
def until_() -> Callable[..., Any]:
    """Polls a condition for a bounded time."""
    return until
