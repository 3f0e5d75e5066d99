"""A running server while `kb reembed`, in another process, changes the model it answers with; real models."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

QUERY = "How is the pump started when it is cold?"
ANIMALS = ["zebra", "otter", "heron", "beaver", "lynx", "eagle", "viper", "salmon", "badger", "moose"]
THINGS = ["pump", "valve", "engine", "filter", "ladder", "lamp", "boiler", "cable", "crane", "drum"]


def documents(count: int, of: str) -> list[dict[str, str]]:
    """Short texts that differ."""
    return [
        {
            "name": f"{of}{at}.txt",
            "text": f"The {ANIMALS[at % 10]} sits on the {THINGS[at // 10 % 10]} {of} {at}.",
        }
        for at in range(count)
    ]


@pytest.fixture
def prompted(tmp_path: Path) -> Path:
    """The default model with prompts: other vectors for everything."""
    from kb.embed.folder import DEFAULT_MODEL, locate

    source = shutil.copytree(locate(DEFAULT_MODEL), tmp_path / "prompted")
    config = source / "config_sentence_transformers.json"
    prompts = {"query": "question about animals: ", "document": "a report from the plant: "}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prompts": prompts}))
    return source


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_no_query_fails_and_none_mixes_models(
    serve: Callable[[], Any], settings: Any, own_models: Path, prompted: Path, until: Callable[..., Any]
) -> None:
    """Killed in the middle and run again, switched, written to, rolled back; under load over HTTP."""
    from kb.catalog import Catalog
    from kb.embed.folder import DEFAULT_MODEL, exported
    from kb.embed.runtime import OnnxEmbedder

    server = serve()
    assert server.client.post("/v1/knowledge_bases", json={"name": "kb"}).status_code == 201
    at = "/v1/knowledge_bases/kb"

    def send(count: int, of: str) -> None:
        sent = server.client.post(f"{at}/documents?wait=true", json={"documents": documents(count, of)})
        assert sent.json()["status"] == "succeeded", sent.text

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "kb.cli", *arguments, "--data-dir", str(settings.data_dir), "--json"]

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, check=False, env=os.environ
        )
        assert done.returncode == 0, done.stderr[-500:]
        return json.loads(done.stdout)

    send(400, "before")
    stop, came = threading.Event(), []

    def hammer() -> None:
        while not stop.is_set():
            asked = {"query": QUERY, "mode": "dense", "top_k": 50}
            came.append(server.client.post(f"{at}/search", json=asked))

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        with subprocess.Popen(command("reembed", "kb", "--model", str(prompted))) as child:
            until(lambda: server.client.get(at).json()["building"], 120)
            catalog = Catalog(settings.database_url)
            kb = catalog.knowledge_bases.get("kb")
            building = catalog.models.of(kb.id)["building"].fingerprint
            until(lambda: catalog.models.count_missing(kb.id, building) < 400, 120)
            child.kill()
        assert catalog.knowledge_bases.get("kb").fingerprint == kb.fingerprint
        send(30, "between")
        done = run("reembed", "kb", "--model", str(prompted))
        assert done["switched"]
        assert 30 <= done["embedded"] < 430
        send(20, "after")
        assert server.client.get(at).json()["previous"] == DEFAULT_MODEL
        late = server.client.post(f"{at}/search", json={"query": "after 19", "top_k": 5}).json()["hits"]
        assert "after19.txt" in {hit["uri"] for hit in late}
        assert run("rollback", "kb")["embedded"] == 20
        until(lambda: came[-1].json()["hits"], 30)
    finally:
        stop.set()
        thread.join()

    old = OnnxEmbedder(exported(DEFAULT_MODEL, own_models), threads=1)
    new = OnnxEmbedder(exported(str(prompted), own_models), threads=1)
    products: dict[int, tuple[float, float]] = {}
    of = [0, 0]
    questions = [model.embed_queries([QUERY])[0] for model in (old, new)]
    for answer in came:
        assert answer.status_code == 200, answer.text
        hits = answer.json()["hits"]
        assert len(hits) == 50
        unknown = [hit["chunk_id"] for hit in hits if hit["chunk_id"] not in products]
        if unknown:
            texts = catalog.documents.indexed(unknown)
            scores = [
                model.embed_passages(texts) @ asked
                for model, asked in zip((old, new), questions, strict=True)
            ]
            products |= dict(zip(unknown, zip(*map(np.ndarray.tolist, scores), strict=True), strict=True))
        right = np.array([products[hit["chunk_id"]] for hit in hits])
        given = np.array([hit["score"] for hit in hits])
        fits = [bool(np.allclose(given, right[:, model], atol=3e-3)) for model in (0, 1)]
        assert sum(fits) == 1
        of[fits.index(True)] += 1
    assert min(of) > 0
    assert catalog.knowledge_bases.get("kb").fingerprint == old.fingerprint
    catalog.close()
    assert run("fsck")["found"] == []
    assert run("forget", "kb")["dropped"] == [str(prompted)]
