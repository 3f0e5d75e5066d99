"""`kb serve` over a scripted endpoint of language models, asked by the official `openai` SDK."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import mcp_server_time.server
import pytest
import uvicorn
from openai import OpenAI
from site_of_pages import OPEN, Site, served
from upstream import Upstream, refusing, replies

from kb.catalog import Catalog
from kb.catalog.keys import Limits

ROOT = Path(__file__).parents[3]

# Models by what is particular about them; all are priced as gpt-4.1-mini is.
MODEL = """
[[model]]
id = "{id}"
context_window = {window}
max_output_tokens = 1000
input = ["text"]
output = ["text"]
tools = true
endpoints = ["responses"]
tokenizer = "o200k_base"
credits = {{ cache_hit = "1.33", standard = {{ input = "5.32", output = "21.28" }} }}
"""
WINDOWS = {
    "chat-mini": 1_000_000,
    "hasty": 100_000,
    "absent": 100_000,
    "homeless": 100_000,
    "seeking": 100_000,
    "seeking-chat": 100_000,
    "narrow": 3_000,
    "tight": 6_000,
}
ENDPOINT = """
[[endpoint]]
name = "{name}"
base_url = "{url}"
kind = "{kind}"
models = {models}
total_seconds = 60
retries = {retries}
web_search = {web_search}
connect_seconds = {connect}
first_token_seconds = {first}
"""
# Servers of others: one that tells the time, the same started for each run, one whose calls leave a line,
# one that nobody can start.
CONNECTORS = """
[[connector]]
id = "clock"
url = "{clock}"
allow_private = true
require_approval = "never"

[[connector]]
id = "started"
command = "{python}"
args = ["-m", "mcp_server_time", "--local-timezone", "Europe/Berlin"]
require_approval = "never"

[[connector]]
id = "valve"
command = "{python}"
args = ["-SE", "{peer}", "{folder}/effects", "{folder}/lock"]
require_approval = "always"

[[connector]]
id = "gone"
command = "{folder}/no-such-command"
"""
PUMP = "Open the brine valve first, then start the pump. \U0001f6a7 Wait for 3 bar."
DOCUMENTS = {
    "startup.md": f"# Starting\n\n{PUMP}",
    "winter.md": "# Winter\n\nIn frost the circulation pump runs without a pause.",
    "parts.txt": "The scraper blade is part 4711. Order two at a time.",
}


@dataclass
class House:
    """A data folder that `kb serve` has open, in two processes, and other processes beside it.

    keys: secrets by name, ids: what they are listed as; two are there, others can be made. environment: what
    further processes over this folder have to be started with.
    """

    folder: Path
    url: str
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    clients: list[OpenAI] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def make_key(self, name: str, limits: Limits | None = None) -> OpenAI:
        """The SDK with a key of its own, which may call and spend what its limits say."""
        with closing(self.catalog()) as catalog:
            key, self.keys[name] = catalog.keys.create(name)
            self.ids[name] = key.id
            if limits:
                catalog.keys.limit(key.id, limits)
        return self.sdk(name)

    def catalog(self) -> Catalog:
        """The tables themselves, in this process."""
        return Catalog(f"sqlite:///{self.folder}/catalog.db")

    def sdk(self, key: str = "ann", url: str | None = None, **options: Any) -> OpenAI:
        """The SDK, unchanged but for its address; it tries nothing again unless told to."""
        given = {"base_url": f"{url or self.url}/v1", "api_key": self.keys[key], "max_retries": 0}
        self.clients.append(OpenAI(**{**given, **options}))
        return self.clients[-1]

    def rows(self, run_id: str | None = None) -> list[dict[str, Any]]:
        """Calls in the ledger, oldest first: those of one answer, or the newest hundred."""
        head = {"authorization": f"Bearer {self.keys['ann']}"}
        listed = httpx2.get(f"{self.url}/v1/usage/calls?limit=100", headers=head, timeout=30).json()["data"]
        return [row for row in reversed(listed) if run_id is None or row["run_id"] == run_id]


def _free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def scripted() -> Iterator[Upstream]:
    """The endpoint that the server calls."""
    served = Upstream()
    yield served
    served.close()


@pytest.fixture
def upstream(scripted: Upstream) -> Upstream:
    """The same, that has been asked nothing yet and says one sentence."""
    scripted.requests.clear()
    scripted.script(replies.says())
    return scripted


@pytest.fixture(scope="session")
def web() -> Iterator[Site | None]:
    """What the server searches; None where this system has no address for it."""
    with ExitStack() as stack:
        found = None
        with suppress(OSError):
            found = stack.enter_context(served())
        yield found


@pytest.fixture
def site(web: Site | None) -> Site:
    """The same, that was asked nothing yet and finds its own pages."""
    if web is None:
        pytest.skip(f"this system has no {OPEN}")
    web.asked.clear()
    web.found.clear()
    return web


@pytest.fixture(scope="session")
def clock(until: Callable[..., Any]) -> Iterator[str]:
    """The address of `mcp-server-time`: over HTTP, since its command takes a second to start."""
    app = mcp_server_time.server.create_server("Europe/Berlin").streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def built(
    scripted: Upstream,
    clock: str,
    web: Site | None,
    models: Path,
    blank_catalog: Path,
    tmp_path_factory: pytest.TempPathFactory,
    until: Callable[..., Any],
) -> Iterator[House]:
    """With the knowledge base `handbook` in it."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copy(blank_catalog, folder)
    (folder / "models").symlink_to(models, target_is_directory=True)
    house = House(folder, f"http://127.0.0.1:{(port := _free_port())}")
    for name in ("ann", "ben"):
        house.make_key(name)
    with refusing() as nowhere, (folder / "log").open("wb") as log:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KB_MODEL_CATALOG": str(_models(folder)),
            "KB_ENDPOINTS": str(_endpoints(folder, scripted.url, nowhere)),
            "KB_CONNECTORS": str(_connectors(folder, clock)),
            "KB_DATA_DIR": str(folder),
        }
        files = ("KB_MODEL_CATALOG", "KB_ENDPOINTS", "KB_CONNECTORS")
        if web:
            environment |= {"KB_WEB_SEARCH_URL": web.url, "KB_WEB_NETWORKS": f"{OPEN}/32"}
            files = (*files, "KB_WEB_SEARCH_URL", "KB_WEB_NETWORKS")
        house.environment.update({name: environment[name] for name in files})
        command = [sys.executable, "-m", "kb.cli", "serve", "--workers", "2", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: _ready(house, process), 60)
            _lay_in(house)
            yield house
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in (said := (folder / "log").read_text()), said


