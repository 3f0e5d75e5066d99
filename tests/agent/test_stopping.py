"""A run that is stopped while a tool is at work: the tool is told, and what is kept says how far it came."""

import asyncio
import shutil
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from streams import whole
from upstream import Answer, Call, Upstream, replies

import kb.agent.keeping
from kb.agent.asked import Asked
from kb.agent.core import Agent
from kb.agent.keeping import Keeping
from kb.catalog.keys import Limits
from kb.catalog.responses import Responses
from kb.catalog.steps import Status, Steps
from kb.gateway.events import Caller
from kb.remote.server import McpServer
from kb.service import Service
from kb.settings import Settings

PEER = Path(__file__).with_name("waiting_peer.py")
ENDPOINT = '[[endpoint]]\nname = "first"\nbase_url = "{}"\nkind = "responses"\nmodels = ["gpt-4.1-mini"]\n'
CONNECTOR = '[[connector]]\nid = "peer"\ncommand = "{}"\nargs = ["{}", "{}"]\nrequire_approval = "never"\n'
BOTH = tuple(Call(f"peer__{name}", ("{}",), f"call_{name}") for name in ("quick", "slow"))


@dataclass
class Scene:
    """A service whose model calls two tools side by side, of which one waits; `peer` is where it tells."""

    service: Service
    key: str
    peer: socket.socket

    def asked(self, **more: Any) -> Asked:
        """A run with those tools."""
        tool = {"type": "mcp", "server_label": "peer", "connector_id": "peer"}
        server = McpServer.parse(tool).described(self.service.connectors)
        item = {"type": "message", "role": "user", "content": "Stop it."}
        given: dict[str, Any] = {"background": True, **more}
        return Asked("gpt-4.1-mini", (item,), caller=Caller(self.key), servers=(server,), **given)

    async def told(self) -> Callable[[], Coroutine[Any, Any, str]]:
        """Lines of the server that was started, each waited for."""
        connection, _ = await asyncio.to_thread(self.peer.accept)
        lines = connection.makefile()

        async def line() -> str:
            return (await asyncio.to_thread(lines.readline)).strip()

        connection.close()
        return line


