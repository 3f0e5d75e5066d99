"""What a model call through the service costs beside the model's own server, and what many at once take.

    python -m benchmarks.gateway [--rounds R] [--streams N] [--seconds S]

The upstream is scripted and a process of its own (`tests/gateway/upstream`): its first delta comes 5 ms after
the request. Both sides are asked for a stream of `/v1/responses` by the same bare client over kept
connections, in turns of ten; *first token* is the time until the first delta is there. Then N streams at
once, each followed by the next on the same connection, at ten deltas a second: first from the upstream alone,
then through one server process, whose memory is read as it goes. Writes results/gateway.json.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import commit, machine
from benchmarks.servers import Server, free_port

HERE = Path(__file__).parent
ROOT = HERE.parent
PATH = "/v1/responses"
DELTAS = 64
BOUND_MS = 5.0

_IN_TURN = 10
_BETWEEN_MS = 100
_BODY = json.dumps({"model": "gpt-4.1-mini", "input": "How is the pump started?", "stream": True}).encode()
_DELTA = b"event: response.output_text.delta\n"


def main() -> None:
    """Measure, print Markdown, write results/gateway.json; exits 1 where the overhead is beyond its bound."""
    given = _arguments()
    with _pair(between_ms=0) as (upstream, server):
        alone, through = asyncio.run(_in_turns(upstream, server, given.rounds))
    with _pair(between_ms=_BETWEEN_MS) as (upstream, server):
        load = {
            "upstream alone": asyncio.run(_load(upstream, given.streams, given.seconds)),
            "through kb": asyncio.run(_load(server, given.streams, given.seconds)),
        }
    rows = {"upstream alone": _summary(alone), "through kb": _summary(through)}
    added = {
        name: round(rows["through kb"][name] - rows["upstream alone"][name], 2) for name in rows["through kb"]
    }
    _print(rows, added, load)
    out = {
        **machine(),
        "commit": commit(),
        "rounds": given.rounds,
        "deltas": DELTAS,
        "first_token": rows,
        "added": added,
        "streams": given.streams,
        "seconds": given.seconds,
        "load": load,
    }
    (HERE / "results" / "gateway.json").write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")
    sys.exit(added["p50_ms"] > BOUND_MS)


@contextmanager
def _pair(between_ms: float) -> Iterator[tuple[Server, Server]]:
    """An upstream and a server before it."""
    with tempfile.TemporaryDirectory() as folder:
        port, behind = free_port(), free_port()
        endpoints = Path(folder) / "endpoints.toml"
        endpoints.write_text(
            f'[[endpoint]]\nname = "scripted"\nkind = "responses"\nmodels = ["gpt-4.1-mini"]\n'
            f'base_url = "http://127.0.0.1:{behind}/v1"\n'
        )
        paced = ["--deltas", str(DELTAS), "--first-ms", "5", "--between-ms", str(between_ms)]
        scripted = ["-m", "upstream", str(behind), *paced]
        serve = ["-m", "kb.cli", "serve", "--port", str(port), "--data-dir", f"{folder}/data"]
        with (
            _running(scripted, behind, {"PYTHONPATH": str(ROOT / "tests" / "gateway")}) as upstream,
            _running(serve, port, {"KB_ENDPOINTS": str(endpoints)}) as server,
        ):
            yield upstream, server


@contextmanager
def _running(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[Server]:
    """A process that answers a call."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Server(port, PATH, process.pid, 0)
    try:
        while True:
            assert process.poll() is None, f"the process ended with code {process.returncode}"
            try:
                asyncio.run(_in_sequence(server, 1))
                break
            except ConnectionError:
                assert time.perf_counter() - began < 120, "no answer came"
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(30)


class Asker:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, server: Server) -> "Asker":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def ask(self) -> float:
        """A whole stream; milliseconds until its first delta. Raises RuntimeError for any other answer."""
        head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        began = time.perf_counter()
        self._writer.write(f"{head}content-length: {len(_BODY)}\r\n\r\n".encode() + _BODY)
        read, first = bytearray(), 0.0
        while not read.endswith(b"0\r\n\r\n"):
            if not (data := await self._reader.read(65536)):
                raise ConnectionError("the server hung up")
            read += data
            if not first and _DELTA in read:
                first = (time.perf_counter() - began) * 1000
        if read.count(_DELTA) != DELTAS or b"event: response.completed\n" not in read:
            raise RuntimeError(f"not the answer: {bytes(read[:500])!r}")
        return first

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def _in_sequence(server: Server, times: int) -> list[float]:
    asker = await Asker.to(server)
    try:
        return [await asker.ask() for _ in range(times)]
    finally:
        asker.close()


async def _in_turns(upstream: Server, server: Server, rounds: int) -> tuple[list[float], list[float]]:
    askers = [await Asker.to(one) for one in (upstream, server)]
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for asker, times in zip(askers, spent, strict=True):
            found = [await asker.ask() for _ in range(_IN_TURN)]
            # The first turn warms both up.
            times.extend(found if number else ())
    for asker in askers:
        asker.close()
    return spent


async def _load(server: Server, streams: int, seconds: float) -> dict[str, Any]:
    """First tokens and memory under so many streams at once."""
    askers = [await Asker.to(server) for _ in range(streams)]
    memory, firsts = [server.memory_mb()], []
    began = time.perf_counter()

    async def work(number: int, asker: Asker) -> None:
        # Spread over the time that one takes: they do not come in step.
        await asyncio.sleep(number / streams * DELTAS * _BETWEEN_MS / 1000)
        while time.perf_counter() - began < seconds:
            firsts.append(await asker.ask())

    async def weigh() -> None:
        for quarter in range(1, 5):
            await asyncio.sleep(began + seconds * quarter / 4 - time.perf_counter())
            memory.append(server.memory_mb())

    await asyncio.gather(weigh(), *(work(*one) for one in enumerate(askers)))
    took = time.perf_counter() - began
    for asker in askers:
        asker.close()
    await asyncio.sleep(2)
    return {
        "streams": len(firsts),
        "deltas_per_second": round(len(firsts) * DELTAS / took),
        **_summary(firsts),
        "memory_mb": [round(one) for one in [*memory, server.memory_mb()]],
    }


def _summary(times: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(times, (50, 99))
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def _print(rows: dict[str, Any], added: dict[str, float], load: dict[str, Any]) -> None:
    print("| first token | p50 ms | p99 ms |\n|---|---|---|")
    for name, row in {**rows, "added": added}.items():
        print(f"| {name} | {row['p50_ms']:.2f} | {row['p99_ms']:.2f} |")
    print(
        "\n| at once | streams | deltas/s | first token p50 ms | p99 ms | MB before, at 25 … 100 %, after |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in load.items():
        memory = ", ".join(map(str, row["memory_mb"]))
        figures = f"{row['streams']} | {row['deltas_per_second']} | {row['p50_ms']:.0f} | {row['p99_ms']:.0f}"
        print(f"| {name} | {figures} | {memory} |")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
