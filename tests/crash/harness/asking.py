"""Forks a process that serves and asks itself, to be killed at one of its commits: python asking.py FAKES

Reads a line of JSON per process (`Folder.ask` in `harness/runs.py`), and answers with a line: how it ended,
how many commits it made, and what it was answered last.
"""

import asyncio
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# No threads in the process that forks.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import httpx2
import openai.types.responses

import kb.agent.keeping
import kb.remote.session
from api.app import create_app
from kb.catalog import Catalog
from kb.catalog.database import Database, written
from kb.embed.loaded import LoadedModels
from kb.metering.ledger import Ledger
from kb.models.registry import ModelCatalog
from kb.settings import Settings
from kb.tokens import count_tokens

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.run_bugs import BUGS

MODEL = "gpt-4.1-mini"
OWN = {"type": "mcp", "server_label": "kb", "connector_id": "kb", "require_approval": "never"}
PEER = {
    "type": "mcp",
    "server_label": "peer",
    "connector_id": "peer",
    "require_approval": {"never": {"tool_names": ["note"]}},
}
ASKED = {"model": MODEL, "input": "Can the valve be opened?", "tools": [OWN, PEER]}
# An hour later nobody believes that anything of now is still at work.
LATER = timedelta(hours=1)

Client = httpx2.AsyncClient
Answers = list[tuple[int, Any]]


class Commits:
    """Counts the transactions of this process that write, and kills it right before or behind one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.kill: tuple[int, str] | None = None

    def planted(self, held: ExitStack) -> None:
        """From here on."""
        real = Database.write

        @contextmanager
        def write(database: Database, *, synced: bool = True) -> Iterator[Any]:
            with real(database, synced=synced) as connection:
                yield connection
                # Writers of a process stand in line: nobody else counts here at the same time.
                self.count += 1
                number = self.count
                self._at(number, "before")
            self._at(number, "behind")

        Database.write = write  # type: ignore[method-assign, assignment]
        held.callback(setattr, Database, "write", real)

    def _at(self, number: int, where: str) -> None:
        if self.kill == (number, where):
            os.killpg(0, signal.SIGKILL)


async def by_run(client: Client) -> Answers:
    """A run in the background, and a yes to what it asks for."""
    asked = await client.post("/v1/runs", json=ASKED)
    run = await ended(client, asked.json()["id"])
    (waiting,) = run["approvals"]
    return [await word_by_run(client, run["id"], waiting["id"], approve=True)]


async def by_response(client: Client) -> Answers:
    """The same by a client that waits for each response."""
    asked = (await client.post("/v1/responses", json=ASKED)).json()
    return [await word_by_response(client, asked["id"], asked["output"][-1]["id"], approve=True)]


async def word_by_run(client: Client, asking: str, approval: str, *, approve: bool) -> tuple[int, Any]:
    """What comes of a word that is said to a run."""
    answered = await client.post(f"/v1/runs/{asking}/approvals/{approval}", json={"approve": approve})
    if answered.status_code != 200:
        return answered.status_code, answered.json()
    return 200, (await ended(client, answered.json()["id"]))["response"]


async def word_by_response(client: Client, asking: str, approval: str, *, approve: bool) -> tuple[int, Any]:
    """What comes of one that a response goes on with."""
    word = {"type": "mcp_approval_response", "approval_request_id": approval, "approve": approve}
    more = {"input": [word], "previous_response_id": asking}
    answered = await client.post("/v1/responses", json={**ASKED, **more})
    return answered.status_code, answered.json()


async def ended(client: Client, run_id: str) -> Any:
    """A run, once it is over."""
    while True:
        run = (await client.get(f"/v1/runs/{run_id}")).json()
        if run["status"] not in ("queued", "in_progress"):
            return run
        await asyncio.sleep(0.005)


DOORS: dict[str, tuple[Callable[[Client], Awaitable[Answers]], Callable[..., Awaitable[tuple[int, Any]]]]] = {
    "run": (by_run, word_by_run),
    "response": (by_response, word_by_response),
}


async def ask(wanted: dict[str, Any], commits: Commits) -> Answers:
    """Serve, and ask: for everything, or again for what a killed process was asked, and for its contrary."""
    folder = Path(wanted["folder"])
    settings = Settings(
        folder,
        f"sqlite:///{folder}/catalog.db",
        endpoints=folder / "endpoints.toml",
        connectors=folder / "connectors.toml",
    )
    app = create_app(settings)
    first, word = DOORS[wanted["door"]]
    async with app.router.lifespan_context(app):
        head = {"authorization": f"Bearer {wanted['key']}"}
        transport = httpx2.ASGITransport(app)
        async with Client(
            transport=transport, base_url="http://127.0.0.1", headers=head, timeout=60
        ) as client:
            commits.count, commits.kill = 0, tuple(wanted["kill"]) if wanted["kill"] else None
            if not wanted["again"]:
                return await first(client)
            later(app.state.service.catalog)
            asking, approval = wanted["again"]
            said = [await word(client, asking, approval, approve=True) for _ in range(2)]
            return [*said, await word(client, asking, approval, approve=False)]


def later(catalog: Catalog) -> None:
    """What anybody does who looks an hour later."""
    at = datetime.now(UTC) + LATER
    catalog.responses.expire(written(at))
    Ledger(catalog.calls, catalog.usage, ModelCatalog.read(), now=lambda: at).usage()


def child(wanted: dict[str, Any], told: int) -> None:
    """Ends the process."""
    code = 70
    try:
        os.setsid()
        signal.alarm(60)
        log = os.open(f"{wanted['folder']}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if wanted["pulse"] is not None:
            kb.agent.keeping._PULSE_SECONDS = wanted["pulse"]
        commits = Commits()
        with ExitStack() as held:
            if wanted["bug"]:
                BUGS[wanted["bug"]].plant(held)
            commits.planted(held)
            answers = asyncio.run(ask(wanted, commits))
        os.write(told, json.dumps([commits.count, answers]).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main(fakes: str) -> None:
    """Serve until standard input ends."""
    spec = importlib.util.spec_from_file_location("fakes", fakes)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    LoadedModels.embedder = lambda self, model: module.WordEmbedder()  # type: ignore[assignment, method-assign]
    assert all((openai.types.responses, kb.remote.session))
    count_tokens("loaded")
    for line in sys.stdin:
        wanted = json.loads(line)
        reading, told = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            child(wanted, told)
        os.close(told)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, *(json.loads(said) if said else (0, []))]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