def _models(folder: Path) -> Path:
    made = folder / "models.toml"
    made.write_text("".join(MODEL.format(id=name, window=window) for name, window in WINDOWS.items()))
    return made


def _endpoints(folder: Path, url: str, nowhere: str) -> Path:
    made = folder / "endpoints.toml"
    usual = {"url": url, "kind": "responses", "retries": 1, "connect": 5, "first": 30, "web_search": "false"}
    made.write_text(
        "".join(
            ENDPOINT.format(name=name, **{**usual, **more})
            for name, more in {
                "first": {"models": '{ "gpt-4.1-mini" = "their-mini" }'},
                "talk": {"models": '["chat-mini"]', "kind": "chat"},
                "hasty": {"models": '["hasty"]', "connect": 0.1, "first": 0.1, "retries": 0},
                "seeks": {"models": '["seeking"]', "web_search": "true"},
                "seeks-too": {"models": '["seeking-chat"]', "kind": "chat", "web_search": "true"},
                "absent": {"models": '["absent"]', "url": nowhere, "retries": 0},
                "narrow": {"models": '["narrow", "tight"]'},
            }.items()
        )
    )
    return made


def _connectors(folder: Path, clock: str) -> Path:
    made = folder / "connectors.toml"
    peer = ROOT / "tests" / "crash" / "harness" / "peer.py"
    told = CONNECTORS.format(clock=clock, python=sys.executable, folder=folder, peer=peer)
    made.write_text(told)
    return made


def _ready(house: House, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, (house.folder / "log").read_text()
    try:
        return httpx2.get(f"{house.url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _lay_in(house: House) -> None:
    head = {"authorization": f"Bearer {house.keys['ann']}"}
    with httpx2.Client(base_url=house.url, headers=head, timeout=60) as client:
        assert client.post("/v1/knowledge_bases", json={"name": "handbook"}).status_code == 201
        sent = [{"name": name, "text": text} for name, text in DOCUMENTS.items()]
        path = "/v1/knowledge_bases/handbook/documents?wait=true"
        assert client.post(path, json={"documents": sent}).json()["status"] == "succeeded"


@pytest.fixture
def house(built: House) -> Iterator[House]:
    """The same, whose clients hang up behind each test."""
    yield built
    while built.clients:
        built.clients.pop().close()


@pytest.fixture(params=["gpt-4.1-mini", "chat-mini"])
def model(request: pytest.FixtureRequest) -> str:
    """A model at each kind of endpoint."""
    return str(request.param)


@pytest.fixture
def client(house: House) -> OpenAI:
    """The SDK with Ann's key."""
    return house.sdk()


@pytest.fixture
def other(house: House) -> OpenAI:
    """The same with Ben's."""
    return house.sdk("ben")
