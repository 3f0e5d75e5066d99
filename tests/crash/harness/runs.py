"""A run that is killed somewhere: the folder in which it happens, and what must hold there behind it."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import func, select
from upstream import Answer, Call, Request, Upstream, replies
from upstream.server import Step

from harness.judge import Broken
from kb.catalog import Catalog
from kb.catalog.approvals import Approval
from kb.catalog.keys import Limits
from kb.catalog.schema import approvals, calls, responses, spending, steps

Kill = tuple[int, str]
"""A commit, and "before" or "behind"."""

PAID = Decimal("0.68096")
"""Credits of a scripted answer: 100 tokens at 5.32 for a thousand, 7 at 21.28."""

_ENDPOINT = """
[[endpoint]]
name = "first"
base_url = "{url}"
kind = "responses"
models = ["gpt-4.1-mini"]
retries = 0
total_seconds = 60
"""
_CONNECTOR = """
[[connector]]
id = "peer"
command = "{python}"
args = ["-SE", "{peer}", "{folder}/effects", "{folder}/lock"]
require_approval = {{ never = {{ tool_names = ["note"] }} }}
"""
_VALVE = "open_valve wide"
_TOOL = {"note": "peer__note", "open_valve": "peer__open_valve"}


def scripted(request: Request) -> Sequence[Step]:
    """What the model says: two rounds of two calls side by side, one call that needs a yes, an answer."""
    items = request.body["input"]
    made = [item["name"] for item in items if item.get("type") == "function_call"]
    if _TOOL["open_valve"] in made:
        answer = Answer(deltas=("The valve is open.",))
    elif len(made) < 4:
        note = json.dumps({"text": "first" if not made else "second"})
        both = (("list_knowledge_bases", "{}"), (_TOOL["note"], note))
        told = tuple(Call(name, (given,), f"call_{at}") for at, (name, given) in enumerate(both))
        answer = Answer(deltas=(), calls=told)
    else:
        answer = Answer(deltas=(), calls=(Call(_TOOL["open_valve"], ('{"text": "wide"}',)),))
    return list(replies.says(answer)(request))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: -9 killed. commits: how many it made. answers: statuses and bodies."""

    code: int
    commits: int
    answers: list[tuple[int, Any]]


