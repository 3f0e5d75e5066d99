"""What a round of a run costs beside the model's own time and the tool's, and what a hundred at once take.

    python -m benchmarks.rounds [--turns N] [--calls N] [--runs N] [--seconds S] [--data-dir DIR]

The model is scripted, in a process of its own (`tests/gateway/upstream`), and calls what the question says.
A bare client asks it the same rounds directly: the same bodies, one request a round, each stream read to its
end. Then that client has a run made by one server process, as a streamed response and through /v1/runs; the
ways take turns. A round is timed from one result of a tool to the next; of /v1/runs, whose events are told by
the catalog, by the rows of the ledger; a tool in a run by the rows of its steps. The remote tool is that of a
second `kb serve`, over MCP. Then so many runs at once, each followed by the next. Writes results/rounds.json.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import kb
from benchmarks.answering import Line, listening
from benchmarks.mcp import Bare
from benchmarks.report import commit, machine
from benchmarks.servers import Server, free_port
from kb.embed.folder import DEFAULT_MODEL, exported

HERE = Path(__file__).parent
ROOT = HERE.parent
BOUND_MS = 10.0

_MODEL = "gpt-4.1-mini"
_ENDPOINTS = """
[[endpoint]]
name = "scripted"
kind = "responses"
models = ["{model}"]
base_url = "http://127.0.0.1:{port}/v1"
"""
_CONNECTORS = """
[[connector]]
id = "peer"
url = "http://127.0.0.1:{port}/mcp"
allow_private = true
require_approval = "never"
"""
_OWN = {"type": "mcp", "server_label": "kb", "connector_id": "kb", "require_approval": "never"}
_PEER = {"type": "mcp", "server_label": "peer", "connector_id": "peer"}
_SEARCH = {"query": "How is the circulation pump started in winter?", "knowledge_base_id": "handbook"}
_WORDS = "the valves are open and the pump starts once it has been primed"
_DONE = b"event: response.mcp_call.completed\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A tool of one kind: as a run has it, as the model calls it."""

    tools: Mapping[str, str]
    name: str
    arguments: Mapping[str, str]

    def question(self, calls: int, answer: str) -> str:
        """What the scripted model is told to do."""
        told = {"tool": self.name, "arguments": self.arguments, "calls": calls, "answer": answer}
        return json.dumps(told)


KINDS = {
    "list_knowledge_bases": Kind(_OWN, "list_knowledge_bases", {}),
    "search_knowledge_base": Kind(_OWN, "search_knowledge_base", _SEARCH),
    "list_knowledge_bases over MCP": Kind(_PEER, "peer__list_knowledge_bases", {}),
}


@dataclass(frozen=True, slots=True)
class House:
    """The processes. peer: the second `kb serve`, whose tools the runs call over MCP."""

    upstream: Server
    server: Server
    peer: Server
    folder: Path

    def rows(self, query: str) -> dict[str, tuple[Any, ...]]:
        """Of the catalog's tables, by their first column."""
        with closing(sqlite3.connect(f"file:{self.folder}/data/catalog.db?mode=ro", uri=True)) as read:
            return {row[0]: row[1:] for row in read.execute(query)}


