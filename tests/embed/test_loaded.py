"""The models of a process: each is loaded once, and anew where its folder was replaced."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kb.embed import loaded, runtime
from kb.embed.folder import DEFAULT_MODEL
from kb.embed.loaded import LoadedModels
from kb.errors import ModelMismatch
from kb.types import ChunkingPolicy, KnowledgeBase

KB = KnowledgeBase("kb_1", "docs", "", "first", "old", 3, ChunkingPolicy(16), "")


class Machine:
    """Stands for what exports and what loads. `holds`: the fingerprint that a model's folder has now.

    `exported` and `made`: models in the order in which they were. To export `first` says so by `begun` and
    waits for `gate`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holds = {"first": "old", "second": "other"}
        self.exported: list[str] = []
        self.made: list[str] = []
        self.begun, self.gate = threading.Event(), threading.Event()
        monkeypatch.setattr(loaded, "exported", self.export)
        monkeypatch.setattr(runtime, "OnnxEmbedder", self.load)

    def export(self, model: str, folder: Path) -> Path:
        """As `kb.embed.folder.exported`."""
        self.exported.append(model)
        if model == "first":
            self.begun.set()
            assert self.gate.wait(10)
        return folder / model

    def load(self, folder: Path, *, threads: int) -> Any:
        """As `OnnxEmbedder`: what it knows of the folder is how that was at this moment."""
        self.made.append(folder.name)
        return Model(self.holds[folder.name])


class Model:
    """An embedder that knows who it is."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Two models, `first` and `second`."""
    return Machine(monkeypatch)


def test_threads_that_ask_at_once_get_one_model(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is exported and loaded once; the other one waits for it."""
    models, both = LoadedModels(tmp_path), threading.Barrier(2)

    def export(model: str, folder: Path) -> Path:
        machine.exported.append(model)
        # Were the other one let in as well, they would meet here.
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return folder / model

    monkeypatch.setattr(loaded, "exported", export)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(models.embedder, ["first", "first"])
    assert one is other
    assert (machine.exported, machine.made) == (["first"], ["first"])


def test_an_export_holds_up_nobody_who_asks_for_another_model(machine: Machine, tmp_path: Path) -> None:
    """Half a minute would pass otherwise."""
    models = LoadedModels(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(models.embedder, "first")
        assert machine.begun.wait(10)
        assert models.embedder("second").fingerprint == "other"
        machine.gate.set()
        assert asked.result(10).fingerprint == "old"
    assert machine.made == ["second", "first"]


def test_a_replaced_folder_is_loaded_anew(machine: Machine, tmp_path: Path) -> None:
    """By the first knowledge base that is under what lies there now; the others are told what to do."""
    models = LoadedModels(tmp_path)
    machine.gate.set()
    assert models.embedder_of(KB).fingerprint == "old"
    machine.holds["first"] = "new"
    assert models.embedder_of(KB).fingerprint == "old"
    assert models.embedder_of(replace(KB, fingerprint="new")).fingerprint == "new"
    assert machine.made == ["first", "first"]
    with pytest.raises(ModelMismatch, match="docs was built with another version of the model first"):
        models.embedder_of(KB)


def test_a_model_that_is_prepared_is_loaded_ahead(machine: Machine, tmp_path: Path) -> None:
    """Once, while queries under the live one go on; nobody waits for it."""
    models = LoadedModels(tmp_path)
    building = replace(KB, embedder="second", fingerprint="other", building="first")
    assert models.batcher(building) is models.batcher(building)
    assert machine.begun.wait(10)
    assert machine.made == ["second"]
    machine.gate.set()
    assert models.embedder("first").fingerprint == "old"
    assert (machine.exported.count("first"), machine.made) == (1, ["second", "first"])


def test_the_real_model_is_loaded_once(models: Path) -> None:
    """And every knowledge base under it has its queries embedded by the same batcher."""
    real = LoadedModels(models)
    embedder = real.embedder(DEFAULT_MODEL)
    assert real.embedder(DEFAULT_MODEL) is embedder
    one = replace(KB, embedder=DEFAULT_MODEL, fingerprint=embedder.fingerprint, dim=embedder.dim)
    assert real.batcher(one) is real.batcher(replace(one, id="kb_2"))
    (vector,) = real.embed_queries(one, ["pump"])
    assert vector.tolist() == embedder.embed_queries(["pump"])[0].tolist()
