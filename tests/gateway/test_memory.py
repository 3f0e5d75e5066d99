"""What an endpoint sends without end takes bounded memory, and no time from other callers."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from upstream import Answer, Upstream, replies

HERE = Path(__file__).parent
GIGABYTE = 2**30
DELTA = b'{"type": "response.output_text.delta", "output_index": 0, "item_id": "m", "delta": "x"}'
BOMB = gzip.compress(bytes(2**28), 1)

FLOODS = {
    "error": (replies.floods(GIGABYTE, 500, "application/json", b'{"error": "'), "UpstreamFailed"),
    "json": (replies.floods(GIGABYTE, 200, "application/json", b'{"id": "'), "UpstreamFailed"),
    "line": (replies.floods(GIGABYTE), "UpstreamFailed"),
    "begun": (
        replies.floods(GIGABYTE, start=b"data: " + DELTA + b"\n\ndata: "),
        "incomplete: too_large",
    ),
    "events": (replies.endless(4, Answer(("x" * 10_000,))), "incomplete: too_large"),
    "bomb": (
        replies.whole(BOMB, 200, content_type="text/event-stream", content_encoding="gzip"),
        "UpstreamFailed",
    ),
    "error bomb": (
        replies.whole(BOMB, 500, content_type="application/json", content_encoding="gzip"),
        "UpstreamFailed",
    ),
}


# The others take the same ways through the gateway.
SOON = ("error", "begun", "events")


@pytest.mark.parametrize(
    "flood", [*SOON, *(pytest.param(one, marks=pytest.mark.slow) for one in FLOODS if one not in SOON)]
)
def test_a_flood_is_left(flood: str, upstream: Upstream, blank_catalog: Path, tmp_path: Path) -> None:
    """After so much of it as an answer may have: up to 64 MB, and as much again while it is unpacked."""
    reply, ended = FLOODS[flood]
    upstream.script(replies.says(), reply)
    shutil.copy(blank_catalog, tmp_path)
    endpoint = {
        "name": "flood",
        "base_url": upstream.url,
        "kind": "responses",
        "models": ["gpt-4.1-mini"],
        "retries": 0,
    }
    command = [str(HERE / "memory_child.py"), f"sqlite:///{tmp_path}/catalog.db", json.dumps(endpoint)]
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ended"] == ended
    assert found["mb"] < 150
    assert found["longest"] < 1
    assert upstream.request(1).sent < GIGABYTE / 4
    assert upstream.deserted()
