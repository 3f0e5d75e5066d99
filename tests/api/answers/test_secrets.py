"""Secrets in every place that takes one, and servers that repeat them: each is where it belongs."""

import base64
import json
import logging
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from certificate import self_signed
from echoing import TOOLS, echoing
from starlette.testclient import TestClient
from upstream import Answer, Call, Upstream, replies
from upstream.server import Request

from kb.web.addresses import PRIVATE
from kb.web.brave import BraveSearch
from kb.web.guard import Guard

# By where each is planted.
PLANTED = {
    "endpoint": "sk-planted-endpoint-0123456789",
    "connector key": "planted-connector-key-0123456789",
    "connector header": "planted-connector-header-0123456789",
    "command": "planted-variable-0123456789",
    "authorization": "planted-authorization-0123456789",
    "header": "planted-header-0123456789",
    "password": "planted-password-0123456789",
    "engine": "planted-engine-0123456789",
}
BASIC = base64.b64encode(f"joe:{PLANTED['password']}".encode()).decode()
MODEL = "gpt-4.1-mini"
FILES = {
    "endpoints.toml": """
[[endpoint]]
name = "first"
base_url = "{upstream}"
kind = "responses"
models = ["gpt-4.1-mini"]
key_env = "PLANTED_ENDPOINT"
retries = 0
""",
    "connectors.toml": """
[[connector]]
id = "ours"
url = "http://127.0.0.1:{port}/mcp"
allow_private = true
require_approval = "never"
key_file = "{folder}/connector-key"
headers = {{ x-api-key = "{header}" }}

[[connector]]
id = "started"
command = "{python}"
args = ["{echoing}"]
env = {{ A_TOKEN = "{command}" }}
require_approval = "never"
""",
    "connector-key": PLANTED["connector key"] + "\n",
    "engine-key": PLANTED["engine"] + "\n",
}


