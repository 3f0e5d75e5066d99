"""The soak: many clients, several server processes, restarts and kills; every answer is checked.

    python -m benchmarks.soak [--seconds S] [--clients N] [--workers N] [--kbs N] [--seed N] [--data-dir DIR]

Clients draw 70 % searches, 20 % ingests (a fifth of which replace a document) and 10 % deletions of small
documents, under the real model. In the first half the server is disturbed four times: one process is killed,
all are stopped by SIGTERM, all are killed, all are killed again. Must hold: no hit of another knowledge base;
every hit's text is its span's; what was acknowledged is found, or gone, in the next search over a new
connection, lexical and dense; nothing fails outside a disturbance; memory of the second half is flat; at the
end the documents are those of the clients' ledger and `kb fsck` finds nothing. Exits 1 otherwise. Linux.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import free_port
from benchmarks.soak.client import Client, Connection
from benchmarks.soak.cluster import Cluster, Memory
from benchmarks.soak.ledger import Calm, Ledger
from benchmarks.soak.report import growth_mb, summary

_WEIGH_SECONDS = 2.0
_SETTLE_SECONDS = 120

# A run shorter than this shows how memory is taken up, not whether it is kept.
_FLAT_AFTER_SECONDS = 240
# All processes together, first to last of the second half on its regression line: allocators breathe.
_FLAT_MB = 64


@dataclass(slots=True)
class Run:
    """Everything a run leaves behind."""

    ledger: Ledger = field(default_factory=Ledger)
    calm: Calm = field(default_factory=Calm)
    memory: list[Memory] = field(default_factory=list)
    start: float = 0.0
    end: float = 0.0


def main() -> None:
    """Run, print the summary, judge."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        data, log = given.data_dir or Path(scratch) / "data", Path(scratch) / "server.log"
        if given.models:
            data.mkdir(parents=True, exist_ok=True)
            (data / "models").symlink_to(given.models.resolve())
        command = (sys.executable, *given.server)
        cluster = Cluster(command, data, free_port(), given.workers, log)
        cluster.start()
        run = Run()
        try:
            _soak(given, cluster, run)
            if code := cluster.stop():
                run.ledger.violation(f"the server ended with code {code}")
        finally:
            cluster.kill()
            if run.ledger.violated or not run.end:
                print(log.read_text()[-8000:], file=sys.stderr)
        _fsck(command, data, run.ledger)
    print(summary(run, given.clients, given.kbs, given.workers))
    raise SystemExit(1 if run.ledger.violated else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kbs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--undisturbed", action="store_true", help="neither restarts nor kills")
    parser.add_argument("--data-dir", type=Path, help="a new folder; a temporary one if left out")
    parser.add_argument("--models", type=Path, help="a folder of exported models, to save the export")
    parser.add_argument(
        "--server", nargs="+", default=["-m", "kb.cli"], help="what Python runs as the `kb` command"
    )
    return parser.parse_args()


def _soak(given: argparse.Namespace, cluster: Cluster, run: Run) -> None:
    port = cluster.port
    asking = Connection(port, run.calm)
    kbs = {}
    for number in range(given.kbs):
        status, made, _ = asking.ask("POST", "/v1/knowledge_bases", {"name": f"kb{number}"})
        assert status == 201, made
        kbs[made["name"]] = made["id"]
    run.start, over = time.perf_counter(), threading.Event()
    clients = [
        Client(number, given.seed, port, kbs, run.ledger, run.calm, over) for number in range(given.clients)
    ]
    for client in clients:
        client.start()
    with _weighing(cluster, run):
        if not given.undisturbed:
            _disturb(cluster, run, given.seconds)
        # However long the starts took, the second half is one without disturbances.
        rest = max(given.seconds / 2, run.start + given.seconds - time.perf_counter())
        time.sleep(rest)
        run.end = time.perf_counter()
        over.set()
        for client in clients:
            client.join()
    asking.close()
    _compare(asking, list(kbs), run.ledger)
    asking.close()


def _disturb(cluster: Cluster, run: Run, seconds: float) -> None:
    """Four times within the first half."""

    def stopped() -> None:
        if code := cluster.stop():
            run.ledger.violation(f"a SIGTERM ended the server with code {code}")
        cluster.start()

    def killed() -> None:
        cluster.kill()
        cluster.start()

    for part, how, what in (
        (0.08, "one process killed", cluster.kill_worker),
        (0.16, "SIGTERM", stopped),
        (0.26, "kill -9", killed),
        (0.36, "kill -9", killed),
    ):
        _sleep_until(run.start + part * seconds)
        with run.calm.disturbed(how):
            what()


def _compare(asking: Connection, kbs: list[str], ledger: Ledger) -> None:
    """The documents of the server and those of the ledger, once every accepted one is settled."""
    deadline = time.perf_counter() + _SETTLE_SECONDS
    while True:
        stored = {name for kb in kbs for name in _stored(asking, kb)}
        accepted = {entry.name for entry in ledger.entries if entry.state == "accepted"}
        if accepted <= stored or time.perf_counter() > deadline:
            break
        time.sleep(0.2)
    inside = {entry.name for entry in ledger.entries if entry.state == "in"} | accepted
    either = {entry.name for entry in ledger.entries if entry.state == "either"}
    for name in sorted(inside - stored):
        ledger.violation(f"{name} was acknowledged and is lost")
    for name in sorted(stored - inside - either):
        ledger.violation(f"{name} is there and was never acknowledged, or was deleted")
    ledger.count("documents at the end", len(stored))
    ledger.count("documents whose last answer was lost", len(either))


def _stored(asking: Connection, kb: str) -> Iterator[str]:
    after = ""
    while True:
        status, page, _ = asking.ask("GET", f"/v1/knowledge_bases/{kb}/documents?limit=1000{after}", None)
        assert status == 200, page
        yield from (one["uri"] for one in page["data"])
        if not page["has_more"]:
            return
        after = f"&after={page['data'][-1]['id']}"


def _fsck(command: tuple[str, ...], data: Path, ledger: Ledger) -> None:
    done = subprocess.run(
        [*command, "fsck", "--json", "--data-dir", str(data)], capture_output=True, text=True
    )
    if done.returncode or json.loads(done.stdout)["found"]:
        ledger.violation(f"fsck ended with {done.returncode}: {done.stdout}{done.stderr}")


@contextmanager
def _weighing(cluster: Cluster, run: Run) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.wait(_WEIGH_SECONDS):
            if sample := cluster.memory():
                run.memory.append(sample)

    weighing = threading.Thread(target=work)
    weighing.start()
    try:
        yield
    finally:
        over.set()
        weighing.join()
    grown = growth_mb(run)
    if run.end - run.start >= _FLAT_AFTER_SECONDS and grown > _FLAT_MB:
        run.ledger.violation(f"memory grew by {grown:.0f} MB in the second half")


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
