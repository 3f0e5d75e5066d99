"""More searches than can be answered: how soon are the others told so, and does memory stay where it was?

    python -m benchmarks.overload [--connections N] [--seconds S]

One server process over the sample handbook, on 127.0.0.1. First every connection comes again when it was
told to (`Retry-After`, and up to a second more, so that they do not come in step), then every connection asks
again at once. Meanwhile a watcher opens a new connection for /healthz and /readyz in turn. Exits 1 when a
bound is broken: refusals within 100 ms (p99, patient clients), health always 200, memory within 32 MB.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import Server, free_port, running

HERE = Path(__file__).parent
KB = "overload"
QUERIES = ("How is the plant started?", "alarm E17", "Who may open the brine valve?", "frost")

REFUSED_MS = 100
GROWTH_MB = 32
_PROBE_SECONDS = 0.05
_PATIENCE_SECONDS = 120


@dataclass(slots=True)
class Seen:
    """Milliseconds of every answer by status, what health said, and the server's memory in MB over time."""

    answers: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    health: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: list[float] = field(default_factory=list)


def main() -> None:
    """Run both kinds of clients, print the table, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=15, help="of each kind of clients")
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="kept between runs")
    given = parser.parse_args()
    handbook = HERE.parent / "data" / "handbook"
    kb = [sys.executable, "-m", "kb.cli"]
    subprocess.run([*kb, "ingest", str(handbook), "--kb", KB, "--data-dir", str(given.data_dir)], check=True)
    port, path = free_port(), f"/v1/knowledge_bases/{KB}/search"
    command = ["-m", "kb.cli", "serve", "--port", str(port), "--data-dir", str(given.data_dir)]
    rows = {}
    with running(command, port, path, {"HF_HUB_OFFLINE": "1"}, {"query": QUERIES[0]}) as server:
        for label, patient in [("come again when told", True), ("ask again at once", False)]:
            rows[label] = asyncio.run(_load(server, given.connections, given.seconds, patient=patient))
    print(_table(rows, given.connections, given.seconds))
    if broken := _broken(rows["come again when told"]) + _broken(rows["ask again at once"], refusals=False):
        raise SystemExit("; ".join(broken))


async def _load(server: Server, connections: int, seconds: float, *, patient: bool) -> Seen:
    seen, stop = Seen(), time.perf_counter() + seconds
    asking = [_client(server, number, stop, patient, seen) for number in range(connections)]
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
        await asyncio.gather(*asking, _watch(server, stop, seen), _weigh(server, stop, seen))
    return seen


async def _client(server: Server, number: int, stop: float, patient: bool, seen: Seen) -> None:
    """One keep-alive connection that asks until `stop`; the seed of its pauses is its number."""
    chance = random.Random(number)
    # They come within a second, as they later come again.
    await asyncio.sleep(chance.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = json.dumps({"query": QUERIES[number % len(QUERIES)]}).encode()
    while time.perf_counter() < stop:
        started = time.perf_counter()
        status, headers = await _ask(reader, writer, "POST", server.path, body)
        seen.answers[status].append((time.perf_counter() - started) * 1000)
        if status == 429:
            # It must say when; a client that does not read it comes again at once.
            wait = int(headers["retry-after"])
            await asyncio.sleep(min(wait + chance.random(), stop - time.perf_counter()) if patient else 0)
    writer.close()


async def _watch(server: Server, stop: float, seen: Seen) -> None:
    """What a supervisor sees, which connects anew each time."""
    turn = 0
    while time.perf_counter() < stop:
        started, turn = time.perf_counter(), turn + 1
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        status, _ = await _ask(reader, writer, "GET", "/healthz" if turn % 2 else "/readyz")
        seen.health[status].append((time.perf_counter() - started) * 1000)
        writer.close()
        await asyncio.sleep(_PROBE_SECONDS)


async def _weigh(server: Server, stop: float, seen: Seen) -> None:
    while time.perf_counter() < stop:
        seen.memory.append(await asyncio.to_thread(server.memory_mb))
        await asyncio.sleep(_PROBE_SECONDS * 4)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes = b""
) -> tuple[int, dict[str, str]]:
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers


def _table(rows: dict[str, Seen], connections: int, seconds: float) -> str:
    shown = (
        "| clients | answered/s | p50 ms | p99 ms | refused/s | p50 ms | p99 ms | health p99 ms |"
        " MB at 25, 50, 75, 100 % |"
    )
    lines = [shown, "|---" * 9 + "|"]
    for label, seen in rows.items():
        good, refused, health = seen.answers[200], seen.answers[429], seen.health[200]
        cells = [
            f"{connections}, {label}",
            *(round(len(good) / seconds), round(_at(good, 0.5)), round(_at(good, 0.99))),
            *(round(len(refused) / seconds), round(_at(refused, 0.5), 1), round(_at(refused, 0.99), 1)),
            round(_at(health, 0.99)),
            ", ".join(str(round(_quarter(seen.memory, part))) for part in (1, 2, 3, 4)),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _broken(seen: Seen, *, refusals: bool = True) -> list[str]:
    """The bounds that did not hold."""
    growth = _quarter(seen.memory, 4) - _quarter(seen.memory, 1)
    judged = {
        f"statuses {sorted(seen.answers)}": set(seen.answers) <= {200, 429} and bool(seen.answers[200]),
        f"health answered {sorted(seen.health)}": set(seen.health) == {200},
        f"memory grew by {growth:.0f} MB": growth <= GROWTH_MB,
        "refusals took longer": not refusals or _at(seen.answers[429], 0.99) < REFUSED_MS,
    }
    return [what for what, held in judged.items() if not held]


def _at(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def _quarter(values: Sequence[float], number: int) -> float:
    return values[max(0, len(values) * number // 4 - 1)]


if __name__ == "__main__":
    main()
