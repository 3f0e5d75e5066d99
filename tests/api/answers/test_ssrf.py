"""Addresses that requests name, at the doors of `kb serve`: the canary on this machine is hit 0 times."""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inside import OPEN, REDIRECTS, Site, running
from openai import OpenAI
from streams import whole
from upstream import Answer, Call, Upstream, replies

MODEL = "gpt-4.1-mini"
CLOCK = {"type": "mcp", "server_label": "clock", "connector_id": "clock", "require_approval": "always"}
# Of the list that every place is tried with in one process, in tests/web.
SAMPLE = ["127.0.0.1", "[::ffff:7f00:1]"]
# What an operator set up: the canary, opened and not, and a server that leads to it.
CONNECTORS = """
[[connector]]
id = "opened"
url = "http://127.0.0.1:{port}/"
allow_private = true

[[connector]]
id = "plain"
url = "http://127.0.0.1:{port}/"

[[connector]]
id = "leads"
url = "http://{open}:{leads}/"
allow_private = true

[[connector]]
id = "clock"
command = "{python}"
args = ["-m", "mcp_server_time"]
"""


@pytest.fixture(scope="module")
def singing() -> Iterator[Site]:
    """The canary, for all of these tests."""
    made = Site()
    stop = running(made, "::", socket.AF_INET6)
    yield made
    stop()


@pytest.fixture(scope="module")
def leading(singing: Site) -> Iterator[Site]:
    """A server that leads there."""
    made = Site()
    made.says("/", b"", f"location: http://127.0.0.1:{singing.port}/", status=REDIRECTS[3])
    stop = running(made, OPEN)
    yield made
    stop()


@pytest.fixture(scope="module")
def door(
    built: Any,
    singing: Site,
    leading: Site,
    started: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The address of a server over the same folder that has these connectors."""
    folder = tmp_path_factory.mktemp("doors")
    given = {"port": singing.port, "open": OPEN, "leads": leading.port, "python": sys.executable}
    (folder / "connectors.toml").write_text(CONNECTORS.format(**given))
    environment = {**built.environment, "KB_CONNECTORS": str(folder / "connectors.toml")}
    server = started(built.folder, folder / "log", **environment)
    yield str(server.client.base_url)
    server.end()


@pytest.fixture(params=["responses", "runs", "a person's word"])
def told(
    request: pytest.FixtureRequest, house: Any, door: str, upstream: Upstream, until: Callable[..., Any]
) -> Callable[..., str]:
    """What comes of naming a server at a door, all of it."""
    client: OpenAI = house.sdk(url=door)

    def responses(tool: dict[str, Any]) -> str:
        asked = {"model": MODEL, "input": "How?", "tools": [tool]}
        return json.dumps(whole(client.responses.create(**asked, stream=True)))

    def runs(tool: dict[str, Any]) -> str:
        body = {"model": MODEL, "input": "How?", "tools": [tool]}
        return ended(client.post("/runs", cast_to=object, body=body))

    def word(tool: dict[str, Any]) -> str:
        upstream.script(replies.says(Answer(deltas=(), calls=(Call("clock__get_current_time", ("{}",)),))))
        asked = {"model": MODEL, "input": "How?", "tools": [CLOCK]}
        waiting = whole(client.responses.create(**asked, stream=True))
        upstream.script(replies.says())
        path = f"/runs/{waiting['id']}/approvals/{waiting['output'][-1]['id']}"
        return ended(client.post(path, cast_to=object, body={"approve": True, "tools": [tool]}))

    def ended(run: Any) -> str:
        def finished() -> Any:
            shown: Any = client.get(f"/runs/{run['id']}", cast_to=object)
            return shown["status"] not in ("queued", "in_progress", "running") and json.dumps(shown)

        return str(until(finished))

    ask = {"responses": responses, "runs": runs, "a person's word": word}[request.param]

    def named(**place: str) -> str:
        return ask({"type": "mcp", "server_label": "clock", **place})

    return named


@pytest.mark.parametrize("host", SAMPLE)
def test_a_server_of_a_request(told: Callable[..., str], host: str, singing: Site) -> None:
    """By its address; where its operator opened that address, it is reached."""
    before = singing.hits
    said = told(server_url=f"http://{host}:{singing.port}/")
    assert singing.hits == before
    assert '"error": "' in said
    told(connector_id="opened")
    assert singing.hits > before


def test_a_server_of_the_operator(told: Callable[..., str], singing: Site, leading: Site) -> None:
    """One that is not opened to private networks, and one that leads elsewhere."""
    before, asked = singing.hits, leading.hits
    assert "is not an address of the public network" in told(connector_id="plain")
    assert "not followed" in told(connector_id="leads")
    assert (singing.hits, leading.hits > asked) == (before, True)
    told(connector_id="opened")
    assert singing.hits > before


def test_a_picture_is_the_model_s_to_load(house: Any, door: str, upstream: Upstream, singing: Site) -> None:
    """Its address goes on as it is, at both doors; nothing of it is asked for here."""
    before, address = singing.hits, f"http://127.0.0.1:{singing.port}/a.png"
    client = house.sdk(url=door)
    picture = {"type": "input_image", "image_url": address}
    client.responses.create(model=MODEL, input=[{"role": "user", "content": [picture]}])
    part = {"type": "image_url", "image_url": {"url": address}}
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": [part]}])
    sent = [request.body["input"][-1]["content"][-1]["image_url"] for request in upstream.requests]
    assert sent == [address, address]
    assert singing.hits == before