@pytest.fixture
def scene(
    settings: Settings, blank_catalog: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    """With a key of 1,000 credits. Whether to stop, is asked again while a stop is still at work."""
    monkeypatch.setattr(kb.agent.keeping, "_PULSE_SECONDS", 0.005)
    folder = settings.data_dir
    shutil.copy(blank_catalog, folder)
    with socket.create_server(("127.0.0.1", 0)) as peer:
        peer.settimeout(30)
        (folder / "endpoints.toml").write_text(ENDPOINT.format(upstream.url))
        (folder / "connectors.toml").write_text(CONNECTOR.format(sys.executable, PEER, peer.getsockname()[1]))
        made = Settings(
            folder,
            settings.database_url,
            endpoints=folder / "endpoints.toml",
            connectors=folder / "connectors.toml",
        )
        upstream.script(replies.says(Answer(deltas=(), calls=BOTH)), replies.says())
        with Service(made) as service:
            key, _ = service.catalog.keys.create("ann")
            service.catalog.keys.limit(key.id, Limits(hard=Decimal(1000)))
            yield Scene(service, key.id, peer)


def by_the_same_process(keeping: Keeping, scene: Scene, run_id: str) -> Coroutine[Any, Any, Any]:
    """At once."""
    return keeping.cancel(run_id, scene.key)


def by_another_process(keeping: Keeping, scene: Scene, run_id: str) -> Coroutine[Any, Any, Any]:
    """Which can only write that it is wanted."""
    return asyncio.to_thread(scene.service.catalog.responses.request_cancel, run_id)


def by_a_stop_of_the_server(keeping: Keeping, scene: Scene, run_id: str) -> Coroutine[Any, Any, Any]:
    """Of the process that makes it."""
    return keeping.close()


async def until_answered(events: AsyncGenerator[dict[str, Any], None]) -> None:
    """Follow a run until the first call has come to its end, and leave."""
    async with aclosing(events):
        async for event in events:
            if event["type"] == "response.mcp_call.completed":
                return
    raise AssertionError("no call was made")


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (by_the_same_process, "cancelled"),
        (by_another_process, "cancelled"),
        (by_a_stop_of_the_server, "failed"),
    ],
)
def test_in_the_middle_of_a_call(scene: Scene, upstream: Upstream, stop: Any, status: str) -> None:
    """What was done is done, what was at work is told to stop; nothing goes on, and all is paid."""
    catalog = scene.service.catalog

    async def stopped() -> tuple[str, list[Any]]:
        agent = Agent(scene.service)
        keeping = Keeping(agent, catalog.responses)
        run = agent.prepare(scene.asked())
        await keeping.start(run)
        told = await scene.told()
        assert {await told(), await told()} == {"quick begun", "slow begun"}
        await until_answered(keeping.follow(run.id, scene.key))
        await stop(keeping, scene, run.id)
        assert await told() == "slow stopped"
        events = [event async for event in keeping.follow(run.id, scene.key)]
        # The server has ended.
        assert await told() == ""
        await scene.service.gateway.close()
        return run.id, events

    run_id, events = asyncio.run(stopped())
    ended = whole(events)
    assert ended["status"] == status
    quick, slow = [item for item in ended["output"] if item["type"] == "mcp_call"]
    assert (quick["status"], slow["status"], slow["output"]) == ("completed", "incomplete", None)
    steps = {step.name: step for step in catalog.steps.of(run_id)}
    assert (steps["quick"].status, steps["quick"].output) == ("done", quick["output"])
    assert (steps["slow"].status, steps["slow"].finished_at is not None) == ("cancelled", True)
    assert "ended before it was known what came of it" in str(steps["slow"].output)
    account = scene.service.ledger.spent(scene.key)
    # One answer of 100 tokens at 5.32 for a thousand, and 7 at 21.28.
    assert (account.spent, account.reserved) == (Decimal("0.68096"), Decimal())
    assert len(upstream.requests) == 1


def test_its_calls_are_written_down_before_its_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: who sees that a run has ended, sees what became of its calls."""
    catalog, order, over = scene.service.catalog, [], threading.Event()
    step, response = Steps.finish, Responses.finish

    def slow(self: Steps, call_id: str, status: Status, output: str) -> None:
        # Of a stop nobody waits for longer than that.
        assert status == "done" or not over.wait(0.5)
        step(self, call_id, status, output)
        order.append(status)

    def last(self: Responses, *given: Any) -> bool:
        over.set()
        order.append("response")
        return response(self, *given)

    monkeypatch.setattr(Steps, "finish", slow)
    monkeypatch.setattr(Responses, "finish", last)

    async def stopped() -> None:
        agent = Agent(scene.service)
        keeping = Keeping(agent, catalog.responses)
        run = agent.prepare(scene.asked())
        await keeping.start(run)
        await until_answered(keeping.follow(run.id, scene.key))
        assert (await keeping.cancel(run.id, scene.key))["status"] == "cancelled"
        await scene.service.gateway.close()

    asyncio.run(stopped())
    assert order == ["done", "cancelled", "response"]


def test_whoever_waits_for_it_leaves(scene: Scene, upstream: Upstream) -> None:
    """The same without the background: nothing is kept of it but its calls, and what they cost."""
    catalog = scene.service.catalog

    async def stopped() -> str:
        agent = Agent(scene.service)
        run = agent.prepare(scene.asked(background=False))
        await until_answered(Keeping(agent, catalog.responses).answer(run))
        told = await scene.told()
        assert {await told(), await told()} == {"quick begun", "slow begun"}
        assert [await told(), await told()] == ["slow stopped", ""]
        await scene.service.gateway.close()
        return run.id

    run_id = asyncio.run(stopped())
    assert {step.name: step.status for step in catalog.steps.of(run_id)} == {
        "quick": "done",
        "slow": "cancelled",
    }
    account = scene.service.ledger.spent(scene.key)
    assert (account.spent, account.reserved) == (Decimal("0.68096"), Decimal())
