"""`kb serve --workers N` on one data folder: started, stopped, killed, weighed. Linux."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 180
_STOP_SECONDS = 90
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Memory:
    """Of all server processes together, in MB. rss counts shared pages once for each, pss once."""

    at: float
    rss: float
    pss: float
    largest: float


class Cluster:
    """The processes. command: starts `kb`, e.g. (python, -m, kb.cli)."""

    def __init__(self, command: Sequence[str], data_dir: Path, port: int, workers: int, log: Path) -> None:
        options = ["--port", str(port), "--workers", str(workers), "--data-dir", str(data_dir)]
        self._command = [*command, "serve", *options]
        self.port = port
        self._workers = workers
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when every process is ready. A group of its own, so that all can be killed at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        self._until(lambda: len(self.serving()) == self._workers and self._is_ready())

    def stop(self) -> int:
        """SIGTERM; the exit code, once every process is gone."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(_STOP_SECONDS)
        self._until(lambda: not self._has_group())
        return code

    def kill(self) -> None:
        """SIGKILL for all of it."""
        assert self._process is not None
        if self._has_group():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_SECONDS)
        self._until(lambda: not self._has_group())

    def kill_worker(self) -> None:
        """SIGKILL for the oldest server process; returns when another one stands in its place."""
        first = self.serving()[0]
        os.kill(first, signal.SIGKILL)
        self._until(lambda: first not in self.serving() and len(self.serving()) == self._workers)

    def serving(self) -> list[int]:
        """The server processes that have opened the catalog, by age."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [int(child) for child in children if _has_open(int(child), "catalog.db")]

    def memory(self) -> Memory | None:
        """Now; None while a process comes or goes."""
        try:
            weighed = [_rollup(pid) for pid in self.serving()]
        except OSError:
            return None
        if len(weighed) != self._workers:
            return None
        return Memory(
            time.perf_counter(),
            sum(rss for rss, _ in weighed),
            sum(pss for _, pss in weighed),
            max(rss for rss, _ in weighed),
        )

    def _has_group(self) -> bool:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECONDS
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"the server did not get there; see {self._log}")
            time.sleep(_LOOK_SECONDS)


def _has_open(pid: int, name: str) -> bool:
    try:
        return any(os.readlink(file).endswith(name) for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        # It ended meanwhile.
        return False


def _rollup(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return sizes["Rss"], sizes["Pss"]
