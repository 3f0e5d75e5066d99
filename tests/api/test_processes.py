"""Several server processes on one data folder: one killed, the parent killed, all stopped."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
KB = "/v1/knowledge_bases/k"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
]


class Processes:
    """`kb serve --workers 2`."""

    def __init__(self, data: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "kb.cli", "serve", "--workers", "2", "--port", str(port)]
        with log.open("wb") as out:
            self.parent = subprocess.Popen(
                [*command, "--data-dir", str(data)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{port}"

    def serving(self) -> set[int]:
        """The processes that have opened the catalog."""
        children = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
        return {int(pid) for pid in children if opened(int(pid))}

    def ask(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        """Over a connection of its own."""
        return httpx2.request(method, self.url + path, timeout=60, **sent)

    def ready(self) -> bool:
        """Both, and one answers."""
        assert self.parent.poll() is None
        try:
            return len(self.serving()) == 2 and self.ask("GET", "/readyz").status_code == 200
        except httpx2.TransportError:
            return False


def opened(pid: int) -> bool:
    """Whether a process has the catalog open."""
    try:
        return any(os.readlink(file).endswith("catalog.db") for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.fixture
def processes(settings: Any, tmp_path: Path, until: Callable[..., Any]) -> Iterator[Processes]:
    """Ready, with the knowledge base `k`."""
    started = Processes(settings.data_dir, tmp_path / "log")
    try:
        until(started.ready, 120)
        assert started.ask("POST", "/v1/knowledge_bases", json={"name": "k"}).status_code == 201
        yield started
    finally:
        if started.parent.poll() is None:
            started.parent.terminate()
            started.parent.wait(60)


def put(processes: Processes, name: str) -> None:
    """Send a document whose one word is its name's, and wait for it."""
    one = {"name": f"{name}.txt", "text": f"The {name} is painted twice a year."}
    sent = processes.ask("POST", f"{KB}/documents?wait=true", json={"documents": [one]})
    assert sent.status_code == 200, sent.text


def found(processes: Processes, name: str) -> list[str]:
    """What a search for it finds, over a new connection."""
    asked = {"query": name, "mode": "lexical"}
    return [hit["uri"] for hit in processes.ask("POST", f"{KB}/search", json=asked).json()["hits"]]


def test_a_killed_process_is_replaced_and_nothing_is_lost(
    processes: Processes, until: Callable[..., Any]
) -> None:
    """The one that does the jobs is among those killed; both go, one after the other."""
    put(processes, "valve")
    for pid in sorted(processes.serving()):
        os.kill(pid, signal.SIGKILL)
        until(lambda killed=pid: killed not in processes.serving() and processes.ready(), 120)
    assert found(processes, "valve") == ["valve.txt"]
    put(processes, "pump")
    for _ in range(8):
        assert found(processes, "pump") == ["pump.txt"]


def test_what_the_command_line_takes_in_is_found_by_every_process(
    processes: Processes, settings: Any, folder: Path
) -> None:
    """`kb ingest` beside the running server: the next search of any process finds it, or no longer does."""
    command = [sys.executable, "-m", "kb.cli", "ingest", str(folder), "--kb", "k", "--data-dir"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    (folder / "kiln.txt").write_text("The kiln is emptied by hand.")
    for inside in (["kiln.txt"], []):
        subprocess.run([*command, str(settings.data_dir)], env=environment, check=True)
        assert [found(processes, "kiln") for _ in range(8)] == [inside] * 8
        (folder / "kiln.txt").unlink(missing_ok=True)
        (folder / "other.txt").write_text("A loom.")


def test_server_processes_end_with_their_parent(processes: Processes, until: Callable[..., Any]) -> None:
    """A killed parent leaves none behind that would hold the port and the jobs."""
    put(processes, "valve")
    left = processes.serving()
    processes.parent.kill()
    processes.parent.wait(10)
    until(lambda: not any(opened(pid) for pid in left), 60)
    with pytest.raises(httpx2.ConnectError):
        processes.ask("GET", "/healthz")


def test_a_stop_ends_all_of_them(processes: Processes) -> None:
    """By SIGTERM, with code 0."""
    put(processes, "valve")
    left = processes.serving()
    processes.parent.terminate()
    assert processes.parent.wait(60) == 0
    assert not any(opened(pid) for pid in left)