def main() -> None:
    """Measure, print Markdown, write results/rounds.json; exits 1 where a round costs more than its bound."""
    given = _arguments()
    with kb.open(given.data_dir) as service:
        models = exported(DEFAULT_MODEL, service.settings.models_dir).parent
    with _house(models, first_ms=5, between_ms=0) as house:
        rows = asyncio.run(_in_turns(house, given.turns, given.calls))
    with _house(models, first_ms=300, between_ms=50) as house:
        load = asyncio.run(_load(house, given.runs, given.seconds))
    _print(rows, load)
    out = {
        **machine(),
        "commit": commit(),
        "turns": given.turns,
        "calls": given.calls,
        "rows": rows,
        "runs": given.runs,
        "seconds": given.seconds,
        "load": load,
    }
    (HERE / "results" / "rounds.json").write_text(json.dumps(out, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(row["added"] - row["step"] > BOUND_MS for row in rows.values()))


@contextmanager
def _house(models: Path, first_ms: float, between_ms: float) -> Iterator[House]:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        behind, port, beside = free_port(), free_port(), free_port()
        (folder / "endpoints.toml").write_text(_ENDPOINTS.format(model=_MODEL, port=behind))
        (folder / "connectors.toml").write_text(_CONNECTORS.format(port=beside))
        for name in ("data", "peer"):
            (folder / name).mkdir()
            (folder / name / "models").symlink_to(models.resolve(), target_is_directory=True)
            with kb.open(folder / name) as service:
                service.ingest(ROOT / "data" / "handbook", "handbook")
        environment = {
            name: str(folder / f"{name[3:].lower()}.toml") for name in ("KB_ENDPOINTS", "KB_CONNECTORS")
        }
        paced = ["--obeys", "--first-ms", str(first_ms), "--between-ms", str(between_ms)]
        scripted = {"PYTHONPATH": str(ROOT / "tests" / "gateway")}
        serve = ["-m", "kb.cli", "serve", "--port"]
        yield House(
            stack.enter_context(listening(["-m", "upstream", str(behind), *paced], behind, scripted)),
            stack.enter_context(
                listening([*serve, str(port), "--data-dir", str(folder / "data")], port, environment)
            ),
            stack.enter_context(
                listening([*serve, str(beside), "--data-dir", str(folder / "peer")], beside, {})
            ),
            folder,
        )


def _asked(kind: Kind, question: str) -> dict[str, Any]:
    return {"model": _MODEL, "input": question, "tools": [kind.tools], "stream": True}


async def _in_turns(house: House, turns: int, calls: int) -> dict[str, Any]:
    """Milliseconds a round of every kind of tool, asked for in turns."""
    to_upstream, to_server = await Line.to(house.upstream), await Line.to(house.server)
    peer = Bare(house.peer.port)
    spent: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in ("direct", "round", "whole", "run", "step", "tool")} for name in KINDS
    }
    for turn in range(turns + 1):
        for name, kind in KINDS.items():
            found = spent[name]
            if turn == 1:
                # The first turn warmed up all that takes part.
                found = spent[name] = {what: [] for what in found}
            asked = _asked(kind, kind.question(calls, "The pump starts."))
            told = await to_server.ask("/v1/responses", asked)
            response = told.response()
            found["whole"].append(told.ms / (calls + 1))
            found["round"].extend(after - before for before, after in pairwise(told.at(_DONE)))
            found["step"].append(_of_steps(house, response["id"]))
            for body in _bodies(kind, response):
                found["direct"].append((await to_upstream.ask("/v1/responses", body)).ms)
            run = (await to_server.ask("/v1/runs", asked)).response()
            found["run"].append(_of_ledger(house, run["id"], calls + 1))
            for _ in range(calls):
                found["tool"].append(await _alone(kind, to_server, peer))
    to_upstream.close()
    to_server.close()
    return {name: _row(found) for name, found in spent.items()}