@pytest.fixture
def app(
    open_app: Callable[..., TestClient],
    upstream: Upstream,
    new_site: Callable[[], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[tuple[TestClient, dict[str, Any]]]:
    """An application that was given all of them, a server of a caller, and what came to each server."""
    caplog.set_level(logging.DEBUG)
    certificate, key = self_signed("localhost", tmp_path)
    sealed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sealed.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=str(certificate))
    with ExitStack() as stack:
        port, ours = stack.enter_context(echoing())
        theirs_port, theirs = stack.enter_context(echoing(sealed))
        given = {
            "upstream": upstream.url, "port": port, "folder": tmp_path, "python": sys.executable,
            "echoing": Path(__file__).with_name("echoing.py"), "header": PLANTED["connector header"],
            "command": PLANTED["command"],
        }  # fmt: skip
        for name, text in FILES.items():
            (tmp_path / name).write_text(text.format(**given))
        monkeypatch.setenv("PLANTED_ENDPOINT", PLANTED["endpoint"])
        # What stands for the public network here is loopback.
        monkeypatch.setattr("kb.web.transport._tls", lambda: trusted)
        monkeypatch.setattr("kb.web.transport.is_admitted", lambda address, allow: True)
        site = new_site()
        engine = partial(BraveSearch, url=f"http://127.0.0.9:{site.port}/search", guard=Guard(PRIVATE))
        monkeypatch.setattr("kb.service.BraveSearch", engine)
        site.says("/search", PLANTED["engine"].encode(), status="403 Forbidden")
        client = stack.enter_context(
            open_app(
                endpoints=tmp_path / "endpoints.toml",
                connectors=tmp_path / "connectors.toml",
                web_search_key_file=tmp_path / "engine-key",
            )
        )
        yield client, {"ours": ours, "theirs": theirs, "port": theirs_port, "engine": site.requests}


def tools(port: int) -> list[dict[str, Any]]:
    """The three servers and the web, as a request names them; the first with the caller's own credentials."""
    theirs = {
        "server_label": "theirs",
        "server_url": f"https://localhost:{port}/mcp",
        "authorization": PLANTED["authorization"],
        "headers": {"X-Their-Secret": PLANTED["header"], "Cookie": f"Basic {BASIC}"},
        "require_approval": "never",
    }
    named = [theirs, *({"server_label": one, "connector_id": one} for one in ("ours", "started"))]
    return [*({"type": "mcp", **one} for one in named), {"type": "web_search"}]


def calls_all(request: Request) -> Any:
    """Every tool of every server at once; then an answer that repeats all that was read."""
    if any(item.get("type") == "function_call_output" for item in request.body["input"]):
        return replies.says(Answer(deltas=(json.dumps(request.body),)))(request)
    names = [f"{label}__{name}" for label in ("theirs", "ours", "started") for name in TOOLS]
    calls = [Call(name, ("{}",), f"call_{name}") for name in names]
    calls.append(Call("web_search", ('{"query": "pump"}',), "call_web"))
    return replies.says(Answer(deltas=(), calls=tuple(calls)))(request)


def test_each_is_where_it_belongs_and_nowhere_else(
    app: tuple[TestClient, dict[str, Any]],
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In no text for a model, answer, event, row, log or message: by every byte of them."""
    client, came = app
    service: Any = client.app.state.service  # type: ignore[attr-defined]
    _, key = service.catalog.keys.create("ann")
    of_folder = service.catalog.secrets.get("callers")
    client.headers["authorization"] = f"Bearer {key}"
    body = {"model": MODEL, "input": "How is the pump started?", "tools": tools(came["port"])}

    told = []
    upstream.script(calls_all)
    told.append(client.post("/v1/responses", json={**body, "stream": True}).text)
    answer = json.loads(told[0].rpartition("data: ")[2])["response"]
    made = {item["name"]: item["status"] for item in answer["output"] if item["type"] == "mcp_call"}
    assert made == {"echo": "completed", "fail": "failed", "break": "failed"}
    assert len([item for item in answer["output"] if item["type"] == "mcp_call"]) == 9
    run = answer["id"]
    told += [client.get(f"/v1/{path}").text for path in (f"runs/{run}", f"responses/{run}", "usage/calls")]
    told += [client.get(f"/v1/runs/{run}/events").text, client.get("/metrics").text]
    upstream.script(replies.refuses(401, "invalid_api_key", f"Incorrect API key: {PLANTED['endpoint']}"))
    told.append((refused := client.post("/v1/responses", json=body)).text)
    assert "Incorrect API key: [redacted]" in refused.json()["error"]["message"]
    for wrong in ({"headers": {"Host": PLANTED["header"]}}, {"authorization": f"{PLANTED['header']}\n"}):
        server = {**body["tools"][0], **wrong}
        told.append((refused := client.post("/v1/responses", json={**body, "tools": [server]})).text)
        assert refused.status_code == 422

    # All of them were used.
    assert {request.headers["authorization"] for request in upstream.requests} == {
        f"Bearer {PLANTED['endpoint']}"
    }
    assert {one["authorization"] for one in came["theirs"]} == {f"Bearer {PLANTED['authorization']}"}
    assert {one["x-their-secret"] for one in came["theirs"]} == {PLANTED["header"]}
    assert {one["authorization"] for one in came["ours"]} == {f"Bearer {PLANTED['connector key']}"}
    assert {one["x-api-key"] for one in came["ours"]} == {PLANTED["connector header"]}
    assert PLANTED["engine"].encode() in came["engine"][0]
    assert "[redacted]" in told[0]

    places = {
        "what the model read": json.dumps([request.body for request in upstream.requests]).encode(),
        "its headers": json.dumps(
            [{**request.headers, "authorization": ""} for request in upstream.requests]
        ).encode(),
        "answers": "\n".join(told).encode(),
        "the log": caplog.text.encode(),
    }
    folder = Path(service.settings.data_dir)
    files = [path for path in folder.rglob("*") if path.is_file() and "models" not in path.parts]
    assert {"catalog.db", "catalog.db-wal"} <= {path.name for path in files}
    places |= {path.name: path.read_bytes() for path in files}
    secrets = {**{name: one.encode() for name, one in PLANTED.items()}, "key": key.encode()}
    secrets |= {"packed password": BASIC.encode(), "the folder's": of_folder.hex().encode()}
    found = [(name, place) for place, data in places.items() for name, one in secrets.items() if one in data]
    assert found == []
    assert [place for place, data in places.items() if of_folder in data and "catalog.db" not in place] == []
