"""The real model without torch: the vectors that sentence-transformers gives, or none."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies

from kb.embed import folder as folder_module
from kb.embed import openvino_graph
from kb.embed.folder import DEFAULT_MODEL, ExportedModel, exported, fingerprint, locate
from kb.embed.runtime import OnnxEmbedder, Runtime, batches
from kb.errors import ModelUnavailable

MIXED = [
    "pump",
    "How is the pump of the second engine started when it is cold outside?",
    "",
    "Öl 東京 🙂",
    "valve " * 400,
    "pump",
]


@pytest.fixture(scope="module")
def model(models: Path) -> Path:
    """The exported default model."""
    return exported(DEFAULT_MODEL, models)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def onnx(model: Path, request: pytest.FixtureRequest) -> OnnxEmbedder:
    """The default model, loaded in either runtime."""
    runtime: Runtime = request.param
    if runtime == "openvino" and not openvino_graph.installed():
        pytest.skip("OpenVINO has no wheel for this platform")
    return OnnxEmbedder(model, threads=1, runtimes=[runtime])


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """A copy of the exported model to damage."""
    return shutil.copytree(model, tmp_path / "copy")


def test_vectors_are_the_models_own(onnx: OnnxEmbedder, model: Path) -> None:
    """The probes' vectors are sentence-transformers' own in float32, to a cosine of 0.999 and better."""
    manifest = ExportedModel.read(model)
    vectors = onnx.embed_passages(manifest.probe_texts)
    cosine = (vectors * np.array(manifest.probe_vectors)).sum(axis=1)
    assert (cosine >= 0.999).all()
    # float32 and bfloat16.
    assert (cosine > {"onnxruntime": 0.99999, "openvino": 0.9999}[onnx.runtime]).all()
    assert len(manifest.probe_texts) >= 3
    assert (onnx.dim, onnx.max_tokens, onnx.fingerprint) == (384, 254, manifest.fingerprint)


def test_order_is_kept_for_mixed_lengths(onnx: OnnxEmbedder) -> None:
    """Texts of any lengths together give the vectors they give alone, in order, float32 of length 1."""
    together = onnx.embed_passages(MIXED)
    assert (together.shape, together.dtype) == ((6, 384), np.float32)
    alone = np.concatenate([onnx.embed_passages([text]) for text in MIXED[:5]])
    far = {"onnxruntime": 2e-5, "openvino": 3e-3}[onnx.runtime]
    np.testing.assert_allclose(together[:5], alone, atol=far)
    assert ((together[:5] * alone).sum(axis=1) > 0.99995).all()
    np.testing.assert_allclose(together[0], together[5], atol=far)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert onnx.embed_queries([]).shape == (0, 384)


def test_what_is_beyond_the_limit_is_cut(onnx: OnnxEmbedder) -> None:
    """Only max_tokens tokens of a text count; blanks around it do not."""
    words = "pump " * onnx.max_tokens
    same = onnx.embed_passages([words, words + "zebra " * 50])
    np.testing.assert_allclose(same[0], same[1], atol=1e-5)
    np.testing.assert_allclose(onnx.embed_queries([" \n pump\t"]), onnx.embed_queries(["pump"]), atol=1e-6)


def test_meaning_is_near_and_noise_is_far(onnx: OnnxEmbedder) -> None:
    """A question is nearer to its answer than to another sentence."""
    question = onnx.embed_queries(["How do I start the pump?"])[0]
    near, far = (
        onnx.embed_passages(["Press the green button to switch the pump on.", "Zebras live in Africa."])
        @ question
    )
    assert near > 0.5
    assert far < 0.2


def test_tokens_begin_where_they_stand_in_the_text(onnx: OnnxEmbedder) -> None:
    """Ascending offsets in code points, of pieces of words too, without a cut."""
    assert onnx.token_starts("The pump, started") == [0, 4, 8, 10]
    assert onnx.token_starts("🙂 pumpé 東京") == [0, 2, 6, 8, 9]
    assert onnx.token_starts("antidisestablishmentarianism")[0] == 0
    assert len(onnx.token_starts("antidisestablishmentarianism")) > 3
    assert onnx.token_starts("") == []
    long = "pump " * 1000
    assert onnx.token_starts(long) == list(range(0, 5000, 5))


@given(
    lengths=strategies.lists(strategies.integers(1, 300), max_size=60), budget=strategies.integers(1, 2048)
)
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    """A partition; padded, each stays within the budget unless it is one text; like goes with like."""
    groups = batches(lengths, budget)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[position] for position in group)
        assert len(group) == 1 or len(group) * longest <= budget
        assert longest <= min(lengths[position] for position in group) * 1.25 + 8
    spans = [(min(lengths[p] for p in group), max(lengths[p] for p in group)) for group in groups]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    # No group could have taken the first text of the next one along.
    for group, after in pairwise(groups):
        unlike = lengths[after[0]] > lengths[group[0]] * 1.25 + 8
        assert unlike or (len(group) + 1) * lengths[after[0]] > budget


def test_a_damaged_graph_is_refused(copied: Path) -> None:
    """One flipped byte, and the model does not load; the message says what to do."""
    graph = copied / "graph.onnx"
    with graph.open("r+b") as file:
        file.seek(graph.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelUnavailable, match="delete"):
        OnnxEmbedder(copied, runtimes=["onnxruntime"])


def test_a_graph_that_gives_other_vectors_is_refused(copied: Path) -> None:
    """What does not reproduce the model's own vectors is not used, whatever its checksum says."""
    manifest = ExportedModel.read(copied)
    replace(
        manifest,
        probe_vectors=[manifest.probe_vectors[1], manifest.probe_vectors[0], manifest.probe_vectors[2]],
    ).write(copied)
    with pytest.raises(ModelUnavailable, match="cosine"):
        OnnxEmbedder(copied)