class Asking:
    """The process that forks those that serve and ask; see `asking.py`."""

    def __init__(self, fakes: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("asking.py")), str(fakes)]
        path = os.pathsep.join((str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, **wanted: Any) -> Ended:
        """Run one to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(wanted), file=self._process.stdin, flush=True)
        code, commits, answers = json.loads(self._process.stdout.readline())
        return Ended(code, commits, [(status, body) for status, body in answers])


@dataclass(frozen=True, slots=True)
class Books:
    """What is written down in a folder, and what was really done."""

    effects: Counter[str]
    steps: dict[str, Any]
    approval: Approval | None
    responses: dict[str, str]
    calls: dict[str, Any]
    spent: Decimal
    reserved: Decimal


class Folder:
    """A data folder, in which a run is asked for by one process and gone on with by another."""

    def __init__(self, folder: Path, blank: Path, asking: Asking, upstream: Upstream) -> None:
        self._folder = folder
        self._asking = asking
        self._upstream = upstream
        folder.mkdir()
        shutil.copy(blank, folder / "catalog.db")
        (folder / "endpoints.toml").write_text(_ENDPOINT.format(url=upstream.url))
        peer = Path(__file__).with_name("peer.py")
        (folder / "connectors.toml").write_text(
            _CONNECTOR.format(python=sys.executable, peer=peer, folder=folder)
        )
        with closing(self._catalog()) as catalog:
            key, self._key = catalog.keys.create("ann")
            catalog.keys.limit(key.id, Limits(hard=Decimal(1000)))
        upstream.requests.clear()
        upstream.script(scripted)

    def ask(
        self,
        door: str,
        kill: Kill | None = None,
        again: tuple[str, str] | None = None,
        bug: str | None = None,
        pulse: float = 3600,
    ) -> Ended:
        """One process, until it and all that it started are no more."""
        ended = self._asking.ask(
            folder=str(self._folder), door=door, key=self._key, kill=kill, again=again, bug=bug, pulse=pulse
        )
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)
        assert self._upstream.deserted()
        if ended.code not in (0, -9):
            raise Broken((self._folder / "log").read_text()[-3000:])
        return ended

    def books(self) -> Books:
        """Of now."""
        effects = self._folder / "effects"
        lines = effects.read_text().splitlines() if effects.exists() else []
        with closing(self._catalog()) as catalog, catalog.database.read() as connection:
            asked = connection.execute(select(approvals)).one_or_none()
            spent = connection.execute(
                select(func.sum(spending.c.credits), func.sum(spending.c.reserved))
            ).one()
            return Books(
                effects=Counter(lines),
                steps={row.call_id: row for row in connection.execute(select(steps))},
                approval=Approval(**asked._mapping) if asked else None,
                responses=dict(connection.execute(select(responses.c.id, responses.c.status)).all()),
                calls={row.id: row for row in connection.execute(select(calls))},
                spent=spent[0] or Decimal(),
                reserved=spent[1] or Decimal(),
            )

    @property
    def requests(self) -> int:
        """How often the model was asked."""
        return len(self._upstream.requests)

    def _catalog(self) -> Catalog:
        return Catalog(f"sqlite:///{self._folder}/catalog.db")


def killed(
    folder: Folder, door: str, kill: Kill | None, *, bug: str | None = None, pulse: float = 3600
) -> str:
    """One run that is killed, gone on with, and judged; returns how far it had come. Raises Broken."""
    first = folder.ask(door, kill, bug=bug, pulse=pulse)
    left = folder.books()
    judge_work(left)
    approval = left.approval
    # What nobody was told of, nobody can say yes to; a response that is not kept cannot be gone on from.
    again = (
        (approval.response_id, approval.id) if approval and approval.response_id in left.responses else None
    )
    second = folder.ask(door, None, again or ("resp_none", "mcpr_none"), bug=bug)
    books = folder.books()
    judge_work(books)
    judge_ledger(left, books, folder.requests, was_killed=first.code == -9)
    if _is_running(books):
        raise Broken("a response is still taken to be at work")
    if again:
        judge_words(door, left, books, second)
    elif [status for status, _ in second.answers] != [404, 404, 404]:
        raise Broken(f"a word on what was never asked: {second.answers}")
    if approval is None:
        return "before it asked"
    step = left.steps.get(approval.id)
    return f"{approval.status}, {step.status if step else 'not begun'}"


def _is_running(books: Books) -> bool:
    return any(status in ("queued", "in_progress") for status in books.responses.values())


def judge_work(books: Books) -> None:
    """No tool ran twice, none that is not written down, and none that was not allowed."""
    rows = [row for row in books.steps.values() if row.label == "peer"]
    for line, count in books.effects.items():
        known = sum(_line(row) == line for row in rows)
        if (count, known) != (1, 1):
            raise Broken(f"{line!r} was done {count} times, and is written down {known} times")
        if line == _VALVE and (books.approval is None or books.approval.status != "approved"):
            raise Broken("it was done without a yes")
    for row in rows:
        # Of what is only started nobody knows.
        if row.status != "started" and (row.status, books.effects[_line(row)]) != ("done", 1):
            raise Broken(f"{_line(row)!r} is {row.status}, and was done {books.effects[_line(row)]} times")


def _line(row: Any) -> str:
    """What a call of the server leaves behind."""
    return f"{row.name} {json.loads(row.arguments)['text']}"


def judge_ledger(left: Books, books: Books, requests: int, *, was_killed: bool) -> None:
    """Each call of the model is one row, paid once; what the killed process had reserved is free again."""
    rows = books.calls.values()
    status = Counter(row.status for row in rows)
    if set(status) - {"completed", "abandoned"} or status["abandoned"] > was_killed:
        raise Broken(f"calls are {dict(status)}")
    # The one that the process was killed in may not have gone out.
    if not status["completed"] <= requests <= status.total():
        raise Broken(f"{requests} calls were made, and {dict(status)} are written down")
    if any(row.credits != PAID for row in rows if row.status == "completed"):
        raise Broken("an answer costs something else")
    if books.spent != sum((row.credits for row in rows), Decimal()) or books.reserved:
        raise Broken(
            f"the key has spent {books.spent} and reserved {books.reserved}; its calls say otherwise"
        )
    paid = {name: row for name, row in left.calls.items() if row.status == "completed"}
    if any(books.calls[name] != row for name, row in paid.items()):
        raise Broken("what was paid has changed")


def judge_words(door: str, left: Books, books: Books, second: Ended) -> None:
    """The yes is acted on once, whoever died; said again it changes nothing; the no behind it is refused."""
    approval, before = books.approval, left.approval
    assert approval
    assert before
    went_on = left.responses.get(str(before.continued_by)) == "completed"
    (status, body), again, no = second.answers
    if door == "run" or not went_on:
        if status != 200 or body["status"] != "completed" or body["id"] != approval.continued_by:
            raise Broken(f"the yes was answered with {status}: {body}")
    elif status != 409:
        raise Broken(f"a yes that was acted on was taken again: {status}")
    if books.responses[str(approval.continued_by)] != "completed":
        raise Broken("nothing went on")
    if again[0] != (200 if door == "run" else 409) or (door == "run" and again[1] != body):
        raise Broken(f"said twice, it was answered with {again}")
    if no[0] != 409:
        raise Broken(f"the other word was answered with {no}")
    step = left.steps.get(approval.id)
    done, now = left.effects[_VALVE], books.effects[_VALVE]
    if now != (done if step else 1) or (step and books.steps[approval.id] != step):
        raise Broken(f"it was done {done} times, and {now} times in the end; the step was {step}")
