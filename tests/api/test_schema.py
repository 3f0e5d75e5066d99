"""The interface does what its OpenAPI document says: Schemathesis asks whatever that allows, and forbids.

Every check that it has is on. A few refusals that a schema cannot announce stand in schema_hooks.py.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from upstream import Upstream, replies

from kb.catalog import Catalog
from kb.catalog.approvals import Approval

pytest.importorskip("schemathesis", reason="schemathesis is not installed")

HOOKS = Path(__file__).with_name("schema_hooks.py")
PHASES = ["examples", "coverage", "fuzzing", "stateful"]
# What takes the ids of which things; half of what is generated for it is one that is there.
TAKES = {
    "path.kb": "kb",
    "body.knowledge_base_ids[*]": "kb",
    "path.document": "doc",
    "body.content_id": "doc",
    "path.content_version_id": "ver",
    "path.job": "job",
    "path.model": "language_model",
    "path.vector_store_id": "store",
    "path.file_id": "file",
    "path.batch_id": "batch",
    "body.file_id": "file",
    "body.file_ids[*]": "file",
    "body.files[*].file_id": "file",
    "body.knowledge_base_id": "kb",
    "query.knowledge_base_id": "kb",
    "body.source_connection_content_version_id": "ver",
    "path.response_id": "resp",
    "path.run_id": "resp",
    "path.approval_id": "approval",
    "body.input[*].approval_request_id": "approval",
    "body.previous_response_id": "resp",
    "body.tools[*].vector_store_ids[*]": "kb",
}
# What a schema cannot tell to be right; else hardly a knowledge base would come about.
RIGHT = {
    "embedder": ["all-MiniLM-L6-v2"],
    "model": ["gpt-4.1-mini"],
    "chunk_size": [64, 200],
    "chunk_overlap": [0, 8],
}
ENDPOINT = """
[[endpoint]]
name = "scripted"
base_url = "{url}"
kind = "responses"
models = ["gpt-4.1-mini"]
"""
# Of answers: one that can be cancelled, though it has ended, and one that cannot.
BOTH_WAYS: list[dict[str, bool]] = [{"background": True}, {}]
APPROVALS = 400
# Their bodies are of the same parameters as those of /v1/responses, each of which takes a hundred requests.
AS_RESPONSES = ("/v1/runs", "/v1/responses/input_tokens")
# As many as trips may delete, and some.
KNOWLEDGE_BASES = 16
# Ids come from what was laid in: those in the answers of other operations do not belong together.
UNITS = '{ operation-ordering = "none", extra-data-sources = { responses = false } }'


@pytest.fixture
def judged(
    serve: Callable[[], Any],
    settings: Any,
    documents: list[dict[str, Any]],
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    upstream: Upstream,
) -> Callable[..., None]:
    """Called with a phase of Schemathesis and its options: fails with what it finds.

    The server needs a key, has a language model that always says the same, and holds knowledge bases. The
    first is what half the requests of the phases that ask one operation after the other are about.
    """
    from kb.service import Service

    upstream.script(replies.says())
    (tmp_path / "endpoints.toml").write_text(ENDPOINT.format(url=upstream.url))
    monkeypatch.setenv("KB_ENDPOINTS", str(tmp_path / "endpoints.toml"))
    monkeypatch.setenv("KB_HOST", "0.0.0.0")
    with Service(settings) as service:
        _, key = service.catalog.keys.create("schemathesis")
    server = serve()
    server.client.headers["authorization"] = f"Bearer {key}"
    described, config = tmp_path / "openapi.json", tmp_path / "schemathesis.toml"

    def run(phase: str, *options: str) -> None:
        ids = _laid_in(server.client, documents, KNOWLEDGE_BASES if phase == "stateful" else 2, until)
        ids["approval"] = _asked_for(settings, ids["resp"])
        described.write_text(_prepared(server.client.get("/openapi.json").json(), ids))
        config.write_text(_config(phase, key, ids))
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
        command += [str(described), "--url", str(server.client.base_url), "--checks", "all"]
        # Whoever waits for documents waits for those sent before.
        command += ["--request-timeout", "120"]
        done = subprocess.run(
            [*command, "--phases", phase, *options], cwd=tmp_path, capture_output=True, text=True
        )
        log = server.log.read_text()
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\nThe server:\n{log}"
        # Nor is anything amiss behind what it answers.
        assert "Traceback" not in log, log
        assert "RuntimeWarning" not in log, log

    return run


@pytest.mark.parametrize("phase", PHASES)
def test_the_interface_is_as_described(
    judged: Callable[..., None], phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same requests in every run; some thousands that differ little are left to the long one."""
    monkeypatch.setenv("KB_TEST_SCHEMA_QUICK", "1")
    left_out = [f"--exclude-path={path}" for path in AS_RESPONSES] if phase == "coverage" else []
    judged(phase, "--generation-deterministic", "--max-examples", "10", *left_out)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES[1:])