def test_a_damaged_tokenizer_is_refused(copied: Path) -> None:
    """Also where it would still load, and cut texts into other tokens."""
    tokenizer = copied / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"the":', '"teh":', 1))
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json is damaged; delete"):
        OnnxEmbedder(copied)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"dim": 384}', "\0"])
def test_a_damaged_manifest_is_refused(copied: Path, damage: str) -> None:
    """ModelUnavailable, not a traceback about JSON."""
    (copied / "model.json").write_text(damage)
    with pytest.raises(ModelUnavailable, match="damaged"):
        OnnxEmbedder(copied)


def test_a_current_export_is_used_as_it_is(
    model: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither hashed nor exported again while the model's files look the same."""
    monkeypatch.setattr(folder_module, "sha256_of", lambda path: pytest.fail("hashed"))
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: pytest.fail("exported"))
    assert exported(DEFAULT_MODEL, models) == model


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    made = tmp_path / "source"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "onnx").mkdir()
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json", "README.md", "onnx/model.json"):
        (made / name).write_text(name)
    return made


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("model.safetensors", True),
        ("1_Pooling/config.json", True),
        ("config.json", True),
        ("README.md", False),
        ("onnx/model.json", False),
        ("vocab.txt", True),
    ],
)
def test_only_a_defining_file_leads_to_another_export(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, again: bool
) -> None:
    """Weights, tokenizer and settings count; a read-me and ready-made graphs do not. Nothing is hashed."""
    exports: list[list[str]] = []

    def export(command: list[str], **named: Any) -> Any:
        exports.append(command)
        target = Path(command[-2])
        target.mkdir(exist_ok=True)
        ExportedModel("f", 1, 1, [], 0, False, "", "", "", "", command[-1], [], []).write(target)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", export)
    monkeypatch.setattr(folder_module, "sha256_of", lambda path: pytest.fail("hashed"))
    first = exported(str(source), tmp_path / "models")
    assert exported(str(source), tmp_path / "models") == first
    assert len(exports) == 1
    (source / name).write_text("something else")
    assert exported(str(source), tmp_path / "models") == first
    assert len(exports) == 1 + again


def test_the_fingerprint_names_what_decides_the_vectors(source: Path, tmp_path: Path) -> None:
    """Equal folders anywhere are equal; another weight is another model; a read-me is not."""
    before = fingerprint(source)
    assert fingerprint(shutil.copytree(source, tmp_path / "elsewhere")) == before
    (source / "README.md").write_text("new")
    (source / "onnx" / "model.json").write_text("new")
    assert fingerprint(source) == before
    (source / "1_Pooling" / "config.json").write_text("new")
    assert fingerprint(source) != before