def _bodies(kind: Kind, response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The requests of a run's rounds, as a client makes them who knows what the tools will say."""
    listed, *output = response["output"]
    tools = [
        {
            "type": "function",
            "name": tool["name"],
            "description": tool["description"],
            "parameters": tool["input_schema"],
        }
        for tool in listed["tools"]
    ]
    items: list[dict[str, Any]] = [
        {"role": "user", "content": kind.question(len(output) - 1, "The pump starts.")}
    ]
    for call in output:
        yield {"model": _MODEL, "input": items, "tools": tools, "stream": True}
        if call["type"] == "mcp_call":
            about = {"call_id": call["id"], "name": kind.name, "arguments": call["arguments"]}
            told = {"call_id": call["id"], "output": call["output"]}
            items += [{"type": "function_call", **about}, {"type": "function_call_output", **told}]


def _of_ledger(house: House, run_id: str, rounds: int) -> float:
    """Milliseconds a round, from the first row's beginning to the last one's end."""
    span = "(julianday(max(finished_at)) - julianday(min(started_at))) * 86400000"
    rows = house.rows(f"select run_id, count(*), {span} from calls where run_id = '{run_id}' group by run_id")
    count, ms = rows[run_id]
    assert count == rounds
    return float(ms) / rounds


def _of_steps(house: House, response_id: str) -> float:
    """Milliseconds of a call of a tool, from the row before it to the row behind it."""
    span = "avg(julianday(finished_at) - julianday(started_at)) * 86400000"
    query = f"select response_id, {span} from steps where response_id = '{response_id}' group by response_id"
    return float(house.rows(query)[response_id][0])


async def _alone(kind: Kind, to_server: Line, peer: Bare) -> float:
    """Milliseconds of the tool asked for by HTTP, without a run."""
    began = time.perf_counter()
    if kind.tools is _PEER:
        assert peer.call("list_knowledge_bases")
    else:
        await to_server.ask(f"/v1/tools/{kind.name}", kind.arguments)
    return (time.perf_counter() - began) * 1000


def _row(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    direct, tool = float(np.median(found["direct"])), float(np.median(found["tool"]))
    p50, p99 = np.percentile(found["round"], (50, 99))
    row = {
        "direct": direct,
        "round": float(p50),
        "added": float(p50) - direct,
        "added_p99": float(p99) - direct,
        "whole": float(np.median(found["whole"])) - direct,
        "run": float(np.median(found["run"])) - direct,
        "step": float(np.median(found["step"])),
        "tool": tool,
    }
    return {name: round(ms, 2) for name, ms in row.items()}


async def _load(house: House, runs: int, seconds: float) -> dict[str, Any]:
    """Runs at once, of all kinds and through both doors, each followed by the next; every one is checked."""
    lines = [await Line.to(house.server) for _ in range(runs)]
    kinds, calls = list(KINDS.values()), 3
    memory, spent, lags, ids = [house.server.memory_mb()], [], [], []
    began = time.perf_counter()

    async def work(number: int, line: Line) -> None:
        kind, path = kinds[number % len(kinds)], "/v1/runs" if number % 2 else "/v1/responses"
        made = 0
        while time.perf_counter() - began < seconds:
            # What nobody else is told.
            answer = f"Run {made} of client {number} says: {_WORDS}"
            made += 1
            told = await line.ask(path, _asked(kind, kind.question(calls, answer)))
            response = told.response()
            _check(response, kind, calls, answer)
            ids.append(response["id"])
            spent.append((path, told.ms))

    async def look() -> None:
        """Another client, who wants to know fifty times a second whether the server lives."""
        line = await Line.to(house.server)
        while time.perf_counter() - began < seconds:
            lags.append((await line.get("/healthz")).ms)
            await asyncio.sleep(0.02)
        line.close()

    async def weigh() -> None:
        for quarter in range(1, 5):
            await asyncio.sleep(began + seconds * quarter / 4 - time.perf_counter())
            memory.append(house.server.memory_mb())

    cpu = _cpu(house.server)
    await asyncio.gather(weigh(), look(), *(work(*one) for one in enumerate(lines)))
    took = time.perf_counter() - began
    cpu = _cpu(house.server) - cpu
    for line in lines:
        line.close()
    _check_rows(house, ids, calls)
    rounds = len(ids) * (calls + 1)
    return {
        "runs": len(ids),
        "rounds_per_second": round(rounds / took, 1),
        "core_ms_a_round": round(cpu * 1000 / rounds, 1),
        **{
            path: [
                round(float(ms)) for ms in np.percentile([ms for door, ms in spent if door == path], (50, 99))
            ]
            for path in ("/v1/responses", "/v1/runs")
        },
        "healthz": [round(float(ms), 1) for ms in np.percentile(lags, (50, 99, 100))],
        "memory_mb": [round(one) for one in memory],
    }


def _check(response: Mapping[str, Any], kind: Kind, calls: int, answer: str) -> None:
    """The answer is that of this question, and every call was made, with what it was called with."""
    listed, *made, message = response["output"]
    types = (listed["type"], message["type"], len(made))
    assert types == ("mcp_list_tools", "message", calls), json.dumps(response["output"])[:3000]
    assert message["content"][0]["text"].strip() == answer
    for call in made:
        assert (call["type"], call["status"], call["error"]) == ("mcp_call", "completed", None)
        assert json.loads(call["arguments"]) == kind.arguments
        assert call["output"]
    assert response["usage"]["total_tokens"] == 110 * calls + 120


def _check_rows(house: House, ids: Sequence[str], calls: int) -> None:
    """Of every run a row for each round, all of them settled, and a step for each call; and no others."""
    settled = "sum(status = 'completed' and not estimated), sum(input), sum(output)"
    rows = house.rows(f"select run_id, count(*), {settled} from calls group by run_id")
    assert rows == dict.fromkeys(ids, (calls + 1, calls + 1, 100 * (calls + 1), 10 * calls + 20))
    steps = house.rows("select response_id, count(*), sum(status = 'done') from steps group by response_id")
    assert steps == dict.fromkeys(ids, (calls, calls))


def _cpu(server: Server) -> float:
    """Seconds of a core that the process has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _print(rows: Mapping[str, Any], load: Mapping[str, Any]) -> None:
    print(
        "| ms a round | direct | through kb | added | p99 | whole response | run | tool in the run | alone |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.1f}" for key in row) + " |")
    print(json.dumps(load))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--data-dir", type=Path, default=HERE / ".data", help="its models are used")
    return parser.parse_args()


if __name__ == "__main__":
    main()