def test_the_interface_is_as_described_at_length(judged: Callable[..., None], phase: str) -> None:
    """Other requests in every run; KB_TEST_SCHEMA_SEED repeats one."""
    seed = os.environ.get("KB_TEST_SCHEMA_SEED", str(random.SystemRandom().randrange(2**32)))
    print(f"KB_TEST_SCHEMA_SEED={seed}")
    judged(phase, "--seed", seed, "--max-examples", "300")


def _laid_in(
    client: Any, documents: list[dict[str, Any]], knowledge_bases: int, until: Callable[..., Any]
) -> dict[str, list[str]]:
    """Ids of what is there, by kind: of the first knowledge base and all that is in it, and of the second
    as a vector store."""
    # As long as the spans in the examples reach.
    sent = [{**one, "text": f"{one['text']} " * 20} for one in documents]
    jobs = []
    for name in ["handbook", *(f"handbook {number}" for number in range(1, knowledge_bases))]:
        kb = client.post("/v1/knowledge_bases", json={"name": name}).json()["id"]
        jobs.append(
            client.post(f"/v1/knowledge_bases/{kb}/documents?wait=true", json={"documents": sent}).json()
        )
    first = jobs[0]["knowledge_base_id"]
    there = client.get(f"/v1/knowledge_bases/{first}/documents").json()["data"]
    store = jobs[1]["knowledge_base_id"]
    path = f"/v1/vector_stores/{store}"
    files = []
    for name in ("a.md", "b.md"):
        form = {
            "data": {"purpose": "assistants"},
            "files": {"file": (name, b"# Pump\nOpen the valve first.")},
        }
        files.append(client.post("/v1/files", **form).json()["id"])
    batch = client.post(f"{path}/file_batches", json={"file_ids": files}).json()["id"]
    until(lambda: client.get(f"{path}/file_batches/{batch}").json()["status"] == "completed")
    asked = {"model": "gpt-4.1-mini", "input": "How is the pump started?"}
    answers = [client.post("/v1/responses", json={**asked, **more}).json()["id"] for more in BOTH_WAYS]
    return {
        "resp": answers,
        "language_model": [client.get("/v1/models").json()["data"][0]["id"]],
        "store": [store],
        "file": files,
        "batch": [batch],
        "kb": [first],
        "job": [jobs[0]["id"]],
        "doc": [one["id"] for one in there],
        # In another order: the first document may be deleted before a text is read.
        "ver": [one["content_version_id"] for one in reversed(there)],
    }


def _asked_for(settings: Any, responses: list[str]) -> list[str]:
    """Ids of calls that wait for a yes, so many that some still do when the last was generated."""
    waiting = [
        Approval(
            f"mcpr_{number:032x}",
            responses[number % len(responses)],
            None,
            f"call_{number}",
            "clock",
            "get_time",
            "{}",
            "0" * 64,
            "pending",
            None,
            "2026-01-01T00:00:00.000Z",
            None,
        )
        for number in range(APPROVALS)
    ]
    with closing(Catalog(settings.database_url)) as catalog:
        catalog.approvals.ask(waiting)
    return [one.id for one in waiting]


def _prepared(document: dict[str, Any], ids: dict[str, list[str]]) -> str:
    """The same document: the ids in its examples are of things that are there, and what deletes comes last,
    parts before the whole."""

    def turn(path: str) -> tuple[bool, int]:
        return "delete" in document["paths"][path], -path.count("/")

    document["paths"] = {path: document["paths"][path] for path in sorted(document["paths"], key=turn)}
    for operation in (one for path in document["paths"].values() for one in path.values()):
        for parameter in operation.get("parameters", []):
            if kind := TAKES.get(f"path.{parameter['name']}"):
                parameter["schema"]["examples"] = ids[kind]
    example = r"\b([a-z]+)_0199[0-9a-f]{28}"
    return re.sub(example, lambda found: ids.get(found[1], found)[0], json.dumps(document))


def _config(phase: str, key: str, ids: dict[str, list[str]]) -> str:
    """schemathesis.toml: an operation that is never answered with success fails, as it was not tested."""
    # What a trip is about follows from its first answer.
    about = {} if phase == "stateful" else TAKES
    return "\n".join(
        [
            f"hooks = {json.dumps(str(HOOKS))}",
            "continue-on-failure = true",
            "warnings = { fail-on = true }",
            f"auth.openapi.bearer.bearer = {json.dumps(key)}",
            *(f"phases.{phase} = {UNITS}" for phase in PHASES[:3]),
            *(f"dictionaries.{name}.values = {json.dumps(known)}" for name, known in (ids | RIGHT).items()),
            *(
                f'parameters."{taker}" = {{ dictionary = "{name}", probability = {share} }}'
                for share, takers in ((0.5, about), (0.9, {f"body.{name}": name for name in RIGHT}))
                for taker, name in takers.items()
            ),
            # What makes vectors is no language model.
            '[[operations]]\ninclude-path = "/v1/embeddings"',
            'parameters."body.model" = { dictionary = "embedder", probability = 0.9 }',
        ]
    )