def test_a_failed_export_says_why(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of what the export said, and no half-made model is left to be used."""
    failed = subprocess.CompletedProcess([], 1, stderr="Traceback …\nOSError: no weights here\n")
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: failed)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="no weights here"):
            exported(str(source), tmp_path / "models")


def test_other_weights_under_the_default_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped byte in the package's weights, and they are not exported."""
    source = shutil.copytree(locate(DEFAULT_MODEL), tmp_path / "model")
    with (source / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        (byte,) = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setattr(folder_module, "locate", lambda model: source)
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: pytest.fail("exported"))
    with pytest.raises(ModelUnavailable, match="not those of"):
        exported(DEFAULT_MODEL, tmp_path / "models")


def test_a_model_that_is_not_there_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a path without a model nor an unknown name; the message says what to do."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelUnavailable, match=r"config\.json is missing"):
        locate(str(tmp_path))
    with pytest.raises(ModelUnavailable, match="on this machine"):
        locate("nobody/has-this-model")


def test_the_trip_with_the_real_model(service: Any, folder: Path) -> None:
    """Ingest and search by meaning: the passage that answers comes first though it shares no word."""
    (folder / "pump.md").write_text("# Pump\n\nPress the green button to switch it on.\n")
    (folder / "zebra.md").write_text("# Zebra\n\nStripes deter biting flies.\n")
    report = service.ingest(folder, "kb")
    assert (report.added, report.embedded) == (2, 2)
    hits = service.search("starting a machine", ["kb"], mode="dense").hits
    assert [hit.uri for hit in hits] == ["pump.md", "zebra.md"]
    assert service.ingest(folder, "kb").embedded == 0


_SERVES = """
import sys
from pathlib import Path
from kb.service import Service
from kb.settings import Settings
data = Path(sys.argv[1])
with Service(Settings(data, f"sqlite:///{data}/catalog.db")) as service:
    service.create_knowledge_base("kb")
    service.warm()
    service.search("pump", ["kb"])
heavy = {"torch", "sentence_transformers", "transformers", "onnx", "alembic.command"} & set(sys.modules)
assert not heavy, heavy
assert "tantivy" in sys.modules
assert len({"onnxruntime", "openvino"} & set(sys.modules)) == 1
# OpenVINO reports its import to a web analytics service, unless it is kept from it.
assert "openvino_telemetry" not in sys.modules
"""


def test_serving_never_imports_torch(settings: Any, blank_catalog: Path) -> None:
    """After a search one runtime is loaded: neither torch, nor what makes graphs, nor what calls home."""
    shutil.copy(blank_catalog, settings.data_dir)
    done = subprocess.run(
        [sys.executable, "-c", _SERVES, str(settings.data_dir)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-1000:]


_REFERENCE = """
import json, sys
import sentence_transformers
model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
texts = json.loads(sys.argv[2])
encoded = [encode(texts, normalize_embeddings=True) for encode in (model.encode_query, model.encode_document)]
print(json.dumps([rows.tolist() for rows in encoded]))
"""


@pytest.mark.slow
def test_a_model_with_prompts_gets_them(tmp_path: Path, model: Path) -> None:
    """Questions and passages are embedded as sentence-transformers does it with the model's own prompts."""
    onnx = OnnxEmbedder(model, threads=1, runtimes=["onnxruntime"])
    source = shutil.copytree(locate(DEFAULT_MODEL), tmp_path / "prompted")
    config = source / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "document": "passage: "}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prompts": prompts}))
    prompted = OnnxEmbedder(exported(str(source), tmp_path / "models"), threads=1, runtimes=["onnxruntime"])
    texts = ["How is the pump started?", "Über den Wolken"]
    done = subprocess.run(
        [sys.executable, "-c", _REFERENCE, str(source), json.dumps(texts)],
        capture_output=True,
        text=True,
        check=True,
    )
    queries, passages = (np.array(rows) for rows in json.loads(done.stdout.splitlines()[-1]))
    np.testing.assert_allclose(prompted.embed_queries(texts), queries, atol=1e-4)
    np.testing.assert_allclose(prompted.embed_passages(texts), passages, atol=1e-4)
    np.testing.assert_allclose(
        prompted.embed_queries(texts), onnx.embed_queries([f"query: {text}" for text in texts]), atol=1e-4
    )
    assert abs(prompted.embed_queries(texts) - onnx.embed_queries(texts)).max() > 0.01
    assert prompted.fingerprint != onnx.fingerprint
